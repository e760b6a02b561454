//! The other tables, each by a time of its own, and the settings that people edit.

use restante::internals::outbox::retention::{Done, KINDS, retain_portion};
use secrecy::ExposeSecret;
use sqlx::{Connection, Executor, PgConnection};

use super::{finished, old_week, retain};
use crate::support::World;

/// A table, what makes a row in it at a time (`$`), and how old a row must be to have expired by the defaults.
const TABLES: &[(&str, &str, &str, Option<&str>)] = &[
    (
        "failure",
        "failure (outbox_id, event_id, type, attempt, failed_at, outcome, kind, error) values (0, 'e', 't', 1, $, 'crashed', 'crash', 'x')",
        "failed_at",
        Some("180 days"),
    ),
    (
        "delivery_differs",
        "delivery_differs (event_id, digest, received_at, payload) values ('e', extract(epoch from $), $, '{}')",
        "received_at",
        Some("180 days"),
    ),
    (
        "endpoint_delivery",
        "endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, delivered_at, took) values ('a', 0, 'e', 't', 1, $, '1 s')",
        "delivered_at",
        Some("90 days"),
    ),
    ("operation", "operation (what, how_many, at) values ('made up', 1, $)", "at", Some("2 years")),
    (
        "replay",
        "replay (name, status, arguments, was, events, ended_at) values ($::text, 'done', '{}', 'dead', 0, $)",
        "ended_at",
        Some("2 years"),
    ),
    (
        "throughput_hour",
        "throughput_hour (hour, type, subscriber, done, ignored, cancelled, failed_attempts) values (date_trunc('hour', $), 't', '', 1, 0, 0, 0)",
        "hour",
        Some("2 years"),
    ),
    (
        "message",
        "message (request, status, created_at, done_at, body) values ('{}', 'done', $, $, '{}')",
        "done_at",
        None,
    ),
    (
        "session_send",
        "session_send (session, events, status, event_ids, done_at) values ('s', '[]', 'done', '{}', $)",
        "done_at",
        None,
    ),
    (
        "resource",
        "resource (type, id, observed_at, gone_at, gone_because) values ('session', $::text, $, $, 'deleted')",
        "gone_at",
        None,
    ),
];

/// Makes a row of each table that is a day older than its time, and one that is a day younger.
async fn fill(world: &World) {
    for (table, insert, _, keep) in TABLES {
        let keep = keep.unwrap_or("10 years");
        for age in [format!("'{keep}'::interval + '1 day'"), format!("'{keep}'::interval - '1 day'")] {
            let insert = insert.replace('$', &format!("(now() - ({age}))"));
            assert_eq!(world.sql(&format!("insert into restante.{insert}")).await, 1, "{table}");
        }
    }
}

#[tokio::test]
async fn what_only_grows_has_a_time_and_what_people_may_want_stays() {
    let world = World::new().await;
    fill(&world).await;

    retain(&world).await;

    for (table, _, column, keep) in TABLES {
        let keep_all = keep.is_none();
        let left = world
            .value(&format!("select count(*) from restante.{table} where {column} is not null and {column} < now() - interval '1 hour'"))
            .await;
        assert_eq!(left, if keep_all { "2" } else { "1" }, "{table}");
    }
}

#[tokio::test]
async fn what_people_may_want_goes_once_they_say_so() {
    let world = World::new().await;
    fill(&world).await;
    world.sql("update restante.retention set keep = '10 years' where keep is null and what <> 'event'").await;

    let run = retain(&world).await;

    for (table, ..) in TABLES.iter().filter(|(_, _, _, keep)| keep.is_none()) {
        assert_eq!(world.value(&format!("select count(*) from restante.{table}")).await, "1", "{table}");
    }
    assert_eq!(run.rows, TABLES.len() as u64);
}

#[tokio::test]
async fn the_results_of_a_batch_go_with_the_requests_they_answer_and_its_sums_stay() {
    let world = World::new().await;
    for (name, days) in [("old", 100), ("new", 5)] {
        let ago = format!("now() - interval '{days} days'");
        world.sql(&format!("insert into restante.batch_request (submission, custom_id, params) select '{name}', 'r' || n, '{{\"model\":\"m\",\"max_tokens\":1,\"messages\":[]}}' from generate_series(1, 2500) as n")).await;
        world.sql(&format!("insert into restante.submission (name, status, requests, bytes, complete_at) values ('{name}', 'complete', 2500, 9, {ago})")).await;
        world.sql(&format!("insert into restante.batch (id, status, succeeded, created_at, ended_at) values ('msgbatch_{name}', 'ended', 2500, {ago}, {ago})")).await;
        world.sql(&format!("insert into restante.submission_part (submission, number, account, status, requests, bytes, batch_id, submitted_at) values ('{name}', 1, 'anthropic', 'complete', 2500, 9, 'msgbatch_{name}', now())")).await;
        world.sql(&format!("update restante.batch_request set part = (select id from restante.submission_part where submission = '{name}') where submission = '{name}'")).await;
        world.sql(&format!("insert into restante.batch_result (batch_id, custom_id, outcome, line, model, output_tokens) select 'msgbatch_{name}', 'r' || n, 'succeeded', '{{}}', 'm', 2 from generate_series(1, 2500) as n")).await;
        world
            .sql(&format!("update restante.batch set complete_at = {ago} where id = 'msgbatch_{name}'"))
            .await;
    }
    world.sql("update restante.retention set keep = '90 days' where what = 'result'").await;

    let run = retain(&world).await;

    assert_eq!(run.rows, 2500);
    let left = "select string_agg(distinct batch_id, ' ') || ' ' || count(*) from restante.batch_result";
    assert_eq!(world.value(left).await, "msgbatch_new 2500");
    let left = "select string_agg(distinct submission, ' ') || ' ' || count(*) from restante.batch_request";
    assert_eq!(world.value(left).await, "new 2500");
    let sums = "select string_agg(concat_ws(' ', batch_id, results, output_tokens), ', ' order by batch_id) from restante.batch_usage";
    assert_eq!(world.value(sums).await, "msgbatch_new 2500 5000, msgbatch_old 2500 5000");
    let again = sqlx::query("select restante.submit_batch('[]', name => 'old')")
        .execute(&world.pool)
        .await
        .unwrap_err();
    assert!(again.to_string().contains("there is a submission named old already"), "{again}");
}

#[tokio::test]
async fn people_change_the_settings_by_sql_and_that_is_noted() {
    let world = World::new().await;
    let mut operator = PgConnection::connect(world.url.expose_secret()).await.unwrap();
    operator.execute("set role restante_operator").await.unwrap();

    operator
        .execute("insert into restante.retention values ('event', 'done', 'order.*', '1 year')")
        .await
        .unwrap();
    operator.execute("update restante.retention set keep = '7 days' where what = 'failure'").await.unwrap();
    for (refused, constraint) in [
        (
            "update restante.retention set keep = '6 days' where what = 'failure'",
            "retention_keeps_what_is_needed",
        ),
        (
            "update restante.retention set keep = '44 days' where what = 'seen'",
            "retention_keeps_what_is_needed",
        ),
        (
            "insert into restante.retention values ('event', 'dead', '*', '1 year')",
            "retention_status_is_that_of_an_event",
        ),
        (
            "insert into restante.retention values ('failure', '', 'order.*', '1 year')",
            "retention_type_is_that_of_an_event",
        ),
        ("insert into restante.retention values ('evnt', '', '*', '1 year')", "retention_what_known"),
    ] {
        let error = operator.execute(refused).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().constraint(), Some(constraint), "{refused}");
    }

    let noted = "select string_agg(concat_ws(' ', what, of_what, arguments->>'keep'), ', ' order by id) from restante.operation";
    assert_eq!(world.value(noted).await, "retention event 1 year, retention failure 7 days");
}

#[tokio::test]
async fn the_program_knows_the_kinds_of_the_schema() {
    let world = World::new().await;

    let kinds = "select string_agg(distinct what, ' ' order by what) from restante.retention";

    let mut known = KINDS.to_vec();
    known.sort_unstable();
    assert_eq!(world.value(kinds).await, known.join(" "));
}

#[tokio::test]
async fn the_overview_says_what_is_kept_for_how_long_and_how_large_it_is() {
    let world = World::new().await;
    old_week(&world).await;
    finished(&world, "old", 10, "test.ledger", "done", "2025-10-01").await;
    retain(&world).await;
    let week = "select concat_ws(' ', keep, goes_at at time zone 'UTC', bytes > 0, is_overdue) from restante.retention_overview where relation = 'outbox_2025w40'";
    assert_eq!(world.value(week).await, "t f", "it is kept for ever");

    world.sql("update restante.retention set keep = '3 years' where what = 'event'").await;

    assert_eq!(world.value(week).await, "2028-10-06 00:00:00 t f");
    let failures =
        "select concat_ws(' ', what, keep) from restante.retention_overview where relation = 'failure'";
    assert_eq!(world.value(failures).await, "failure 180 days");
    let behind = "select count(*) from restante.retention_overview where is_overdue";
    assert_eq!(world.value(behind).await, "0");
    world
        .sql("update restante.retention_work set due_at = now() - interval '2 days' where what = 'failure'")
        .await;
    assert_eq!(world.value(behind).await, "1");
}

#[tokio::test]
async fn one_session_at_a_time_does_it() {
    let world = World::new().await;
    retain(&world).await;
    world.sql("update restante.retention_work set due_at = now()").await;
    let mut other = PgConnection::connect(world.url.expose_secret()).await.unwrap();
    other.execute("begin").await.unwrap();
    other.execute("select * from restante.retain_portion()").await.unwrap();

    let meanwhile = retain_portion(&world.pool).await.unwrap();

    assert_eq!(meanwhile.done, Done::Nothing);
    other.execute("commit").await.unwrap();
    assert!(matches!(retain_portion(&world.pool).await.unwrap().done, Done::Step { .. }));
}
