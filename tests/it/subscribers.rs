//! Several handlers for one type of event: each has its own row, and none affects the others.

use std::time::Duration;

use restante::handler::{self, Context, Error, Handler};
use restante::registry::Registry;
use restante::{database, retry, worker};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::world::no_api;
use crate::support::{Ledger, Process, SimulatedApi, World, eventually};

/// A URL where no API answers.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Each row of the outbox, in the order of events and then of subscribers.
const ROWS: &str = "select string_agg(format('%s %s: %s %s', event_id, coalesce(nullif(subscriber, ''), 'own'), status, attempt),
                                      ', ' order by event_id, subscriber) from restante.outbox";

#[tokio::test]
async fn one_that_fails_for_ever_does_not_hurt_the_other_whichever_it_is() {
    for (registry, rows) in [
        (Registry::new().register(Failing).subscribe("billing", Ledger), "a own: dead 2, a billing: done 1"),
        (Registry::new().register(Ledger).subscribe("billing", Failing), "a own: done 1, a billing: dead 2"),
    ] {
        let world = World::new().await;
        world.work_with(registry.clone()).await;
        world.receive("a", "k", 0, json!({})).await;

        for _ in 0..3 {
            world.work_with(registry.clone()).await;
            world.wait_for_retries().await;
        }

        assert_eq!(world.value(ROWS).await, rows);
        assert_eq!(world.ledger().await, ["a"]);
        assert_eq!(
            world.value("select count(distinct outbox_id) || ' ' || count(*) from restante.failure").await,
            "1 2"
        );
    }
}

#[tokio::test]
async fn pausing_the_events_of_one_lets_the_other_go_on() {
    for (paused, held, resumed) in [
        ("billing", "a own: done 1, a billing: paused 0", "a own: done 1, a billing: done 1"),
        ("", "a own: paused 0, a billing: done 1", "a own: done 1, a billing: done 1"),
    ] {
        let world = World::new().await;
        let registry = || Registry::new().register(Ledger).subscribe("billing", Ledger);
        world.work_with(registry()).await;
        world.receive("a", "k", 0, json!({})).await;

        world
            .sql(&format!("update restante.outbox set status = 'paused' where subscriber = '{paused}'"))
            .await;
        world.work_with(registry()).await;
        assert_eq!(world.value(ROWS).await, held);

        world.sql("update restante.outbox set status = 'pending' where status = 'paused'").await;
        world.work_with(registry()).await;
        assert_eq!(world.value(ROWS).await, resumed);
    }
}

#[tokio::test]
async fn a_dead_letter_of_one_is_replayed_without_running_the_other() {
    let world = World::new().await;
    let registry = || Registry::new().register(Ledger).subscribe("billing", Picky);
    world.work_with(registry()).await;
    world.receive("a", "", 0, json!({})).await;
    world.work_with(registry()).await;
    assert_eq!(world.value(ROWS).await, "a own: done 1, a billing: dead 1");

    let mended = Registry::new().register(Ledger).subscribe("billing", Ledger);
    world
        .sql("update restante.outbox set status = 'pending' where subscriber = 'billing' and status = 'dead'")
        .await;
    assert_eq!(world.work_with(mended).await, 1);

    assert_eq!(world.value(ROWS).await, "a own: done 1, a billing: done 1");
}

#[tokio::test]
async fn each_waits_for_older_events_of_its_own_only() {
    let world = World::new().await;
    let registry = || Registry::new().register(Failing).subscribe("billing", Ledger);
    world.work_with(registry()).await;
    for (event_id, second) in [("k2", 2), ("k1", 1), ("k3", 3)] {
        world.receive(event_id, "k", second, json!({})).await;
    }

    world.work_with(registry()).await;

    assert_eq!(world.ledger().await, ["k1", "k2", "k3"]);
    assert_eq!(
        world.value(ROWS).await,
        "k1 own: retry 1, k1 billing: done 1, k2 own: blocked 0, k2 billing: done 1, k3 own: blocked 0, k3 billing: done 1"
    );
}

#[tokio::test]
async fn a_worker_with_subscriptions_only_leaves_all_else_alone() {
    let world = World::new().await;
    let registry = || Registry::new().subscribe("billing", Ledger);
    world.work_with(registry()).await;
    world.receive("a", "k", 0, json!({})).await;
    let unheard_of = json!({ "type": "event", "id": "b", "created_at": "2026-11-01T12:00:01Z",
                             "data": { "type": "unheard.of", "id": "k" } });
    world.receive_body(&unheard_of).await;

    assert_eq!(world.work_with(registry()).await, 1);

    assert_eq!(world.value(ROWS).await, "a own: pending 0, a billing: done 1, b own: blocked 0");
}

#[tokio::test]
async fn both_may_run_at_the_same_time_and_a_lost_lease_of_one_is_its_own() {
    let world = World::new().await;
    let billing = || Registry::new().subscribe("billing", Ledger);
    world.work_with(billing()).await;
    world.receive("a", "k", 0, json!({})).await;

    assert_eq!(world.claim(10).await.len(), 1, "a worker without the subscription claims no row of it");
    world.work_with(billing()).await;
    assert_eq!(world.value(ROWS).await, "a own: running 1, a billing: done 1");

    world.let_leases_run_out().await;
    world.work().await;
    assert_eq!(world.value(ROWS).await, "a own: done 2, a billing: done 1");
    assert_eq!(world.ledger().await, ["a", "a"]);
}

#[tokio::test]
async fn a_subscriber_gets_one_row_also_where_two_of_its_patterns_cover_the_type() {
    let world = World::new().await;
    let registry = || Registry::new().subscribe("billing", Broad).subscribe("billing", Ledger);
    world.work_with(registry()).await;

    world.receive("a", "k", 0, json!({})).await;
    world.work_with(registry()).await;

    assert_eq!(world.value(ROWS).await, "a own: pending 0, a billing: done 1");
    assert_eq!(world.ledger().await, ["a"], "the handler that names the type comes before the pattern");
}

#[tokio::test]
async fn a_subscription_begins_with_the_next_event_and_ends_with_its_line() {
    let world = World::new().await;
    let registry = || Registry::new().subscribe("billing", Ledger);
    world.receive("before", "", 0, json!({})).await;
    world.work_with(registry()).await;
    world.receive("before", "", 0, json!({})).await;
    world.receive("meanwhile", "", 1, json!({})).await;
    world.sql("delete from restante.subscription where subscriber = 'billing'").await;
    world.receive("after", "", 2, json!({})).await;

    assert_eq!(
        world.value(ROWS).await,
        "after own: pending 0, before own: pending 0, meanwhile own: pending 0, meanwhile billing: pending 0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_of_three_subscribers_keep_their_order_in_two_workers_at_once() {
    let world = World::new().await;
    let registry =
        || Registry::new().register(Ledger).subscribe("billing", Ledger).subscribe("audit", Ledger);
    world.work_with(registry()).await;
    let stop = CancellationToken::new();
    let workers = [(); 2].map(|()| {
        let settings = world.worker_settings();
        // As two processes have: of one pool, each would keep connections that the other waits for.
        let pool = database::pool(&world.url, "restante-worker", 12).unwrap();
        tokio::spawn(worker::run(settings, pool, registry(), no_api(), stop.clone()))
    });

    // Ten keys with twenty events each; each commit has one of every key.
    for second in 0..20 {
        let bodies: Vec<Value> = (0..10)
            .map(|key| {
                json!({ "type": "event", "id": format!("k{key}_{second:02}"),
                        "created_at": format!("2026-11-01T12:00:{second:02}Z"),
                        "data": { "type": "test.ledger", "id": format!("k{key}") } })
            })
            .collect();
        world.receive_bodies(&bodies).await;
    }
    eventually("everything is done", async || {
        (world.value("select count(*) from restante.outbox where status = 'done'").await == "600")
            .then_some(())
    })
    .await;
    stop.cancel();
    for worker in workers {
        assert_eq!(worker.await.unwrap().unwrap(), 0);
    }

    let runs = "select count(*) || ' ' || count(distinct (subscriber, event_id)) from ledger";
    assert_eq!(world.value(runs).await, "600 600");
    let out_of_order = "select count(*) from (
        select event_id < lag(event_id) over (partition by subscriber, key order by line) as is_late from ledger) as l
      where is_late";
    assert_eq!(world.value(out_of_order).await, "0");
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_its_own_handles_what_restante_worker_handles_too() {
    let world = World::new().await;
    let api = SimulatedApi::start().await;
    let stop = CancellationToken::new();
    let registry = Registry::new().subscribe("billing", BatchNote);
    let settings = world.worker_settings();
    let billing = tokio::spawn(worker::run(settings, world.pool.clone(), registry, no_api(), stop.clone()));
    eventually("the subscription is written", async || {
        (world.value("select count(*) from restante.subscription").await == "1").then_some(())
    })
    .await;
    let mut built_in = Process::worker(&world.url, NOWHERE, &[]).await;
    let batch = api.batch(5).await;
    world
        .receive_body(&json!({ "type": "event", "id": "a", "created_at": "2026-11-01T12:00:00Z",
                               "data": { "type": "batch.completed", "id": batch } }))
        .await;

    // The built-in handler cannot reach the API.
    let status = |subscriber: &str| {
        format!("select status from restante.outbox where event_id = 'a' and subscriber = '{subscriber}'")
    };
    eventually("each has come to its own end", async || {
        let waits =
            "select last_error is not null from restante.outbox where event_id = 'a' and subscriber = ''";
        let waits = world.value(waits).await == "true";
        (waits && world.value(&status("billing")).await == "done").then_some(())
    })
    .await;
    built_in.kill_hard();
    world.let_leases_run_out().await;
    let _built_in = Process::worker(&world.url, &api.url, &[]).await;
    eventually("the results are stored", async || {
        world.wait_for_retries().await;
        (world.value(&status("")).await == "done").then_some(())
    })
    .await;

    assert_eq!(world.value("select count(*) from restante.batch_result").await, "5");
    assert_eq!(world.ledger().await, ["a"]);
    let attempts = "select attempt from restante.outbox where event_id = 'a' and subscriber = 'billing'";
    assert_eq!(world.value(attempts).await, "1");
    stop.cancel();
    billing.await.unwrap().unwrap();
}

/// Always fails with `Retryable`.
struct Failing;

impl Handler for Failing {
    const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
    const RETRY: retry::Policy =
        retry::Policy { max_attempts: 2, first: Duration::from_secs(60), cap: Duration::from_secs(60) };
    type Payload = Value;

    async fn handle(&self, cx: &mut Context<'_>, _: Value) -> handler::Result {
        write_line(cx).await?;
        Err(Error::Retryable(anyhow::anyhow!("it never works")))
    }
}

/// Always fails with `Permanent`.
struct Picky;

impl Handler for Picky {
    const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
    type Payload = Value;

    async fn handle(&self, _: &mut Context<'_>, _: Value) -> handler::Result {
        Err(Error::Permanent(anyhow::anyhow!("not like this")))
    }
}

/// Covers the types that [`Ledger`] names.
struct Broad;

impl Handler for Broad {
    const EVENT_TYPES: &'static [&'static str] = &["test.*"];
    type Payload = Value;

    async fn handle(&self, _: &mut Context<'_>, _: Value) -> handler::Result {
        Err(Error::Permanent(anyhow::anyhow!("somebody else's")))
    }
}

/// A team's handler for a type that also has a built-in one.
struct BatchNote;

impl Handler for BatchNote {
    const EVENT_TYPES: &'static [&'static str] = &["batch.completed"];
    type Payload = Value;

    async fn handle(&self, cx: &mut Context<'_>, _: Value) -> handler::Result {
        write_line(cx).await
    }
}

async fn write_line(cx: &mut Context<'_>) -> handler::Result {
    let event = cx.event;
    sqlx::query("insert into ledger (event_id, subscriber) values ($1, $2)")
        .bind(&event.event_id)
        .bind(&event.subscriber)
        .execute(cx.tx().await?)
        .await?;
    Ok(())
}
