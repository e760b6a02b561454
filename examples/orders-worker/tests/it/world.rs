//! A database with the tables of Restante and of the shop, and verbs for what happens in it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use restante::registry::Registry;
use restante_playground::postgres::{Durability, PrivatePostgres, Settings};
use restante::{api, database, worker};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};

/// One Postgres for all tests. It ends with this process.
static POSTGRES: LazyLock<PrivatePostgres> = LazyLock::new(|| {
    PrivatePostgres::start(&Settings {
        pg_bin: std::env::var_os("PG_BIN").map(Into::into),
        path: std::env::var_os("PATH"),
        parent: std::env::temp_dir(),
        durability: Durability::ForTests,
        options: Vec::new(),
    })
    .unwrap()
});

pub struct World {
    pub url: SecretString,
    pub pool: PgPool,
}

impl World {
    pub async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("shop_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&POSTGRES.url("postgres")).await.unwrap();
        connection.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
        connection.close().await.unwrap();
        let url = SecretString::from(POSTGRES.url(&name));
        database::migrate(&url).await.unwrap();
        let pool = database::pool(&url, "test", 8).unwrap();
        orders_worker::migrate(&pool).await.unwrap();
        Self { url, pool }
    }

    /// The same world, as another login sees it.
    pub fn as_login(&self, name: &str, password: &str) -> Self {
        let mut url: url::Url = self.url.expose_secret().parse().unwrap();
        url.set_username(name).unwrap();
        url.set_password(Some(password)).unwrap();
        let url = SecretString::from(String::from(url));
        Self { pool: database::pool(&url, "test", 8).unwrap(), url }
    }

    /// Lets the outbox know of the subscriptions, and runs what is there.
    pub async fn work(&self, registry: Registry) -> u64 {
        let settings = worker::Settings::new("test", self.url.clone());
        worker::run_until_idle(settings, self.pool.clone(), registry, no_api()).await.unwrap()
    }

    pub async fn stock(&self, sku: &str, available: i32) {
        self.sql(&format!("insert into orders.stock values ('{sku}', {available})")).await;
    }

    /// The shop takes an order: what it writes itself and the event are one transaction of its own.
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

    /// A session has gone idle, as the API says it in a webhook.
    pub async fn session_idled(&self, session_id: &str) {
        let body = serde_json::json!({
            "type": "event", "id": format!("whe_{session_id}"), "created_at": "2026-11-01T12:00:00Z",
            "data": { "type": "session.status_idled", "id": session_id },
        });
        let event = restante::envelope::read(body.to_string().as_bytes(), None, 0).unwrap();
        restante::outbox::insert_events(&self.pool, restante::outbox::Source::Webhook, &[event])
            .await
            .unwrap();
    }

    pub async fn sql(&self, statement: &str) -> u64 {
        sqlx::query(AssertSqlSafe(statement)).execute(&self.pool).await.unwrap().rows_affected()
    }

    pub async fn value(&self, query: &str) -> String {
        let query = format!("select ({query})::text");
        let value: Option<String> =
            sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.pool).await.unwrap();
        value.unwrap_or_else(|| "null".to_owned())
    }

    /// The state of each event that this worker has a row for, and how many attempts it took.
    pub async fn outbox(&self) -> String {
        self.value(
            "select string_agg(format('%s %s, attempt %s', event_id, status, attempt), '; ' order by id)
               from restante.outbox where subscriber = 'orders'",
        )
        .await
    }

    /// Time passes until every lease has run out.
    pub async fn let_leases_run_out(&self) {
        self.sql("update restante.outbox_live set lease_until = clock_timestamp() where status = 'running'")
            .await;
    }
}

/// An API that nobody answers for.
pub fn no_api() -> api::Client {
    let nowhere = "http://127.0.0.1:9".parse().unwrap();
    api::Client::new(api::Settings::new(nowhere, SecretString::from("sk-test-key"))).unwrap()
}

/// Looks again and again until something is so. Panics, naming `what`, after a minute.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
