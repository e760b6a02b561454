//! What operators see of waiting events and of faults: each wait has a reason, and a repair is noticed within seconds.

use std::time::Duration;

use expect_test::expect;
use restante::handlers;
use restante::internals::outbox::outcome::{Failure, Fault, Verdict};
use restante::internals::outbox::settle::fail;
use restante::internals::outbox::trouble::{Cause, Tried, look_for_repairs, most_frequent};
use restante::internals::outbox::upkeep::{oldest_claimable_seconds, oldest_unfinished_seconds};
use restante::registry::Registry;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::api::{Answer, ScriptedApi};
use crate::support::processes::{self, INGEST};
use crate::support::sender::signing_key;
use crate::support::{Process, SimulatedApi, World, eventually};

/// The text of a query's rows, a line for each.
async fn lines(world: &World, query: &str) -> String {
    let query = format!("select row_to_json(r)::text from ({query}) as r");
    let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&world.pool).await.unwrap();
    rows.iter().flat_map(|row| [row.as_str(), "\n"]).collect()
}

/// Claims the one event that can be claimed, and ends its attempt, as a worker does.
async fn end(world: &World, verdict: Verdict) {
    let claimed = world.claim(1).await;
    assert!(fail(&world.pool, claimed[0].lease, &verdict).await.unwrap());
}

const LONG: Duration = Duration::from_secs(600);

fn failed(reason: &str) -> Failure {
    Failure { fault: Fault::Retryable, kind: "handler", reason: reason.to_owned() }
}

fn snooze(reason: &str) -> Verdict {
    Verdict::Snooze { wait: LONG, reason: reason.to_owned() }
}

fn trouble(kind: &'static str, reason: &str) -> Verdict {
    Verdict::Trouble { wait: LONG, kind, reason: reason.to_owned() }
}

fn account(reason: &str) -> Verdict {
    trouble("account", reason)
}

/// A world with an event for each way in which an event can wait.
async fn waiting() -> World {
    let world = World::new().await;
    world.receive("account", "", 0, json!({})).await;
    end(&world, account("401 authentication_error: invalid x-api-key (request req_1)")).await;
    world.receive("early", "", 0, json!({})).await;
    end(&world, snooze("the object is not readable yet")).await;
    world.receive("turn", "", 0, json!({})).await;
    end(&world, Verdict::Defer { wait: LONG, reason: "other downloads come first".to_owned() }).await;
    world.receive("failed", "", 0, json!({})).await;
    end(&world, Verdict::Retry { failure: failed("no such table"), wait: LONG }).await;
    world.receive("dead", "", 0, json!({})).await;
    end(&world, Verdict::Dead { failure: failed("no such order"), holds_key: false }).await;
    world.receive("holds", "h", 0, json!({})).await;
    end(&world, Verdict::Dead { failure: failed("look at it"), holds_key: true }).await;
    world.receive("paused", "", 0, json!({})).await;
    world.sql("update restante.outbox set status = 'paused' where event_id = 'paused'").await;
    world.receive("held", "", 0, json!({})).await;
    world.sql("update restante.outbox set status = 'paused' where event_id = 'held'").await;
    world
        .sql("insert into restante.paused_type (type, reason) values ('none.*', 'the tools are down')")
        .await;
    world.sql("update restante.outbox_live set held_by = 'none.*' where event_id = 'held'").await;
    world.receive("first", "k", 1, json!({})).await;
    world.receive("second", "k", 2, json!({})).await;
    world
        .value("select restante.enqueue('test.ledger', '{}', event_id => 'later', run_at => now() + interval '1 day')")
        .await;
    world
}

#[tokio::test]
async fn every_event_that_waits_says_for_what_and_why() {
    let world = waiting().await;

    let told = lines(
        &world,
        "select event_id, status, waits_for, reason from restante.outbox_waiting order by received_at",
    )
    .await;

    expect![[r#"
        {"event_id":"account","status":"retry","waits_for":"repair","reason":"401 authentication_error: invalid x-api-key (request req_1)"}
        {"event_id":"early","status":"retry","waits_for":"time","reason":"the object is not readable yet"}
        {"event_id":"turn","status":"retry","waits_for":"time","reason":"other downloads come first"}
        {"event_id":"failed","status":"retry","waits_for":"next attempt","reason":"attempt 1 failed: no such table"}
        {"event_id":"dead","status":"dead","waits_for":"person","reason":"it was given up: no such order"}
        {"event_id":"holds","status":"dead","waits_for":"person","reason":"it was given up, and later events of its key wait for it: look at it"}
        {"event_id":"paused","status":"paused","waits_for":"person","reason":"a person paused it"}
        {"event_id":"held","status":"paused","waits_for":"person","reason":"held by restante.pause('none.*'): the tools are down"}
        {"event_id":"first","status":"pending","waits_for":"worker","reason":"the next worker with a free place claims it"}
        {"event_id":"second","status":"blocked","waits_for":"older event","reason":"an older event of its key comes first"}
        {"event_id":"later","status":"pending","waits_for":"time","reason":"it is scheduled for a later time"}
    "#]]
    .assert_eq(&told);
}

#[tokio::test]
async fn no_view_shows_infinity() {
    let world = waiting().await;
    world.receive("running", "", 3, json!({})).await;
    world.claim(1).await;
    world.receive("done", "", 4, json!({})).await;
    world.work().await;

    let columns: Vec<(String, String)> = sqlx::query_as(
        "select c.relname::text, a.attname::text from pg_class as c join pg_attribute as a on a.attrelid = c.oid
          where c.relnamespace = 'restante'::regnamespace and c.relkind = 'v' and a.atttypid = 'timestamptz'::regtype
          order by 1, 2",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert!(columns.len() > 15, "{columns:?}");
    for (view, column) in columns {
        let infinite = format!("select count(*) from restante.{view} where not isfinite({column})");
        assert_eq!(world.value(&infinite).await, "0", "{view}.{column}");
    }
    // A calculation that a person would write.
    let took = "select bool_and(finished_at - received_at < interval '1 hour') from restante.outbox_events where status = 'done'";
    assert_eq!(world.value(took).await, "true");
    assert_eq!(
        world.value("select count(*) from restante.outbox_events where finished_at is null").await,
        "11"
    );
}

#[tokio::test]
async fn asking_for_what_is_not_finished_reads_no_history() {
    let world = World::new().await;

    let plan: Vec<String> = sqlx::query_scalar(
        "explain (costs off) select event_id from restante.outbox_events where finished_at is null",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();

    let weeks: Vec<_> = plan.iter().filter(|line| line.contains("outbox_2")).collect();
    assert!(weeks.is_empty(), "{weeks:#?}");
}

#[tokio::test]
async fn a_job_that_looks_again_and_again_is_no_backlog_until_it_fails() {
    let world = World::new().await;
    handlers::batch_reconcile::schedule(&world.pool).await.unwrap();
    let states = "select coalesce(string_agg(restante.state(type, status, outcome, run_at), ' '), '') from restante.outbox_live";
    assert_eq!(world.value(states).await, "standing", "before its first look");

    end(&world, snooze("the next search begins then")).await;
    for view in ["outbox_overview", "outbox_stuck", "outbox_trouble", "outbox_dead"] {
        assert_eq!(world.value(&format!("select count(*) from restante.{view}")).await, "0", "{view}");
    }
    let standing = "select event_id || ': ' || reason from restante.outbox_standing";
    assert_eq!(world.value(standing).await, "batch.reconcile: the next search begins then");
    assert_eq!(world.value("select waits_for from restante.outbox_waiting").await, "next look");

    world.wait_for_retries().await;
    end(&world, account("401")).await;
    assert_eq!(world.value("select status from restante.outbox_overview").await, "retry");
    assert_eq!(world.value("select cause from restante.outbox_trouble").await, "401");
    assert_eq!(world.value("select count(*) from restante.outbox_standing").await, "0");

    world.wait_for_retries().await;
    end(&world, Verdict::Retry { failure: failed("a bug"), wait: LONG }).await;
    assert_eq!(world.value("select status from restante.outbox_overview").await, "retry");
}

#[tokio::test]
async fn what_is_stuck_includes_what_waits_because_of_us_and_a_subscriber_without_a_worker() {
    let world = waiting().await;
    restante::internals::outbox::upkeep::subscribe(&world.pool, "desk", &["test.*"]).await.unwrap();
    world.receive("for_desk", "", 5, json!({})).await;
    world
        .sql("update restante.outbox_live set received_at = now() - interval '1 hour' where event_id = 'for_desk'")
        .await;

    let told = lines(
        &world,
        "select event_id, subscriber, reason from restante.outbox_stuck order by event_id, subscriber",
    )
    .await;

    expect![[r#"
        {"event_id":"account","subscriber":"","reason":"something is wrong with us, or with the other side; once that is mended, it goes on by itself"}
        {"event_id":"for_desk","subscriber":"","reason":"it could have been claimed a minute ago: is a worker running?"}
        {"event_id":"for_desk","subscriber":"desk","reason":"it could have been claimed a minute ago: is a worker of the subscriber 'desk' running?"}
    "#]]
    .assert_eq(&told);
}

#[tokio::test]
async fn one_cause_is_counted_as_one_whatever_its_requests_are_called() {
    let world = World::new().await;
    for number in 0..3 {
        world.receive(&format!("e{number}"), "", number, json!({})).await;
        end(&world, account(&format!("401: invalid x-api-key (request req_{number})"))).await;
    }

    let causes = "select string_agg(events || ' ' || cause, '; ') from restante.outbox_trouble";
    assert_eq!(world.value(causes).await, "3 401: invalid x-api-key");
    let told = most_frequent(&world.pool).await.unwrap();
    let text = "401: invalid x-api-key".to_owned();
    assert_eq!(told, Some(Cause { text, account: Some("anthropic".to_owned()), events: 3 }));
}

#[tokio::test]
async fn what_waited_for_a_repair_runs_as_soon_as_one_of_them_gets_further() {
    let world = World::new().await;
    let mut tried = Tried::default();
    let mut connection = world.pool.acquire().await.unwrap();
    for number in 0..3 {
        world.receive(&format!("e{number}"), "", number, json!({})).await;
        end(&world, account("401")).await;
    }
    world.receive("pace", "", 9, json!({})).await;
    end(&world, trouble("rate_limited", "429, come back in 10 minutes")).await;
    let due = "select count(*) from restante.outbox where status = 'retry' and run_at <= clock_timestamp()";

    // While the trouble lasts, one event at a time is tried.
    for _ in 0..3 {
        assert_eq!(look_for_repairs(&mut connection, &mut tried, &[]).await.unwrap(), 0);
        assert_eq!(world.value(due).await, "1");
        assert_eq!(
            look_for_repairs(&mut connection, &mut tried, &[]).await.unwrap(),
            0,
            "it has not run yet"
        );
        assert_eq!(world.value(due).await, "1");
        end(&world, account("401")).await;
    }

    look_for_repairs(&mut connection, &mut tried, &[]).await.unwrap();
    assert_eq!(world.work().await, 1);
    assert_eq!(look_for_repairs(&mut connection, &mut tried, &[]).await.unwrap(), 2);
    assert_eq!(world.work().await, 2);
    expect![["e0 done, attempt 1\ne1 done, attempt 1\ne2 done, attempt 1\npace retry, attempt 0\n"]]
        .assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn an_event_in_trouble_that_a_person_takes_away_is_no_repair() {
    let world = World::new().await;
    let mut tried = Tried::default();
    let mut connection = world.pool.acquire().await.unwrap();
    for number in 0..3 {
        world.receive(&format!("e{number}"), "", number, json!({})).await;
        end(&world, account("401")).await;
    }
    look_for_repairs(&mut connection, &mut tried, &[]).await.unwrap();
    let due = "event_id = (select event_id from restante.outbox where status = 'retry' and run_at <= clock_timestamp())";

    world.sql(&format!("update restante.outbox set status = 'cancelled' where {due}")).await;
    assert_eq!(look_for_repairs(&mut connection, &mut tried, &[]).await.unwrap(), 0);
    world.sql(&format!("update restante.outbox set status = 'paused' where {due}")).await;
    assert_eq!(look_for_repairs(&mut connection, &mut tried, &[]).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_told_by_status_readyz_and_metrics_and_its_repair_heals_the_backlog() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let path = |number: u32| format!("/v1/sessions/sesn_{number}");
    for number in 0..3 {
        api.answer(&path(number), Answer::refusal(401, "authentication_error", ""));
        let data = json!({ "type": "session.updated", "id": format!("sesn_{number}") });
        let body = json!({ "type": "event", "id": format!("e{number}"), "created_at": "2026-11-01T12:00:00Z", "data": data });
        world.receive_body(&body).await;
    }
    let mut worker = Process::worker(&world.url, &api.origin, &[]).await;
    // One event at a time is tried again, to find out whether the API accepts the key by now, so two wait meanwhile.
    let (status, ready) = eventually("readyz says that all wait", async || {
        let (status, ready) = worker.ops("/readyz").await;
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let note = ready["notes"][0]["note"].as_str().unwrap_or_default();
        (note.starts_with("3 events wait because of us: ") && note.contains("401"))
            .then_some((status, ready["ready"].clone()))
    })
    .await;
    assert_eq!((status, ready), (200, json!(true)), "a worker that waits for a key is not taken away");
    let line = eventually("status says that all wait", async || {
        let said = tool(&world, &["status"]);
        said.lines().find(|line| line.starts_with("because of us: 3 events wait: ")).map(str::to_owned)
    })
    .await;
    assert!(line.contains("401 authentication_error: scripted; next attempt "), "{line}");
    let (_, metrics) = worker.ops("/metrics").await;
    let trouble = r#"restante_attempts_total{outcome="trouble",event_type="session.*"} "#;
    let counted = metrics.lines().find_map(|line| line.strip_prefix(trouble)).expect(&metrics);
    assert!(counted.parse::<f64>().unwrap() >= 3.0, "{counted}");
    for line in [
        "restante_attempts_total{outcome=\"crashed\",event_type=\"session.*\"} 0".to_owned(),
        format!("restante_build_info{{version=\"{}\",schema=\"", env!("CARGO_PKG_VERSION")),
        "restante_lost_leases_total 0".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }

    for number in 0..3 {
        let session = json!({ "type": "session", "id": format!("sesn_{number}"), "status": "running" });
        api.answer(&path(number), Answer::json(&session));
    }
    // Each event alone would wait for ten minutes.
    eventually("all are done", async || {
        (world.value("select count(*) from restante.outbox where status = 'done'").await == "3").then_some(())
    })
    .await;
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
    assert_eq!(worker.stopped().await, Some(0));
}

/// Runs a command of the hand tool, which has to succeed, and returns its output.
fn tool(world: &World, arguments: &[&str]) -> String {
    let output = std::process::Command::new(processes::tool())
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", world.url.expose_secret())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_oldest_unfinished_event_is_one_that_somebody_has_to_deal_with() {
    let aged = async |world: &World, event_id: &str, hours: i32| {
        let age = format!("received_at = clock_timestamp() - interval '{hours} hours'");
        world.sql(&format!("update restante.outbox_live set {age} where event_id = '{event_id}'")).await;
    };
    let hours =
        async |world: &World| (oldest_unfinished_seconds(&world.pool).await.unwrap() / 3600.0).round();
    let world = waiting().await;
    handlers::batch_reconcile::schedule(&world.pool).await.unwrap();
    for other in ["dead", "holds", "paused", "held", "later", "batch.reconcile"] {
        aged(&world, other, 100).await;
    }
    assert!(hours(&world).await < 1.0, "nobody has to deal with those, or only a person");

    // Each event is the oldest one in turn, even while it waits.
    for (event_id, age) in [("first", 2), ("second", 3), ("failed", 4), ("early", 5), ("account", 6)] {
        // Numbers grow as events are received.
        world
            .sql(&format!("update restante.outbox_live set id = -{age} where event_id = '{event_id}'"))
            .await;
        aged(&world, event_id, age).await;
        assert_eq!(hours(&world).await, f64::from(age), "{event_id}");
    }
    let claimable = (oldest_claimable_seconds(&world.pool).await.unwrap() / 3600.0).round();
    assert_eq!(claimable, 2.0, "only `first` could be claimed");
    assert_eq!(oldest_unfinished_seconds(&World::new().await.pool).await.unwrap(), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_says_what_its_connections_do_and_one_without_a_database_why() {
    let world = World::new().await;
    let pool = restante::database::pool(&world.url, "restante-full", 1).unwrap();
    let held = pool.begin().await.unwrap();

    let why = restante::database::why(&pool, &sqlx::Error::PoolTimedOut).await.to_string();
    assert!(why.starts_with("all 1 connections of this process are in use"), "{why}");
    assert!(
        why.contains("1 with a transaction open") && why.contains("RESTANTE_DATABASE_CONNECTIONS"),
        "{why}"
    );
    held.rollback().await.unwrap();

    let nowhere = restante::database::pool(&"postgres://me:hush@127.0.0.1:1/mail".into(), "x", 1).unwrap();
    let why = restante::database::why(&nowhere, &sqlx::Error::PoolTimedOut).await.to_string();
    assert_eq!(
        why,
        "no server listens there (127.0.0.1:1, database mail, login me). \
         To do: start Postgres, or correct the host and the port in DATABASE_URL"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_start_says_which_program_and_where() {
    let world = World::new().await;
    let mut ingest = Process::ingest(&world.url, &[]).await;
    let mut worker = Process::worker(&world.url, "http://127.0.0.1:9", &[]).await;

    for (process, said) in [
        (
            &mut ingest,
            &["\"version\":", "\"schema\":", "\"database\":\"127.0.0.1:", "\"schemes\":\"standard, older\""]
                [..],
        ),
        (
            &mut worker,
            &[
                "\"version\":",
                "\"schema\":",
                "\"database\":\"127.0.0.1:",
                "\"base_url\":\"http://127.0.0.1:9/\"",
            ],
        ),
    ] {
        let log = process.log();
        for said in said {
            assert!(log.contains(said), "{said}: {log}");
        }
        assert!(
            log.contains(concat!("restante-ingest ", env!("CARGO_PKG_VERSION")))
                || log.contains("restante-worker "),
            "{log}"
        );
        assert_eq!(process.stopped().await, Some(0));
    }

    let mut lost = Process::start(
        INGEST,
        &[
            ("DATABASE_URL", "postgres://me:hush@127.0.0.1:1/mail"),
            ("ANTHROPIC_WEBHOOK_SECRET", "a-secret-that-is-long-enough-for-this"),
            ("RESTANTE_LISTEN", "127.0.0.1:0"),
        ],
    );
    lost.until_logged("no server listens there (127.0.0.1:1, database mail, login me)").await;
    assert!(!lost.log().contains("hush"), "{}", lost.log());
    lost.kill_hard();
}

#[tokio::test]
async fn a_fault_of_the_database_in_a_handler_is_told_once() {
    let world = World::new().await;
    world.sql("alter table ledger rename to hidden").await;
    world.receive("e", "", 0, json!({})).await;

    world.work_with(Registry::new().register(crate::support::Ledger)).await;

    let told = world.value("select last_error from restante.outbox where event_id = 'e'").await;
    assert_eq!(told, "relation \"ledger\" does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_that_somebody_sends_succeeds_and_shows_when_the_last_delivery_came() {
    let world = World::new().await;
    let api = SimulatedApi::start().await;
    let mut ingest = Process::ingest(&world.url, &[]).await;
    let mut worker = Process::worker(&world.url, &api.url, &[]).await;
    let url = format!("http://{}/webhooks/anthropic", ingest.address());

    // Only the URL and the key are given.
    let key = signing_key();
    let sent = std::process::Command::new(processes::tool())
        .args(["send", "--url", &url])
        .env_clear()
        .env("ANTHROPIC_WEBHOOK_SIGNING_KEY", &key)
        .output()
        .unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));

    eventually("it is done", async || {
        (world.value("select count(*) from restante.outbox where status = 'done'").await == "1").then_some(())
    })
    .await;
    let kept = "select concat_ws(' ', type, id, status, gone_at) from restante.resource";
    assert_eq!(world.value(kept).await, "session sesn_example idle");
    assert_eq!(world.value("select result from restante.outbox").await, "null");
    let (_, metrics) = ingest.ops("/metrics").await;
    let last = r#"restante_last_delivery_timestamp_seconds{scheme="standard"} "#;
    let last: f64 =
        metrics.lines().find_map(|line| line.strip_prefix(last)).expect(&metrics).parse().unwrap();
    assert!(last > 1.7e9, "{last}");
    assert!(!metrics.contains(r#"scheme="older""#), "{metrics}");
    assert!(metrics.contains(r#"restante_deliveries_total{answer="401",reason="mismatch"} 0"#), "{metrics}");
    assert!(tool(&world, &["status"]).contains("the last webhook came "), "{}", tool(&world, &["status"]));
    assert_eq!((ingest.stopped().await, worker.stopped().await), (Some(0), Some(0)));
}
