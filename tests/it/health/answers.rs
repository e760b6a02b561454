//! The answers: each question when all is well, when it is not, and when it is mended.

use std::process::Command;

use restante::internals::outbox::health::QUESTIONS;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{came, look, state};
use crate::support::processes::tool;
use crate::support::{Process, World, eventually};

/// A question, what makes its answer `act` and the sentence then, and what mends that.
struct Case {
    question: &'static str,
    breaks: &'static str,
    sentence: &'static str,
    mends: &'static str,
}

const CASES: [Case; 9] = [
    Case {
        question: "refusals",
        breaks: "insert into restante.refusal (sender, reason, hour, requests, first_at, last_at)
                 values ('staging', 'mismatch', date_trunc('hour', now()), 4, now(), now()), ('-', 'not_found', now(), 99, now(), now())",
        sentence: "Ingest has refused 4 deliveries of staging, and has taken none, most of them as mismatch.",
        mends: "delete from restante.refusal",
    },
    Case {
        question: "workers",
        breaks: "insert into restante.outbox (event_id, type, payload, received_at)
                 values ('late', 'test.ledger', '{}', now() - interval '5 minutes')",
        sentence: "An event could have been claimed for 5 min.",
        mends: "update restante.outbox set status = 'cancelled' where event_id = 'late'",
    },
    Case {
        question: "trouble",
        breaks: "insert into restante.outbox (event_id, type, payload, status, run_at, outcome, kind, last_error, received_at)
                 values ('t', 'test.ledger', '{}', 'retry', now() + interval '5 minutes', 'trouble', 'account', '401 (request req_1)',
                         now() - interval '6 minutes')",
        sentence: "1 event of the account anthropic cannot go on because something is wrong with us, or with the API (account). The error: 401",
        mends: "update restante.outbox set status = 'cancelled' where event_id = 't'",
    },
    Case {
        question: "dead",
        breaks: "insert into restante.outbox (event_id, type, payload, status) values ('d1', 'test.ledger', '{}', 'dead'),
                 ('d2', 'test.ledger', '{}', 'dead'), ('d3', 'test.other', '{}', 'dead')",
        sentence: "Until a person decides, 3 events are given up: most of them test.ledger.",
        mends: "update restante.outbox set status = 'cancelled' where status = 'dead'",
    },
    Case {
        question: "batches",
        breaks: "insert into restante.batch (id, status, succeeded, created_at, ended_at, first_seen_at)
                 values ('msgbatch_1', 'ended', 1, now() - interval '28 days', now() - interval '27 days', now() - interval '28 days')",
        sentence: "Results of 1 batch of the account anthropic are at risk; the API deletes the first in 23 h.",
        mends: "update restante.batch set complete_at = now()",
    },
    Case {
        question: "reconciler",
        breaks: "with job as (insert into restante.outbox (event_id, type, payload, account, run_at)
                              values ('job', 'resource.reconcile', '{}', 'anthropic', now() + interval '1 hour') returning 1)
                 insert into restante.reconcile_state (account, kind, since, every, complete_at)
                 select 'anthropic', 'vault', now() - interval '1 day', interval '5 minutes', now() - interval '21 minutes' from job",
        sentence: "What no webhook told was last looked for 21 min ago for the account anthropic (vault); 10 min is allowed.",
        mends: "update restante.reconcile_state set complete_at = now()",
    },
    Case {
        question: "horizon",
        // A transaction cannot be made older than it is, so a row stands in for an old one.
        breaks: "create or replace view restante.outbox_horizon as
                 select 'session'::text as kind, '4711'::text collate \"C\" as holder, 'alice'::text collate \"C\" as role, 'idle in transaction'::text as state,
                        interval '2 hours' as open_for, 7 as transactions",
        sentence: "Vacuum is held back by the session 4711, open for 2 h.",
        mends: "create or replace view restante.outbox_horizon as
                select 'session'::text as kind, '4711'::text collate \"C\" as holder, 'alice'::text collate \"C\" as role, 'idle in transaction'::text as state,
                       interval '2 seconds' as open_for, 7 as transactions",
    },
    Case {
        question: "partitions",
        breaks: "do $$ declare v_week integer; begin
                   for v_week in 1..26 loop
                     execute 'drop table restante.' || to_char(now() at time zone 'UTC' + v_week * interval '1 week', '\"outbox_\"IYYY\"w\"IW');
                   end loop; end $$",
        sentence: "The history has partitions for 1 of the 4 weeks from now on.",
        mends: "select restante.make_partitions()",
    },
    Case {
        question: "journal",
        breaks: "insert into restante.journal (journal, place, events, bytes, bytes_max, aside, is_full, reported_at)
                 values ('j', 'host:/journal', 7, 900, 1000, 0, false, now() - interval '6 minutes')",
        sentence: "The ingest of the journal host:/journal has not reported for 6 min; 7 events waited in it then, and deliveries may have come since.",
        mends: "delete from restante.journal",
    },
];

#[tokio::test]
async fn each_question_is_answered_when_all_is_well_when_it_is_not_and_when_it_is_mended() {
    let world = World::new().await;
    let asked = world.value("select string_agg(question, ' ') from restante.health").await;
    assert_eq!(asked, QUESTIONS.join(" "));
    let bad = "select string_agg(question || ' ' || sentence, ', ') from restante.health where state <> 'ok'";
    assert_eq!(world.value(bad).await, "null");

    for Case { question, breaks, sentence, mends } in CASES {
        world.sql(breaks).await;
        assert_eq!(world.value(bad).await, format!("{question} {sentence}"));
        assert_eq!(state(&world, question).await, "act");
        let row = format!(
            "select next_step is not null and coalesce(isfinite(since), true) from restante.health where question = '{question}'"
        );
        assert_eq!(world.value(&row).await, "true", "{question}");

        world.sql(mends).await;
        assert_eq!(state(&world, question).await, "ok", "{question}");
    }
}

#[tokio::test]
async fn several_findings_of_one_question_are_one_answer_that_says_so() {
    let world = World::new().await;
    for sender in ["a", "b"] {
        came(&world, sender, "select h * interval '1 hour' from generate_series(60, 10, -1) as h").await;
    }
    look(&world).await;

    let sentence = world.value("select sentence from restante.health where question = 'silence'").await;
    assert!(sentence.ends_with("within 60 min. And 1 more: see restante.health_finding."), "{sentence}");
    assert_eq!(world.value("select count(*) from restante.health_finding").await, "2");
}

#[tokio::test]
async fn refusals_count_from_the_last_delivery_that_was_stored() {
    let world = World::new().await;
    let refused = "insert into restante.refusal (sender, reason, hour, requests, first_at, last_at)
                   values ('staging', 'stale', date_trunc('hour', now()), 4, now() - interval '9 minutes', now() - interval '8 minutes')";
    world.sql(refused).await;
    came(&world, "staging", "select interval '10 minutes'").await;
    look(&world).await;
    let sentence = world.value("select sentence from restante.health where question = 'refusals'").await;
    assert_eq!(
        sentence,
        "Ingest has refused 4 deliveries of staging since it last took one, 10 min ago, most of them as stale."
    );

    came(&world, "staging", "select interval '7 minutes'").await;
    assert_eq!(state(&world, "refusals").await, "ok");
}

#[tokio::test]
async fn a_dead_letter_is_found_behind_many_events_that_a_pause_holds() {
    let world = World::new().await;
    world.value("select restante.pause('test.*')").await;
    world
        .sql(
            "insert into restante.outbox (event_id, type, payload) select 'a' || n, 'test.ledger', '{}' from generate_series(1, 10001) as n",
        )
        .await;
    assert_eq!(state(&world, "dead").await, "ok");

    world.sql("insert into restante.outbox (event_id, type, payload, status) values ('z', 'order.placed', '{}', 'dead')").await;

    assert_eq!(state(&world, "dead").await, "act");
}

#[tokio::test]
async fn the_status_of_an_operator_has_what_is_not_ok_on_top() {
    let world = World::new().await;
    world.sql(CASES[3].breaks).await;
    let status = |arguments: &[&str]| {
        let url = format!("{}?options[role]=restante_operator", world.url.expose_secret());
        let output = Command::new(tool())
            .arg("status")
            .args(arguments)
            .env_clear()
            .env("DATABASE_URL", url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };

    let text = status(&[]);
    let second = text.lines().nth(1).unwrap();
    assert_eq!(
        second,
        "ACT on dead: Until a person decides, 3 events are given up: most of them test.ledger."
    );
    let object: Value = serde_json::from_str(&status(&["--json"])).unwrap();
    assert_eq!(object["health"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&object["health"][0]["question"], &object["health"][0]["state"]),
        (&"dead".into(), &"act".into())
    );
    assert!(object["health"][0]["next_step"].as_str().unwrap().contains("restante.outbox_dead"));
}

#[tokio::test]
async fn a_worker_looks_by_itself_and_its_metrics_and_readyz_say_what_it_saw() {
    let world = World::new().await;
    world.sql(CASES[3].breaks).await;
    let mut worker = Process::worker(&world.url, "http://127.0.0.1:9", &[]).await;

    eventually("the first look of the worker", async || {
        let (_, metrics) = worker.ops("/metrics").await;
        metrics.contains("restante_health{").then_some(())
    })
    .await;

    assert_eq!(worker.metric("restante_health{question=\"dead\"}").await.to_string(), "0");
    assert_eq!(worker.metric("restante_health{question=\"partitions\"}").await.to_string(), "1");
    let raised =
        "select count(*) from restante.health_alarm where question = 'dead' and raised_at is not null";
    assert_eq!(world.value(raised).await, "1");
    let (status, ready) = worker.ops("/readyz").await;
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(status, 200, "an alarm is no reason to replace a worker");
    assert_eq!(ready["notes"][0]["note"], "act on dead: see restante.health");
    assert_eq!(worker.stopped().await, Some(0));
}
