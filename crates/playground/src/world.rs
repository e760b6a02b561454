//! A database of its own, and verbs for what happens in it.

#![expect(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

use std::time::Duration;

use restante::event::{Body, Event, NewEvent};
use restante::internals::envelope;
use restante::internals::outbox::claim::Ask;
use restante::internals::outbox::{self, Claimed, Source};
use restante::registry::Registry;
use restante::{api, database, worker};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, Row};
use url::Url;

use crate::ledger::{self, Ledger};
use crate::nothing_runs::NothingRuns;
use crate::postgres::PrivatePostgres;
use crate::{cluster, eventually};

/// The surroundings of a test. At its end it fails a test that leaves events running, because a worker that has ended
/// must leave none. Events that the test [claims](World::claim) itself are allowed to run, and all events after
/// [`World::may_leave_running`].
pub struct World {
    /// The URL of the database, with its superuser.
    pub url: SecretString,
    /// Connections to it.
    pub pool: PgPool,
    end: NothingRuns,
}

impl World {
    /// A world on a new database, with the tables of [`Ledger`].
    pub async fn new() -> Self {
        Self::with_ledger(cluster::fresh_database().await).await
    }

    /// A world on a database that has the schema, and gets the tables of [`Ledger`].
    pub async fn with_ledger(url: SecretString) -> Self {
        let world = Self::on(url).await;
        ledger::make_tables(&world.pool).await;
        world
    }

    /// A world on a database that has the schema.
    pub async fn on(url: SecretString) -> Self {
        let pool = database::pool(&url, "test", 16).unwrap();
        Self { end: NothingRuns::on(url.clone()), url, pool }
    }

    /// The same world, connected as another login.
    pub async fn as_login(&self, name: &str, password: &str) -> Self {
        let mut url: Url = self.url.expose_secret().parse().unwrap();
        url.set_username(name).unwrap();
        url.set_password(Some(password)).unwrap();
        Self::on(SecretString::from(String::from(url))).await
    }

    /// From now on events may be running at the end, because the test kills or drops the worker that has claimed them.
    pub fn may_leave_running(&self) {
        self.end.may_be_otherwise();
    }

    /// A world on its own Postgres, which the test may crash.
    pub async fn on_its_own_postgres() -> (PrivatePostgres, Self) {
        let postgres = cluster::start_crashable();
        let url = SecretString::from(postgres.url("postgres"));
        database::migrate(&url).await.unwrap();
        let world = Self::on(url).await;
        ledger::make_tables(&world.pool).await;
        (postgres, world)
    }

    /// Stores an event as ingest would after the signature check. `second` is when it happened, within one minute.
    pub async fn receive(&self, event_id: &str, key: &str, second: u32, play: Value) -> u64 {
        let event = self.new_event(event_id, key, second, play);
        self.receive_all(&[event]).await
    }

    /// Stores several events in one commit. Returns how many were new.
    pub async fn receive_all(&self, events: &[NewEvent]) -> u64 {
        outbox::insert_events(&self.pool, Source::Webhook, events).await.unwrap().new
    }

    /// The event that [`World::receive`] would store.
    pub fn new_event(&self, event_id: &str, key: &str, second: u32, play: Value) -> NewEvent {
        let mut data = play;
        data["type"] = json!("test.ledger");
        if !key.is_empty() {
            data["id"] = json!(key);
        }
        assert!(second < 60, "{second} is no second of a minute");
        let created_at = format!("2026-11-01T12:00:{second:02}Z");
        let body = json!({ "type": "event", "id": event_id, "created_at": created_at, "data": data });
        envelope::read(body.to_string().as_bytes(), None, 0).unwrap()
    }

    /// Waits until a statement in this database waits for a lock.
    pub async fn somebody_waits_for_a_lock(&self) {
        eventually("somebody waiting for a lock", async || {
            let waiting = "select exists (select from pg_stat_activity
                                           where datname = current_database() and wait_event_type = 'Lock')";
            (self.value(waiting).await == "true").then_some(())
        })
        .await;
    }

    /// Stores an event with a body of the test's own.
    pub async fn receive_body(&self, body: &Value) -> u64 {
        self.receive_bodies(std::slice::from_ref(body)).await
    }

    /// Stores several events with bodies of the test's own in one commit.
    pub async fn receive_bodies(&self, bodies: &[Value]) -> u64 {
        let read = |body: &Value| envelope::read(body.to_string().as_bytes(), None, 0).unwrap();
        let events: Vec<_> = bodies.iter().map(read).collect();
        self.receive_all(&events).await
    }

    /// Runs a worker until no event is left that may run now. Returns how many attempts it made.
    pub async fn work(&self) -> u64 {
        self.work_with(Registry::new().register(Ledger)).await
    }

    /// As [`World::work`], with handlers of the test's own.
    pub async fn work_with(&self, registry: Registry) -> u64 {
        self.work_as(self.worker_settings(), registry).await
    }

    /// As [`World::work`], with settings and handlers of the test's own.
    pub async fn work_as(&self, settings: worker::Settings, registry: Registry) -> u64 {
        worker::run_until_idle(settings, self.pool.clone(), registry, no_api()).await.unwrap()
    }

    /// Settings of a worker that polls often, and drains for 10 s at most.
    pub fn worker_settings(&self) -> worker::Settings {
        worker::Settings {
            concurrency: 8,
            poll: Duration::from_millis(20),
            drain: Duration::from_secs(10),
            ..worker::Settings::new("worker", self.url.clone())
        }
    }

    /// Claims up to `limit` events, as a worker that does nothing after that.
    pub async fn claim(&self, limit: i64) -> Vec<Claimed> {
        self.claim_as("somebody", limit).await
    }

    /// As [`World::claim`], with the name of the worker.
    pub async fn claim_as(&self, owner: &str, limit: i64) -> Vec<Claimed> {
        self.end.but_for(owner);
        let lease = Duration::from_secs(30);
        let ask = Ask { owner, subscribers: &[String::new()], limit, lease, cursor: None, settles: true };
        outbox::claim(&self.pool, ask).await.unwrap().claimed
    }

    /// Gives the noted keys their heads, as a claim does. Returns how many it settled, and how many it had to leave.
    pub async fn settle_keys(&self) -> (i64, i64) {
        sqlx::query_as("select settled, left_over from restante.settle_keys()")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// An event as its handler would see it.
    pub async fn event(&self, event_id: &str) -> Event {
        let row = sqlx::query("select * from restante.outbox where event_id = $1")
            .bind(event_id)
            .fetch_one(&self.pool)
            .await
            .unwrap();
        Event {
            id: row.get("id"),
            sender: row.get("sender"),
            account: row.get("account"),
            event_id: row.get("event_id"),
            event_type: row.get("type"),
            subscriber: row.get("subscriber"),
            key: row.get("key"),
            workspace_id: row.get("workspace_id"),
            source: row.get("source"),
            created_at: row.get("created_at"),
            received_at: row.get("received_at"),
            body: Body::Json("{}".to_owned()),
            attempt: row.get("attempt"),
        }
    }

    /// Makes every retry due, as if time had passed.
    pub async fn wait_for_retries(&self) {
        self.sql("update restante.outbox set run_at = now() where status = 'retry'").await;
    }

    /// Lets every lease run out, as if time had passed.
    pub async fn let_leases_run_out(&self) {
        self.sql("update restante.outbox_live set lease_until = clock_timestamp() where status = 'running'")
            .await;
    }

    /// Runs SQL as an operator would. Returns how many rows it changed.
    pub async fn sql(&self, statement: &str) -> u64 {
        sqlx::query(AssertSqlSafe(statement)).execute(&self.pool).await.unwrap().rows_affected()
    }

    /// The one value of a query.
    pub async fn value(&self, query: &str) -> String {
        let query = format!("select ({query})::text");
        let value: Option<String> =
            sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.pool).await.unwrap();
        value.unwrap_or_else(|| "null".to_owned())
    }

    /// The outbox, one line for each event, in the order of their numbers. Fails if an event is in a wrong lane.
    pub async fn outbox(&self) -> String {
        let astray: Vec<String> = sqlx::query_scalar(
            "select format('%s %s in lane %s', event_id, status, lane) from restante.outbox
              where lane <> restante.lane(status, run_at, holds_key)",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        assert_eq!(astray, Vec::<String>::new());
        sqlx::query("select event_id, status, attempt from restante.outbox order by id")
            .fetch_all(&self.pool)
            .await
            .unwrap()
            .iter()
            .map(|row| {
                let (event_id, status, attempt): (String, String, i32) = (row.get(0), row.get(1), row.get(2));
                format!("{event_id} {status}, attempt {attempt}\n")
            })
            .collect()
    }

    /// The events that have a line in the ledger, in the order of the lines.
    pub async fn ledger(&self) -> Vec<String> {
        ledger::ledger(&self.pool).await
    }
}

/// A client of an API that does not exist, for handlers that do not call it.
pub fn no_api() -> api::Client {
    let nowhere = "http://127.0.0.1:9".parse().unwrap();
    api::Client::new(api::Settings::new(nowhere, SecretString::from("sk-test-key"))).unwrap()
}
