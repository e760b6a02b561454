//! The runbook: every line of SQL in `docs/runbook.md` runs, shows something, and does what it says.

use std::collections::BTreeMap;

use restante::internals::outbox::outcome::Verdict;
use restante::internals::outbox::settle::fail;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::support::World;

/// A question, the statements that answer it, and the line that says what to expect.
struct Answer {
    question: String,
    statements: Vec<String>,
    expectation: String,
}

fn runbook() -> Vec<Answer> {
    let text = include_str!("../../docs/runbook.md");
    let mut answers: Vec<Answer> = Vec::new();
    let mut question = String::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match (&mut block, line) {
            (None, "```sql") => block = Some(String::new()),
            (Some(sql), "```") => {
                let statements = sql.split_terminator(";\n").map(str::to_owned).collect();
                answers.push(Answer { question: question.clone(), statements, expectation: String::new() });
                block = None;
            }
            (Some(sql), line) => *sql += &format!("{line}\n"),
            (None, line) => {
                if let Some(heading) = line.strip_prefix("### ") {
                    question = heading.to_owned();
                } else if let Some(answer) = answers.last_mut()
                    && answer.question == question
                {
                    answer.expectation += line;
                }
            }
        }
    }
    answers
}

/// What the statements of a question change: a query, and its result afterwards.
fn effects() -> BTreeMap<&'static str, (&'static str, &'static str)> {
    BTreeMap::from([
        (
            "Forget a sender that is to send nothing any more",
            ("select count(*)::text from restante.sender_rhythm where sender = 'former'", "0"),
        ),
        (
            "Forget a journal that is gone for good",
            ("select count(*)::text from restante.journal", "0"),
        ),
        (
            "Replay one event",
            ("select status || attempt from restante.outbox where event_id = 'whe_dead'", "pending0"),
        ),
        (
            "Replay all dead letters of a type",
            (
                "select string_agg(event_id, ' ') from restante.outbox where status = 'dead'",
                "batch.ended:msgbatch_02",
            ),
        ),
        (
            "Replay some of them first",
            (
                "select string_agg(event_id, ' ') from restante.outbox where status = 'dead'",
                "batch.ended:msgbatch_02",
            ),
        ),
        (
            "Retire a subscriber",
            (
                "select string_agg(subscriber || '.' || status, ' ' order by subscriber) from restante.outbox
                  where event_id = 'sql_report'",
                ".pending reports.cancelled",
            ),
        ),
        (
            "Add an endpoint",
            (
                "select string_agg(type, ' ' order by type) from restante.subscription where subscriber = 'notify'",
                "invoice.* nothing.yet order.* session.*",
            ),
        ),
        (
            "Park what is sent to an endpoint",
            ("select reason from restante.paused_type where type = 'notify.audit'", "it moves house"),
        ),
        (
            "Release what was parked",
            ("select status from restante.outbox where type = 'notify.billing'", "pending"),
        ),
        (
            "Give an endpoint a new secret",
            ("select secrets::text from restante.endpoint_overview where name = 'audit'", "1"),
        ),
        ("Try an endpoint", ("select status from restante.outbox where type = 'notify.audit'", "pending")),
        (
            "Replay dead letters by their reason",
            (
                "select string_agg(event_id, ' ') from restante.outbox where status = 'dead'",
                "batch.ended:msgbatch_02",
            ),
        ),
        (
            "Replay what was finished",
            (
                "select concat_ws(' ', status, attempt, finished_at) from restante.outbox where event_id = 'whe_done'",
                "pending 0 infinity",
            ),
        ),
        (
            "Replay what had no handler",
            ("select status from restante.outbox where event_id = 'whe_vault'", "pending"),
        ),
        (
            "Hold one event",
            (
                "select string_agg(status, ' ' order by id) from restante.outbox where key = 'sesn_01'",
                "paused pending",
            ),
        ),
        ("Let it go", ("select status from restante.outbox where event_id = 'whe_paused'", "pending")),
        (
            "Call one event off",
            (
                "select concat_ws(' ', status, finished_at < now() + interval '1 hour') from restante.outbox where event_id = 'whe_running'",
                "cancelled t",
            ),
        ),
        (
            "Hold a type",
            (
                "select string_agg(event_id, ' ' order by id) from restante.outbox where status = 'paused' and type = 'session.status_idled'",
                "whe_retry whe_trouble whe_first whe_second whe_paused",
            ),
        ),
        (
            "Replay them, at a rate",
            (
                "select concat_ws(' ', status, was, per_second, events, arguments->>'kind') from restante.replay where name = 'after-the-fix'",
                "running dead 10 1 handler",
            ),
        ),
        (
            "Hold a replay, or call it off",
            ("select concat_ws(' ', status, per_second) from restante.replay where name = 'idled'", "cancelled 5"),
        ),
        (
            "Hold a key",
            (
                "select string_agg(waits_for, ' ' order by id) from restante.outbox_waiting where key = 'sesn_01' and type like 'session.%'",
                "person person",
            ),
        ),
        ("Let a key go", ("select count(*)::text from restante.paused_key", "0")),
        (
            "Hold a subscriber, and let it go",
            (
                "select string_agg(concat_ws(' ', what, of_what, how_many, reason), ', ' order by id) from restante.operation
                  where of_what = 'subscriber:reports'",
                "pause subscriber:reports 1 its table is being rebuilt, resume subscriber:reports 1",
            ),
        ),
        ("Let a type go", ("select status from restante.outbox where event_id = 'whe_held'", "pending")),
        (
            "Stop all work, and go on",
            (
                "select string_agg(event_id, ' ' order by id) from restante.outbox where status = 'paused'",
                "whe_paused whe_held ntf_invoice",
            ),
        ),
        (
            "Run a retry now",
            ("select (run_at = now())::text from restante.outbox where event_id = 'whe_retry'", "true"),
        ),
        (
            "Put a retry off",
            ("select (run_at - now())::text from restante.outbox where event_id = 'whe_retry'", "06:00:00"),
        ),
        (
            "Allow more attempts",
            (
                "select concat_ws(' ', status, attempt, max_attempts) from restante.outbox where event_id = 'whe_retry'",
                "retry 3 60",
            ),
        ),
        (
            "Let the others pass",
            (
                "select string_agg(status, ' ' order by id) from restante.outbox where key = 'sesn_01'",
                "paused pending",
            ),
        ),
        ("A key without anything in front", ("select count(*)::text from restante.outbox_keys", "2")),
        (
            "Watch a batch by hand",
            (
                "select concat_ws(' ', status, payload) from restante.outbox where event_id = 'batch.poll:msgbatch_03'",
                "pending {\"batch_id\" : \"msgbatch_03\"}",
            ),
        ),
        (
            "Watch a batch of another account by hand",
            (
                "select concat_ws(' ', account, sender, status) from restante.outbox where event_id = 'batch.poll:msgbatch_03'",
                "staging staging pending",
            ),
        ),
        (
            "Download a batch again",
            ("select status from restante.outbox where event_id = 'batch.ended:msgbatch_02'", "pending"),
        ),
        (
            "Leave a batch alone, or ask for it again",
            ("select concat(count(*)) from restante.batch where given_up_because is not null", "0"),
        ),
        (
            "Add up the batches of before",
            (
                "select string_agg(concat_ws(' ', model, results, output_tokens), ', ' order by model) from restante.batch_usage",
                " 2 0,  2 0, claude-test 1 20",
            ),
        ),
        (
            "Write a price",
            (
                "select concat_ws(' ', dollars, results_without_price) from restante.submission_cost where tag = 'invoices'",
                // 10 tokens of input at 5, and 20 of output at 25, at half price.
                "0.000275 0",
            ),
        ),
        (
            "Change when messages wait for a batch",
            (
                "select concat_ws(' ', ahead, pack_after, reserve) from restante.message_lane_setting",
                "02:00:00 00:10:00 00:05:00",
            ),
        ),
        (
            "Limit what a tag may cost",
            (
                "select concat_ws(' ', per, amount) from restante.budget_limit where tag = 'letters'",
                "month 250",
            ),
        ),
        (
            "Send requests of a submission again",
            (
                "select string_agg(concat_ws(' ', custom_id, status, attempt), ', ' order by custom_id)
                   from restante.batch_request where submission = 'nightly'",
                "a succeeded 1, b waiting 2",
            ),
        ),
        (
            "Send requests again by themselves, or more often",
            (
                "select concat_ws(' ', resubmit, attempts_max) from restante.submission where name = 'nightly'",
                "{retriable} 5",
            ),
        ),
        (
            "Call a submission off",
            (
                "select concat_ws(' ', s.status, p.status) from restante.submission as s
                   join restante.submission_part as p on p.submission = s.name where s.name = 'nightly-2'",
                "cancelled cancelled",
            ),
        ),
        (
            "Send a message again",
            (
                "select concat_ws(' ', m.status, attempts_max, o.type, o.status) from restante.message as m
                   join restante.outbox as o on (o.payload ->> 'message')::bigint = m.id where m.id = 1 and o.type = 'message.send'",
                "waiting 6 message.send pending",
            ),
        ),
        (
            "Call a message off",
            ("select status::text from restante.message where id = 2", "cancelled"),
        ),
        (
            "Ask again for what was not found",
            ("select status from restante.outbox where event_id = 'whe_not_found'", "pending"),
        ),
        (
            "Send to a session again",
            (
                "select concat_ws(' ', status, reason, (select count(*) from restante.outbox
                                                         where type = 'session_events.send' and status = 'pending'))
                   from restante.session_send",
                "waiting 1",
            ),
        ),
        (
            "Leave what was not sent to a session",
            ("select status::text from restante.session_send", "cancelled"),
        ),
        ("Drop an old week", ("select concat('', to_regclass('restante.outbox_2025w40'))", "")),
        (
            "Give a program or a person their rights",
            ("select pg_has_role('my_ingest', 'restante_ingest', 'member')::text", "true"),
        ),
        (
            "Keep finished events for a time",
            (
                "select string_agg(concat_ws(' ', status, keep), ', ' order by status) from restante.retention where what = 'event'",
                "cancelled 90 days, done 90 days, ignored 90 days",
            ),
        ),
        (
            "Keep events of one type for longer",
            ("select keep::text from restante.retention where type = 'order.*'", "2 years"),
        ),
        (
            "For how long is a repeated delivery recognised?",
            ("select keep::text from restante.retention where what = 'seen'", "2 years"),
        ),
        (
            "Forget it",
            (
                "select concat_ws(' ', status, keys[1]) from restante.forgetting where reason = 'ticket 4711'",
                "erasing sesn_retry",
            ),
        ),
    ])
}

/// A database in which every question has an answer.
async fn seeded() -> World {
    let world = World::new().await;
    receive(&world, "whe_dead", "session.status_idled", "sesn_dead", json!({ "permanent": true })).await;
    receive(&world, "whe_done", "session.status_idled", "sesn_done", json!({})).await;
    receive(&world, "whe_vault", "vault.created", "vlt_01", json!({})).await;
    receive(&world, "whe_retry", "session.status_idled", "sesn_retry", json!({ "fail_until_attempt": 99 }))
        .await;
    world.sql("update restante.outbox set max_attempts = 20 where event_id = 'whe_retry'").await;
    for _ in 0..3 {
        world.wait_for_retries().await;
        world.work().await;
    }

    receive(&world, "whe_trouble", "session.status_idled", "sesn_trouble", json!({})).await;
    let claimed = world.claim(1).await;
    let (wait, reason) = (std::time::Duration::from_secs(600), "the API key was refused".to_owned());
    let verdict = Verdict::Trouble { wait, kind: "account", reason };
    assert!(fail(&world.pool, claimed[0].lease, &verdict).await.unwrap());
    receive(&world, "whe_running", "session.status_idled", "sesn_running", json!({})).await;
    assert_eq!(world.claim(1).await.len(), 1);

    receive(&world, "whe_first", "session.status_idled", "sesn_01", json!({})).await;
    receive(&world, "whe_second", "session.status_idled", "sesn_01", json!({})).await;
    receive(&world, "whe_behind", "session.archived", "sesn_retry", json!({})).await;
    receive(&world, "whe_paused", "session.status_idled", "sesn_paused", json!({})).await;
    world.sql("update restante.outbox set status = 'paused' where event_id = 'whe_paused'").await;
    world.sql("select restante.pause('session.thread_*', 'the tools are down')").await;
    receive(&world, "whe_held", "session.thread_created", "sesn_held", json!({})).await;

    sqlx::raw_sql(include_str!("runbook.sql")).execute(&world.pool).await.unwrap();
    world
}

async fn receive(world: &World, event_id: &str, event_type: &str, key: &str, play: Value) {
    let mut data = play;
    data["type"] = json!(event_type);
    data["id"] = json!(key);
    let body = json!({ "type": "event", "id": event_id, "created_at": "2026-11-01T12:00:00Z", "data": data });
    assert_eq!(world.receive_body(&body).await, 1);
}

#[tokio::test]
async fn every_line_of_the_runbook_runs_shows_something_and_does_what_it_says() {
    let world = seeded().await;
    let mut holder = connect(&world).await;
    // A session with an open transaction, for the query of the horizon.
    holder.execute("begin isolation level repeatable read").await.unwrap();
    holder.execute("select 1").await.unwrap();
    let mut effects = effects();
    let mut connection = connect(&world).await;

    for Answer { question, statements, expectation } in runbook() {
        // Each question finds the database as it was seeded.
        let mut tx = connection.begin().await.unwrap();
        if !expectation.starts_with("As the owner") && !expectation.starts_with("As an administrator") {
            sqlx::query("set local role restante_operator").execute(&mut *tx).await.unwrap();
        }
        let mut is_read = true;
        for statement in &statements {
            is_read &= run(&mut tx, &question, statement).await;
        }
        sqlx::query("reset role").execute(&mut *tx).await.unwrap();
        match effects.remove(question.as_str()) {
            Some((query, expected)) => {
                let found: Option<String> = sqlx::query_scalar(query).fetch_one(&mut *tx).await.unwrap();
                assert_eq!(found.as_deref(), Some(expected), "{question}: {query}");
            }
            None => {
                assert!(is_read, "{question}: it changes something, and no line of effects() looks at what");
            }
        }
        tx.rollback().await.unwrap();
    }
    assert!(effects.is_empty(), "no longer in the runbook: {:?}", effects.keys());
    holder.execute("rollback").await.unwrap();
}

/// Runs a statement and returns whether it only read.
async fn run(connection: &mut PgConnection, question: &str, statement: &str) -> bool {
    let failed = |error: sqlx::Error| format!("{question}: {error}\n{statement}");
    let query = sqlx::query(AssertSqlSafe(statement));
    match statement.split_whitespace().next() {
        Some("select") => {
            let rows =
                query.fetch_all(connection).await.map_err(failed).unwrap_or_else(|failed| panic!("{failed}"));
            assert!(!rows.is_empty(), "{question}: it shows nothing of what was seeded\n{statement}");
            assert!(rows[0].len() > 0);
            !statement.contains("restante.pause(") && !statement.contains("restante.resume(")
        }
        Some("update" | "insert" | "delete") => {
            let touched = query
                .execute(connection)
                .await
                .map_err(failed)
                .unwrap_or_else(|failed| panic!("{failed}"))
                .rows_affected();
            assert!(touched > 0, "{question}: it touches nothing of what was seeded\n{statement}");
            false
        }
        Some("set" | "alter" | "drop" | "create" | "grant") => {
            query.execute(connection).await.map_err(failed).unwrap_or_else(|failed| panic!("{failed}"));
            false
        }
        other => panic!("{question}: {other:?} is no statement that this test knows"),
    }
}

async fn connect(world: &World) -> PgConnection {
    restante::database::connect(&world.url, "test").await.unwrap()
}

#[test]
fn every_question_of_the_runbook_has_an_answer_and_says_what_to_expect() {
    let answers = runbook();
    let questions =
        include_str!("../../docs/runbook.md").lines().filter(|line| line.starts_with("### ")).count();
    assert_eq!(answers.len(), questions, "one block of SQL for each question");
    assert!(answers.len() > 40);
    for Answer { question, statements, expectation } in answers {
        assert!(!statements.is_empty(), "{question}");
        assert!(expectation.len() > 20, "{question}: what is to be expected?");
    }
}
