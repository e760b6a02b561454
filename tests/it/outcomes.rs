//! The metric and the log of an attempt say what the database has stored, and not what its handler returned.
//!
//! Each test runs on a single thread, so that a recorder of that thread counts only what happens in the test.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use anyhow::anyhow;
use expect_test::{Expect, expect};
use metrics_exporter_prometheus::PrometheusBuilder;
use restante::handler::{self, Context, Error, Handler};
use restante::internals::telemetry;
use restante::registry::Registry;
use restante::{database, handlers, retry, worker};
use serde::Deserialize;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgPool};
use tracing::Dispatch;

use crate::support::World;
use crate::support::api::{Answer, ScriptedApi};
use crate::support::world::no_api;

/// Does what its event says, and ends as it says.
struct Ends;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Done,
    Snooze,
    Defer,
    Trouble,
    Retry,
    RetryLater,
    Permanent,
    Panic,
    LeaseLost,
}

#[derive(Debug, Deserialize)]
struct Play {
    end: End,
    /// Writes through the attempt's transaction.
    #[serde(default)]
    writes: bool,
    /// A person takes the event away from the attempt meanwhile.
    #[serde(default)]
    is_taken: bool,
    /// The database ends all sessions and accepts no new ones.
    #[serde(default)]
    cuts_off: bool,
}

const WAIT: Duration = Duration::from_secs(600);

impl Handler for Ends {
    const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
    const RETRY: retry::Policy = retry::Policy { max_attempts: 3, first: WAIT, cap: WAIT };
    type Payload = Play;

    async fn handle(&self, cx: &mut Context<'_>, play: Play) -> handler::Result {
        if play.is_taken {
            let taken = "update restante.outbox set status = 'cancelled' where id = $1";
            sqlx::query(taken).bind(cx.event.id).execute(cx.pool()).await?;
        }
        if play.writes {
            let write = sqlx::query("insert into ledger (event_id) values ($1)").bind(&cx.event.event_id);
            write.execute(cx.tx().await?).await?;
        }
        if play.cuts_off {
            cut_off(cx.pool()).await;
        }
        match play.end {
            End::Done => Ok(()),
            End::Snooze => Err(Error::Snooze(WAIT, "too early".into())),
            End::Defer => Err(Error::Defer(WAIT, "not its turn".into())),
            End::Trouble => Err(Error::Trouble(WAIT, anyhow!("an outage"))),
            End::Retry => Err(Error::Retryable(anyhow!("told to fail"))),
            End::RetryLater => Err(Error::RetryAfter(WAIT, anyhow!("told to fail"))),
            End::Permanent => Err(Error::Permanent(anyhow!("told that it will never work"))),
            End::Panic => panic!("told to panic"),
            End::LeaseLost => Err(Error::LeaseLost),
        }
    }
}

/// Never ends. It is a handler of its own, so that a slow machine does not end the others by this timeout.
struct Hangs;

impl Handler for Hangs {
    const EVENT_TYPES: &'static [&'static str] = &["test.hangs"];
    const TIMEOUT: Duration = Duration::from_millis(300);
    const RETRY: retry::Policy = Ends::RETRY;
    type Payload = serde_json::Value;

    async fn handle(&self, _: &mut Context<'_>, _: Self::Payload) -> handler::Result {
        std::future::pending().await
    }
}

/// Ends the sessions of this pool, and lets its database accept no new ones.
async fn cut_off(pool: &PgPool) {
    let options = PgConnectOptions::clone(&pool.connect_options());
    let name = options.get_database().unwrap().to_owned();
    let options = options.database("postgres").application_name("somebody");
    let mut somebody = options.connect().await.unwrap();
    let closed = format!("alter database {name} allow_connections false");
    somebody.execute(AssertSqlSafe(closed)).await.unwrap();
    // Waits until the sessions have ended.
    let ended = sqlx::query(
        "select pg_terminate_backend(pid, 60000) from pg_stat_activity where application_name = $1",
    );
    ended.bind(CUT).execute(&mut somebody).await.unwrap();
}

/// The name of the sessions that are cut off.
const CUT: &str = "cut off";

/// What was counted and logged on this thread.
struct Told {
    counted: String,
    log: String,
}

impl Told {
    fn counts(&self, expected: &Expect) {
        expected.assert_eq(&self.counted);
    }
}

/// A second subscriber, which is never written to. While a process has only one, a log line that another thread reaches first is
/// disabled for that subscriber forever.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

/// Counts and logs what happens on this thread while `work` is done.
async fn told(work: impl Future) -> Told {
    LazyLock::force(&ANOTHER);
    let recorder = PrometheusBuilder::new().build_recorder();
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
    let writer = log.clone();
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    {
        let _recording = metrics::set_default_local_recorder(&recorder);
        let _logging = tracing::subscriber::set_default(subscriber);
        work.await;
    }
    let metric = format!("{}{{outcome=\"", telemetry::metric::ATTEMPTS_TOTAL);
    let rendered = recorder.handle().render();
    let mut lines: Vec<String> = rendered
        .lines()
        .filter_map(|line| line.strip_prefix(&metric))
        .map(|line| line.replace("\",event_type=\"", " of ").replace("\"}", ":") + "\n")
        .collect();
    lines.sort();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    Told { counted: lines.concat(), log }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn registry() -> Registry {
    Registry::new().register(Ends).register(Hangs)
}

#[tokio::test]
async fn each_outcome_is_counted_by_its_own_word() {
    let world = World::new().await;
    world.receive("crashed", "", 0, json!({ "end": "done" })).await;
    for worker in ["first", "second", "third"] {
        assert_eq!(world.claim_as(worker, 1).await.len(), 1);
        world.let_leases_run_out().await;
    }
    for (event_id, play) in [
        ("done", json!({ "end": "done" })),
        ("done_with_a_write", json!({ "end": "done", "writes": true })),
        ("snoozed", json!({ "end": "snooze" })),
        ("deferred", json!({ "end": "defer" })),
        ("trouble", json!({ "end": "trouble" })),
        ("retryable", json!({ "end": "retry" })),
        ("retryable_with_a_write", json!({ "end": "retry", "writes": true })),
        ("retryable_later", json!({ "end": "retry_later" })),
        ("permanent", json!({ "end": "permanent" })),
        ("panicked", json!({ "end": "panic" })),
    ] {
        world.receive(event_id, "", 1, play).await;
    }
    for (event_id, event_type) in [("timed_out", "test.hangs"), ("ignored", "test.unheard_of")] {
        let event = json!({ "type": "event", "id": event_id, "created_at": "2026-11-01T12:00:00Z",
                            "data": { "type": event_type } });
        world.receive_body(&event).await;
    }

    let told = told(world.work_with(registry())).await;

    told.counts(&expect![[r#"
        crashed of test.ledger: 1
        deferred of test.ledger: 1
        done of test.ledger: 2
        ignored of other: 1
        panicked of test.ledger: 1
        permanent of test.ledger: 1
        retryable of test.ledger: 3
        snoozed of test.ledger: 1
        timed_out of test.hangs: 1
        trouble of test.ledger: 1
    "#]]);
    assert_eq!(told.log.matches("is a dead letter now").count(), 2, "crashed and permanent:\n{}", told.log);
    let outcomes = "select string_agg(distinct outcome, ' ' order by outcome) from restante.outbox_live";
    assert_eq!(
        world.value(outcomes).await,
        "crashed deferred panicked permanent retryable snoozed timed_out trouble",
        "the words of the outbox are those of the metric"
    );
}

#[tokio::test]
async fn an_attempt_whose_event_was_taken_away_is_counted_as_a_lost_lease_whatever_its_handler_returned() {
    let world = World::new().await;
    for (event_id, play) in [
        ("done", json!({ "end": "done", "is_taken": true })),
        ("done_with_a_write", json!({ "end": "done", "is_taken": true, "writes": true })),
        ("retryable", json!({ "end": "retry", "is_taken": true })),
        ("permanent", json!({ "end": "permanent", "is_taken": true })),
        ("told", json!({ "end": "lease_lost", "is_taken": true })),
    ] {
        world.receive(event_id, "", 0, play).await;
    }

    let told = told(world.work_with(registry())).await;

    told.counts(&expect![[r#"
        lease_lost of test.ledger: 5
    "#]]);
    assert!(!told.log.contains("dead letter"), "{}", told.log);
    let lost: Vec<_> = told.log.lines().filter(|line| line.contains("the lease was lost")).collect();
    assert_eq!(lost.len(), 5, "{}", told.log);
    for event_id in ["done", "done_with_a_write", "retryable", "permanent", "told"] {
        let named = format!("event.id=\"{event_id}\"");
        assert!(lost.iter().any(|line| line.contains(&named)), "{event_id}: {lost:#?}");
    }
    assert!(world.ledger().await.is_empty());
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_counted_as_unknown_where_nobody_can_be_asked() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({ "end": "done", "writes": true, "cuts_off": true })).await;
    let pool = database::pool(&world.url, CUT, 8).unwrap();

    let settings = world.worker_settings();
    let told = told(worker::run_until_idle(settings, pool, registry(), no_api())).await;

    told.counts(&expect![[r#"
        unknown of test.ledger: 1
    "#]]);
    let line = told.log.lines().find(|line| line.contains("did not answer a commit")).expect(&told.log);
    assert!(line.contains("event.id=\"a\""), "{line}");
    expect![["a running, attempt 1\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn an_attempt_that_the_database_does_not_settle_is_counted_as_unknown_and_called_nothing_else() {
    let world = World::new().await;
    world.may_leave_running();
    world.receive("done", "", 0, json!({ "end": "done" })).await;
    world.receive("permanent", "", 1, json!({ "end": "permanent" })).await;
    for function in ["finish_events", "finish_event", "fail"] {
        world.sql(&format!("alter function restante.{function} rename to gone_{function}")).await;
    }

    let told = told(world.work_with(registry())).await;

    told.counts(&expect![[r#"
        unknown of test.ledger: 2
    "#]]);
    assert!(!told.log.contains("dead letter"), "{}", told.log);
    for event_id in ["done", "permanent"] {
        let named = format!("event.id=\"{event_id}\"");
        let is_told = |line: &str| line.contains("could not be settled") && line.contains(&named);
        assert!(told.log.lines().any(is_told), "{event_id}: {}", told.log);
    }
}

#[tokio::test]
async fn of_many_events_that_an_outage_of_the_api_holds_back_one_is_told_of() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    api.answer_all(Some(Answer::refusal(401, "authentication_error", "")));
    let bodies: Vec<_> = (0..40)
        .map(|n| {
            json!({ "type": "event", "id": format!("e{n}"), "created_at": "2026-11-01T12:00:00Z",
                    "data": { "type": "session.updated", "id": format!("sesn_{n}") } })
        })
        .collect();
    world.receive_bodies(&bodies).await;
    let registry = handlers::registry(handlers::Settings {
        batch_poll: WAIT,
        reconcile: None,
        allow_private_endpoints: false,
    });

    let settings = world.worker_settings();
    let told = told(worker::run_until_idle(settings, world.pool.clone(), registry, api.client())).await;

    told.counts(&expect![[r#"
        trouble of session.*: 40
    "#]]);
    let held_back: Vec<_> = told.log.lines().filter(|line| line.contains("not asked again yet")).collect();
    let (warnings, others): (Vec<_>, Vec<_>) =
        held_back.into_iter().partition(|line| line.contains(" WARN "));
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(!others.is_empty() && others.iter().all(|line| line.contains("DEBUG")), "{others:#?}");
}

/// A handler that begins a transaction within its own.
struct Nests;

impl Handler for Nests {
    const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
    type Payload = serde_json::Value;

    async fn handle(&self, cx: &mut Context<'_>, _: Self::Payload) -> handler::Result {
        use sqlx::Connection;
        for (name, commits) in [("kept", true), ("taken_back", false)] {
            let mut within = cx.tx().await?.begin().await?;
            sqlx::query("insert into ledger (event_id) values ($1)").bind(name).execute(&mut *within).await?;
            if commits {
                within.commit().await?;
            }
        }
        match cx.event.event_id.as_str() {
            "fails" => Err(Error::Retryable(anyhow!("told to fail"))),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_transaction_within_that_of_the_attempt_is_a_savepoint_also_on_a_connection_that_is_used_again() {
    let world = World::new().await;
    for (second, event_id) in ["one", "fails", "two", "fails_not"].into_iter().enumerate() {
        world.receive(event_id, "k", u32::try_from(second).unwrap(), json!({})).await;
    }
    let settings = worker::Settings { concurrency: 1, ..world.worker_settings() };

    world.work_as(settings, Registry::new().register(Nests)).await;

    assert!(world.outbox().await.starts_with("one done, attempt 1\nfails retry, attempt 1\n"));
    assert_eq!(world.ledger().await, ["kept"], "of the one that failed nothing is left");
    // The next users of the connections find this too.
    let mut all = Vec::new();
    for _ in 0..world.pool.options().get_max_connections() {
        all.push(world.pool.begin().await.unwrap());
    }
}
