//! Deliveries at a steady pace while other sessions disturb the same database: no delivery is refused, nothing counts as a crash,
//! order holds, and all events are done soon after the disturbance ends.
//!
//! In the normal tests each disturbance is short. `make crowd-test` lets each last a minute, and prints how long answers took,
//! compared with calm times.

use std::time::{Duration, Instant};

use restante_playground::postgres::PrivatePostgres;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{Delivery, Process, Sender, World, eventually};

const KEYS: u64 = 1000;

struct Crowd {
    world: World,
    sender: Sender,
    sent: u64,
    per_second: u64,
    stay: Duration,
    _postgres: PrivatePostgres,
    _ingest: Process,
    _worker: Process,
}

impl Crowd {
    async fn new() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let (postgres, world) = World::on_its_own_postgres().await;
        let ingest = Process::ingest(&world.url, &[]).await;
        let worker = Process::worker(&world.url, "http://127.0.0.1:9", &[]).await;
        Self {
            sender: Sender::to(ingest.address()),
            world,
            sent: 0,
            per_second: number("RESTANTE_CROWD_PER_SECOND").unwrap_or(60),
            stay: Duration::from_secs(number("RESTANTE_CROWD_SECONDS").unwrap_or(2)),
            _postgres: postgres,
            _ingest: ingest,
            _worker: worker,
        }
    }

    /// Delivers at the pace for as long as the others stay, and asserts that each answer is 204. Returns the sorted times.
    async fn deliver(&mut self) -> Vec<Duration> {
        let began = tokio::time::Instant::now();
        let pause = Duration::from_secs(1) / u32::try_from(self.per_second).unwrap();
        let mut answers = JoinSet::new();
        for nth in 0.. {
            let at = began + pause * nth;
            if at > began + self.stay {
                break;
            }
            tokio::time::sleep_until(at).await;
            self.sent += 1;
            let (event_id, key) = (format!("e{}", self.sent), format!("k{}", self.sent % KEYS));
            let created_at = chrono::Utc::now();
            let body = json!({ "type": "event", "id": event_id, "created_at": created_at,
                               "data": { "type": "crowd.event", "id": key } });
            let (sender, delivery) = (self.sender.clone(), Delivery::new(&event_id, body.to_string()));
            answers.spawn(async move {
                let sent = Instant::now();
                assert_eq!(sender.status(&delivery).await, 204, "{event_id}");
                sent.elapsed()
            });
        }
        let mut times = answers.join_all().await;
        times.sort_unstable();
        times
    }

    /// Delivers while others do something, and checks the outbox after they have ended.
    async fn beside(&mut self, who: &str, others: Vec<JoinHandle<()>>) {
        let times = self.deliver().await;
        let backends = "select count(*) from pg_stat_activity where application_name like 'restante%'";
        let backends: u64 = self.world.value(backends).await.parse().unwrap();
        for other in others {
            other.await.unwrap();
        }
        let ended = Instant::now();
        let unfinished = "select count(*) from restante.outbox_live where type = 'crowd.event'";
        eventually(&format!("everything done after {who}"), async || {
            (self.world.value(unfinished).await == "0").then_some(())
        })
        .await;
        let p99 = times[times.len() * 99 / 100];
        println!(
            "{who}: p50 {:?}, p99 {p99:?}, done {:?} after the end, {backends} backends",
            times[times.len() / 2],
            ended.elapsed()
        );
        assert!(backends < 40, "{backends} backends");
        self.has_kept_order(who).await;
    }

    async fn has_kept_order(&self, who: &str) {
        let crashed = "select count(*) from restante.failure";
        assert_eq!(self.world.value(crashed).await, "0", "failures beside {who}");
        let stored = "select count(*) from restante.outbox where source = 'webhook'";
        assert_eq!(self.world.value(stored).await, self.sent.to_string());
        let late = "select count(*) from (
            select created_at < lag(created_at) over (partition by key order by finished_at, id) as is_late
              from restante.outbox where source = 'webhook') as o where is_late";
        assert_eq!(self.world.value(late).await, "0", "out of order beside {who}");
    }
}

/// Runs these statements in a transaction that stays open.
fn open_transaction(
    url: &SecretString,
    statements: Vec<String>,
    stay: Duration,
    end: &'static str,
) -> JoinHandle<()> {
    let url = url.clone();
    tokio::spawn(async move {
        let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
        for statement in ["begin".to_owned()].into_iter().chain(statements) {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        }
        tokio::time::sleep(stay).await;
        sqlx::query(end).execute(&mut connection).await.unwrap();
    })
}

/// Transactions of a few seconds, one after the other, each of which enqueues into the same twenty keys.
fn application(url: &SecretString, stay: Duration, number: u64) -> JoinHandle<()> {
    let (url, end) = (url.clone(), Instant::now() + stay);
    tokio::spawn(async move {
        let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
        while Instant::now() < end {
            let mut transaction = connection.begin().await.unwrap();
            for n in 0..20 {
                let enqueue = format!(
                    "select restante.enqueue('crowd.event', '{{}}', key => 'k{}')",
                    (n + number) % 20
                );
                sqlx::query(AssertSqlSafe(enqueue)).execute(&mut *transaction).await.unwrap();
            }
            let pause = Duration::from_secs(8).min(end.saturating_duration_since(Instant::now()));
            tokio::time::sleep(pause).await;
            transaction.commit().await.unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_in_the_same_database_holds_up_deliveries_or_what_is_done_with_them() {
    let mut crowd = Crowd::new().await;
    let (url, stay) = (crowd.world.url.clone(), crowd.stay);
    crowd.beside("nobody", vec![]).await;

    let keys = (0..500).map(|n| format!("'k{n}'")).collect::<Vec<_>>().join(", ");
    for (end, who) in
        [("rollback", "an operator who changes his mind"), ("commit", "an operator who commits")]
    {
        let hold =
            format!("update restante.outbox set max_attempts = 7, status = status where key in ({keys})");
        let replay = format!(
            "update restante.outbox set status = 'pending' where key in ({keys}) and right(key, 1) = '0' and status = 'ignored'"
        );
        let open = open_transaction(&url, vec![hold, replay], stay, end);
        crowd.beside(who, vec![open]).await;
        // Replayed events were handled a second time, in the order of their key, and later than recorded before.
        crowd.world.sql("update restante.outbox set finished_at = created_at + interval '1 second' where source = 'webhook'").await;
    }

    let applications = (0..20).map(|number| application(&url, stay, number)).collect();
    crowd.beside("twenty applications", applications).await;

    let salts = "select pg_try_advisory_xact_lock(hashtextextended('k' || n, seed)) from generate_series(0, 999) as n,
                   generate_series(0, 2) as seed";
    let locks = open_transaction(&url, vec![salts.to_owned()], stay, "rollback");
    crowd.beside("a login that holds what locks it can", vec![locks]).await;

    let report = "select count(*), min(payload::text) from restante.outbox".to_owned();
    let tables =
        "lock table restante.outbox, restante.outbox_seen, restante.failure in access share mode".to_owned();
    let reads = open_transaction(&url, vec![tables, report], stay, "commit");
    crowd.beside("a report that reads everything", vec![reads]).await;
}
