//! Retention beside deliveries: a week goes, whoever is up, and every event is handled meanwhile.
//!
//! In the normal tests the week is small. `make retention-test` gives it a million rows, and looks how long any statement waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use restante::registry::Registry;
use restante::worker;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{WEEK, finished, is_there, keep_events, old_week};
use crate::roles::Login;
use crate::support::world::no_api;
use crate::support::{Ledger, World, eventually};

/// A number that a long run sets.
fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |value| value.parse().unwrap())
}

/// Keeps the longest of the times that it is told, in microseconds.
#[derive(Clone, Debug, Default)]
struct Longest(Arc<AtomicU64>);

impl Longest {
    fn note(&self, time: Duration) {
        self.0.fetch_max(u64::try_from(time.as_micros()).unwrap(), Ordering::Relaxed);
    }

    fn milliseconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed) / 1000
    }
}

/// Stores events one by one, at most so many a second, until `stop`. Returns how many.
async fn deliver(
    world: Arc<World>,
    sender: u64,
    per_second: u64,
    stop: Arc<AtomicBool>,
    longest: Longest,
) -> u64 {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(per_second).unwrap());
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        let began = Instant::now();
        world.receive(&format!("new_{sender}_{sent}"), &format!("k{}", sent % 20), 0, json!({})).await;
        longest.note(began.elapsed());
        sent += 1;
    }
    sent
}

/// Asks the outbox what people ask, again and again, until `stop`.
async fn look(world: Arc<World>, stop: Arc<AtomicBool>, longest: Longest) -> u64 {
    let mut looks = 0;
    while !stop.load(Ordering::SeqCst) {
        let began = Instant::now();
        let newest =
            "select event_id from restante.outbox where finished_at > now() - interval '1 hour' limit 1";
        sqlx::query(newest).fetch_all(&world.pool).await.unwrap();
        longest.note(began.elapsed());
        looks += 1;
    }
    looks
}

/// Looks how long others wait for the lock of a table, until `stop`.
async fn watch_locks(world: Arc<World>, stop: Arc<AtomicBool>, longest: Longest) {
    while !stop.load(Ordering::SeqCst) {
        let waits = "select coalesce(extract(epoch from max(clock_timestamp() - l.waitstart)), 0)::float8
                       from pg_locks as l where not l.granted and l.locktype = 'relation' and l.database = (
                            select oid from pg_database where datname = current_database())";
        let waits: f64 = sqlx::query_scalar(waits).fetch_one(&world.pool).await.unwrap();
        longest.note(Duration::from_secs_f64(waits.max(0.0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_goes_while_deliveries_go_on_by_a_worker_that_owns_nothing() {
    let rows = setting("RESTANTE_RETENTION_ROWS", 20_000);
    let per_second = setting("RESTANTE_RETENTION_PER_SECOND", 50);
    let is_long = rows >= 1_000_000;
    let world = Arc::new(World::new().await);
    old_week(&world).await;
    finished(&world, "old", i64::try_from(rows).unwrap(), "test.ledger", "done", "2025-10-01").await;
    let login = Login::new(&world, &["restante_worker"]).await;
    world.sql(&format!("grant select, insert on ledger, snoozed to {}", login.name)).await;
    let as_worker = World::on(login.url.clone()).await;
    let (stop, stores, looks, locks) =
        (Arc::new(AtomicBool::new(false)), Longest::default(), Longest::default(), Longest::default());
    let mut senders = JoinSet::new();
    for sender in 0..4 {
        senders.spawn(deliver(Arc::clone(&world), sender, per_second, Arc::clone(&stop), stores.clone()));
    }
    let looking = tokio::spawn(look(Arc::clone(&world), Arc::clone(&stop), looks.clone()));
    let watching = tokio::spawn(watch_locks(Arc::clone(&world), Arc::clone(&stop), locks.clone()));
    let ended = CancellationToken::new();
    let working = tokio::spawn(worker::run(
        as_worker.worker_settings(),
        as_worker.pool.clone(),
        Registry::new().register(Ledger),
        no_api(),
        ended.clone(),
    ));
    keep_events(&world, "30 days").await;

    let began = Instant::now();
    eventually("the week is gone, and the run has left its row", async || {
        let noted = "select exists (select from restante.operation where what = 'retention' and reason = 'restante.retention says so')";
        (!is_there(&world, WEEK).await && world.value(noted).await == "true").then_some(())
    })
    .await;
    let took = began.elapsed();
    stop.store(true, Ordering::SeqCst);
    let sent: u64 = senders.join_all().await.iter().sum();
    let looked = looking.await.unwrap();
    watching.await.unwrap();
    eventually("every delivery is done", async || {
        let done = "select count(*) from restante.outbox where status = 'done' and event_id like 'new%'";
        (world.value(done).await == sent.to_string()).then_some(())
    })
    .await;
    ended.cancel();
    working.await.unwrap().unwrap();

    assert_eq!(world.ledger().await.len() as u64, sent, "each once");
    assert_eq!(world.value("select count(*) from restante.outbox_seen").await, (rows + sent).to_string());
    let who = "select who from restante.operation where what = 'retention' and reason = 'restante.retention says so'";
    assert_eq!(world.value(who).await, login.name);
    if is_long {
        eprintln!(
            "a week of {rows} rows went in {:.1} s beside {sent} deliveries and {looked} looks; \
             the longest: store {} ms, look {} ms, wait for the lock of a table {} ms (lock_timeout of retention: 100 ms)",
            took.as_secs_f64(),
            stores.milliseconds(),
            looks.milliseconds(),
            locks.milliseconds()
        );
        assert!(
            locks.milliseconds() <= 100,
            "somebody waited for the lock of a table for {} ms",
            locks.milliseconds()
        );
    }
    as_worker.pool.close().await;
    login.drop(&world).await;
}
