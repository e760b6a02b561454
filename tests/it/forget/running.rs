//! An attempt that runs while its event is erased can not write anything back.

use std::sync::Arc;

use restante::handler::{self, Context, Handler};
use restante::registry::Registry;
use restante::{api, worker};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{erase, erase_all, forget};
use crate::support::world::no_api;
use crate::support::{World, eventually};

/// Writes what it was told into tables of ours, and ends when it is let go.
struct Writer {
    began: Arc<Semaphore>,
    let_go: Arc<Semaphore>,
}

impl Handler for Writer {
    const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
    type Payload = Value;

    async fn handle(&self, cx: &mut Context<'_>, payload: Value) -> handler::Result {
        cx.set_result(&payload);
        sqlx::query("insert into restante.resource (type, id, observed_at, body) values ('session', 'customer_7', now(), $1)")
            .bind(&payload)
            .execute(cx.tx().await?)
            .await?;
        self.began.add_permits(1);
        self.let_go.acquire().await.unwrap().forget();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_runs_meanwhile_writes_nothing_back() {
    let world = World::new().await;
    world.receive("a", "customer_7", 0, json!({ "text": "CANARY" })).await;
    let (began, let_go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let registry =
        Registry::new().register(Writer { began: Arc::clone(&began), let_go: Arc::clone(&let_go) });
    let api: api::Accounts = no_api().into();
    let working =
        tokio::spawn(worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry, api));
    began.acquire().await.unwrap().forget();

    forget(&world, "key => 'customer_7'").await;
    erase(&world).await;
    assert_eq!(world.outbox().await, "");
    let second_look = "select not_before > now() + interval '10 seconds' from restante.forgetting";
    assert_eq!(world.value(second_look).await, "true", "it waits until the lease must have been missed");
    let_go.add_permits(1);
    working.await.unwrap().unwrap();

    assert_eq!(world.value("select count(*) from restante.resource").await, "0");
    assert_eq!(world.outbox().await, "");
    erase_all(&world).await;
}

#[tokio::test]
async fn what_an_attempt_noted_beside_its_transaction_is_found_by_the_second_look() {
    let world = World::new().await;
    world.receive("a", "customer_7", 0, json!({})).await;
    let claimed = world.claim(1).await;
    let id = claimed[0].lease.id;

    forget(&world, "key => 'customer_7'").await;
    erase(&world).await;
    world.sql(&format!("insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, took, answer) values ('a', {id}, 'ntf_1', 't', 1, '1 s', 'CANARY')")).await;
    erase_all(&world).await;

    assert_eq!(world.value("select count(*) from restante.endpoint_delivery").await, "0");
    assert_eq!(world.value("select erased->>'endpoint_delivery' from restante.forgetting").await, "1");
    assert_eq!(world.value("select count(*) from restante.forgetting_left").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_it() {
    let world = World::new().await;
    world.receive("a", "customer_7", 0, json!({ "permanent": true })).await;
    world.work().await;
    forget(&world, "key => 'customer_7'").await;
    let stop = tokio_util::sync::CancellationToken::new();
    let working = tokio::spawn(worker::run(
        world.worker_settings(),
        world.pool.clone(),
        Registry::new().register(crate::support::Ledger),
        no_api(),
        stop.clone(),
    ));

    eventually("a worker has forgotten it", async || {
        // As if time passed.
        world.sql("update restante.forgetting set due_at = now(), not_before = now() where waits_for = 'the second look'").await;
        (world.value("select status from restante.forgetting").await == "done").then_some(())
    })
    .await;

    stop.cancel();
    working.await.unwrap().unwrap();
    assert_eq!(world.outbox().await, "");
}
