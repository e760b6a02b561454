//! A database with the tables of Restante and of the shop, and verbs for what happens in it.

use std::ops::Deref;

use restante::event::{Body, NewEvent};
use restante::registry::Registry;
use restante_playground::{World, cluster};

/// The shop, in its own world.
pub struct Shop(World);

impl Deref for Shop {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Shop {
    pub async fn new() -> Self {
        let world = World::on(cluster::fresh_database().await).await;
        orders_worker::migrate(&world.pool).await.unwrap();
        Self(world)
    }

    /// The same shop, as another login sees it.
    pub async fn as_login(&self, name: &str, password: &str) -> Self {
        Self(self.0.as_login(name, password).await)
    }

    /// Stores the subscriptions, and runs the events that may run. Returns how many.
    pub async fn work(&self, registry: Registry) -> u64 {
        self.work_with(registry).await
    }

    pub async fn stock(&self, sku: &str, available: i32) {
        self.sql(&format!("insert into orders.stock values ('{sku}', {available})")).await;
    }

    /// The shop stores an order and enqueues the event in one transaction.
    pub async fn order(&self, order_id: &str, sku: &str, quantity: i32) {
        let payload = serde_json::json!({ "order_id": order_id, "sku": sku, "quantity": quantity });
        sqlx::query(
            "select restante.enqueue('order.placed', $1::text::json, key => $2, event_id => 'placed_' || $2)",
        )
        .bind(payload.to_string())
        .bind(order_id)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// The webhook of the API that says that a session is idle arrives.
    pub async fn session_idled(&self, session_id: &str) {
        let body = serde_json::json!({
            "type": "event", "id": format!("whe_{session_id}"), "created_at": "2026-11-01T12:00:00Z",
            "data": { "type": "session.status_idled", "id": session_id },
        });
        self.receive_body(&body).await;
    }

    /// OpenAI has ended a batch, as it says in a webhook, and as ingest stores it for a sender of this name.
    pub async fn batch_completed(&self, sender: &str, batch_id: &str) {
        let body = serde_json::json!({
            "id": format!("evt_{batch_id}"), "object": "event", "created_at": 1_793_534_400, "type": "batch.completed",
            "data": { "id": batch_id },
        });
        let event = NewEvent {
            sender: sender.to_owned(),
            account: None,
            event_id: format!("evt_{batch_id}"),
            event_type: "openai.batch.completed".to_owned(),
            key: Some(batch_id.to_owned()),
            workspace_id: None,
            created_at: "2026-11-01T12:00:00Z".parse().unwrap(),
            body: Body::Json(body.to_string()),
            traceparent: None,
        };
        self.receive_all(&[event]).await;
    }

    /// The status of each event of this worker, and how many attempts it took.
    pub async fn outbox(&self) -> String {
        self.value(
            "select string_agg(format('%s %s, attempt %s', event_id, status, attempt), '; ' order by id)
               from restante.outbox where subscriber = 'orders'",
        )
        .await
    }
}
