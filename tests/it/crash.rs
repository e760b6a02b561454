//! What is left after a program or Postgres was killed, or stopped for a while, in the middle of its work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use restante::registry::Registry;
use restante::worker;
use restante_playground::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::world::no_api;
use crate::support::{Ledger, Process, Sender, SimulatedApi, World, eventually};

/// Events that several tasks post until ingest has accepted each of them.
struct Load {
    taken: Arc<AtomicUsize>,
    tasks: JoinSet<u32>,
}

impl Load {
    /// `events` are identifiers, types and keys.
    fn start(sender: &Sender, events: Vec<(String, &'static str, String)>) -> Self {
        const TASKS: usize = 8;
        let taken = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let mine: Vec<_> = events.iter().skip(task).step_by(TASKS).cloned().collect();
            let (sender, taken) = (sender.clone(), Arc::clone(&taken));
            tasks.spawn(async move {
                let mut in_vain = 0;
                for (event_id, event_type, key) in mine {
                    in_vain += sender.insist(&event_id, event_type, &key).await;
                    taken.fetch_add(1, Ordering::SeqCst);
                }
                in_vain
            });
        }
        Self { taken, tasks }
    }

    async fn until_taken(&self, events: usize) {
        let taken = || self.taken.load(Ordering::SeqCst) >= events;
        eventually(&format!("{events} events taken"), async || taken().then_some(())).await;
    }

    /// Waits until ingest has accepted everything. Returns how many deliveries failed.
    async fn ended(self) -> u32 {
        self.tasks.join_all().await.into_iter().sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ingest_took_before_it_was_killed_is_stored_and_runs_once() {
    let world = World::new().await;
    let mut ingest = Process::ingest(&world.url, &[]).await;
    let sender = Sender::to(ingest.address());
    let event = |number: usize| (format!("whe_{number:03}"), "test.ledger", format!("key_{}", number % 10));
    let load = Load::start(&sender, (0..400).map(event).collect());

    for taken in [50, 150, 250] {
        load.until_taken(taken).await;
        ingest.kill_hard();
        ingest = Process::ingest(&world.url, &[]).await;
        sender.moved_to(ingest.address());
    }

    assert!(load.ended().await > 0, "the kills have hurt somebody");
    assert_eq!(world.value("select count(*) from restante.outbox").await, "400");
    world.work().await;
    let mut ran = world.ledger().await;
    ran.sort();
    assert_eq!(ran, (0..400).map(|number| event(number).0).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_the_killed_worker_left_it() {
    let (world, api, batch) = downloading(50_000).await;
    let mut worker = Process::worker(&world.url, &api.url, &[LEASE]).await;
    until_some_results(&world).await;

    worker.kill_hard();
    assert_ne!(
        world.value("select results_stored from restante.batch").await,
        "50000",
        "it was in the middle"
    );
    api.faults(json!({ "results_pause_milliseconds": 0 })).await;
    let _worker = Process::worker(&world.url, &api.url, &[LEASE]).await;

    until_complete(&world).await;
    assert_stored_exactly(&world, &api, &batch).await;
    // How many attempts that took depends on the machine, where a lease lasts a second.
    assert_eq!(world.value("select status from restante.outbox").await, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_worker_that_stood_still_beyond_its_lease_nothing_counts_that_comes_later() {
    let (world, api, batch) = downloading(20_000).await;
    let mut late = Process::worker(&world.url, &api.url, &[LEASE]).await;
    until_some_results(&world).await;

    // In a transaction, the other worker could not take the event before the handler's timeout. Another test shows that.
    eventually("a stop outside of a transaction", async || {
        late.signal(Signal::Stop);
        let open = "select count(*) from pg_stat_activity
                     where datname = current_database() and application_name = 'restante-worker'
                       and xact_start is not null";
        if world.value(open).await == "0" {
            return Some(());
        }
        late.signal(Signal::Continue);
        None
    })
    .await;
    let current = Process::worker(&world.url, &api.url, &[LEASE]).await;
    api.faults(json!({ "results_pause_milliseconds": 0 })).await;
    until_complete(&world).await;
    late.signal(Signal::Continue);

    eventually("the late one to see that it is late", async || {
        (late.metric("restante_lost_leases_total").await >= 1.0).then_some(())
    })
    .await;
    assert!(current.metric("restante_lost_leases_total").await == 0.0);
    assert_eq!(late.ops("/readyz").await.0, 200, "and it works on");
    assert_stored_exactly(&world, &api, &batch).await;
    // How many attempts that took depends on the machine, where a lease lasts a second.
    assert_eq!(world.value("select status from restante.outbox").await, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgres_loses_no_event_and_counts_no_result_twice() {
    let (mut postgres, mut world) = World::on_its_own_postgres().await;
    let api = SimulatedApi::start().await;
    let ingest = Process::ingest(&world.url, &[]).await;
    let _worker = Process::worker(&world.url, &api.url, &[LEASE]).await;
    let mut events = Vec::new();
    let mut batches = BTreeSet::new();
    for number in 0..8 {
        let batch = api.batch(2_000).await;
        // Two events for each batch, as if the endpoint were configured twice.
        events.push((format!("whe_{number}_a"), "batch.completed", batch.clone()));
        events.push((format!("whe_{number}_b"), "batch.ended", batch.clone()));
        batches.insert(batch);
    }
    events.extend(
        (0..400).map(|number| (format!("whe_{number}"), "nobody.handles_this", format!("k{}", number % 20))),
    );
    let expected = events.len();
    let load = Load::start(&Sender::to(ingest.address()), events);

    until_some_results(&world).await;
    for taken in [100, 250] {
        load.until_taken(taken).await;
        postgres.kill_hard().unwrap();
        postgres.restart().unwrap();
        // The connections of the old world are broken. Its events go on in the new one.
        world.may_leave_running();
        world = World::on(world.url).await;
    }

    load.ended().await;
    eventually("every event finished", async || {
        let unfinished = "select count(*) from restante.outbox where finished_at = 'infinity'";
        (world.value(unfinished).await == "0").then_some(())
    })
    .await;
    let stored = world.value("select count(*) || ' ' || count(distinct event_id) from restante.outbox").await;
    assert_eq!(stored, format!("{expected} {expected}"));
    for batch in &batches {
        assert_stored_exactly(&world, &api, batch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgres_under_handlers_leaves_each_effect_once_and_in_order() {
    let (mut postgres, mut world) = World::on_its_own_postgres().await;
    for (key, second) in (0..5).flat_map(|key| (0..40).map(move |second| (key, second))) {
        world.receive(&format!("k{key}_{second:02}"), &format!("k{key}"), second, json!({})).await;
    }
    let stop = CancellationToken::new();
    let settings = worker::Settings { lease: Duration::from_secs(1), ..world.worker_settings() };
    let registry = Registry::new().register(Ledger);
    let pool = World::on(world.url.clone()).await.pool;
    let worker = tokio::spawn(worker::run(settings, pool, registry, no_api(), stop.clone()));

    for lines in [20, 100] {
        eventually("lines in the ledger", async || (world.ledger().await.len() >= lines).then_some(())).await;
        postgres.kill_hard().unwrap();
        postgres.restart().unwrap();
        world.may_leave_running();
        world = World::on(world.url).await;
    }
    eventually("every event finished", async || {
        world.wait_for_retries().await;
        let unfinished = "select count(*) from restante.outbox where finished_at = 'infinity'";
        (world.value(unfinished).await == "0").then_some(())
    })
    .await;
    stop.cancel();
    worker.await.unwrap().unwrap();

    let mut ran = world.ledger().await;
    let order = |key: &str| ran.iter().filter(|event| event.starts_with(key)).cloned().collect::<Vec<_>>();
    for key in ["k0", "k1", "k2", "k3", "k4"] {
        assert!(order(key).is_sorted(), "{:?}", order(key));
    }
    ran.sort();
    ran.dedup();
    assert_eq!((ran.len(), world.ledger().await.len()), (200, 200));
}

/// A short lease.
const LEASE: (&str, &str) = ("RESTANTE_LEASE_SECONDS", "1");

/// A world with an ended batch of `requests` requests, whose results come slowly.
async fn downloading(requests: usize) -> (World, SimulatedApi, String) {
    let world = World::new().await;
    let api = SimulatedApi::start().await;
    let batch = api.batch(requests).await;
    api.faults(json!({ "results_pause_milliseconds": 20 })).await;
    world
        .receive_body(
            &json!({ "type": "event", "id": "whe_1", "data": { "type": "batch.completed", "id": batch } }),
        )
        .await;
    (world, api, batch)
}

async fn until_some_results(world: &World) {
    eventually("some results", async || {
        let some = "select exists (select from restante.batch where results_stored > 0)";
        (world.value(some).await == "true").then_some(())
    })
    .await;
}

async fn until_complete(world: &World) {
    eventually("a complete batch", async || {
        let complete = "select bool_and(complete_at is not null) from restante.batch";
        (world.value(complete).await == "true").then_some(())
    })
    .await;
}

/// Asserts that the stored results of a batch are those that the API counts, each once, and that its row counts the same.
async fn assert_stored_exactly(world: &World, api: &SimulatedApi, batch_id: &str) {
    let rows = format!(
        "select concat_ws(' ', count(*) filter (where outcome = 'succeeded'), count(*) filter (where outcome = 'errored'),
                               count(*) filter (where outcome = 'canceled'), count(*) filter (where outcome = 'expired'))
           from restante.batch_result where batch_id = '{batch_id}'"
    );
    assert_eq!(world.value(&rows).await, api.counts(batch_id).await);
    let sums = format!(
        "select complete_at is not null and results_stored = succeeded + errored + canceled + expired
                and (results_stored, bytes_stored) =
                    (select count(distinct custom_id), sum(octet_length(line)) from restante.batch_result
                      where batch_id = b.id)
           from restante.batch as b where id = '{batch_id}'"
    );
    assert_eq!(world.value(&sums).await, "true");
}
