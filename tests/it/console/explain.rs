//! `restante explain`: the life of one event in a page, and the SQL that shows each step.

use std::process::Command;
use std::time::Duration;

use restante::internals::outbox::outcome::{Failure, Fault, Verdict};
use restante::internals::outbox::settle::fail;
use restante::registry::Registry;
use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};

use super::receive_type;
use crate::support::processes::tool;
use crate::support::{Ledger, World};

/// What the command prints with the rights of an operator, and whether it found the event.
fn explain(world: &World, event: &str) -> (String, bool) {
    let output = Command::new(tool())
        .args(["explain", event])
        .env_clear()
        .env("DATABASE_URL", format!("{}?options[role]=restante_operator", world.url.expose_secret()))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{errors}");
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

/// The headings of a page.
fn headings(page: &str) -> Vec<&str> {
    page.lines().filter(|line| !line.is_empty() && !line.starts_with(' ')).collect()
}

/// The row below a heading.
fn below<'a>(page: &'a str, heading: &str) -> &'a str {
    page.lines().skip_while(|line| *line != heading).nth(1).unwrap_or_else(|| panic!("no {heading}: {page}"))
}

#[tokio::test]
async fn a_dead_letter_shows_how_it_came_its_attempts_and_who_paused_it() {
    let world = World::new().await;
    world.work_with(Registry::new().register(Ledger).subscribe("billing", Ledger)).await;
    world.receive("older", "k", 1, json!({})).await;
    world.receive("mine", "k", 2, json!({})).await;
    for (event_id, fault) in [("older", Fault::Retryable), ("mine", Fault::Permanent)] {
        let claimed = world.claim(1).await;
        assert_eq!(claimed[0].event.event_id, event_id);
        let failure = Failure { fault, kind: "handler", reason: "no such \u{1b}[31morder".to_owned() };
        let verdict = match fault {
            Fault::Permanent => Verdict::Dead { failure, holds_key: false },
            _ => Verdict::Retry { failure, wait: Duration::from_secs(600) },
        };
        assert!(fail(&world.pool, claimed[0].lease, &verdict).await.unwrap());
        world
            .sql("update restante.outbox set status = 'paused' where event_id = 'older' and subscriber = ''")
            .await;
    }

    let (page, is_found) = explain(&world, "mine");

    assert!(is_found);
    let of_handler = headings(&page);
    assert_eq!(of_handler[0], "mine: test.ledger of k, from anthropic");
    assert_eq!(of_handler[1], "It was received");
    assert!(of_handler[2].starts_with("For the handler of its type (id "), "{page}");
    assert_eq!(of_handler[3..6], ["Events of its key that came first", "Attempts that failed", "It waits"]);
    assert!(of_handler[6].starts_with("For the subscriber billing (id "), "{page}");
    assert_eq!(of_handler[7..], ["Events of its key that came first", "It waits"]);
    assert!(below(&page, "It was received").contains("source webhook, sender anthropic"), "{page}");
    let attempt = below(&page, "Attempts that failed");
    assert!(
        attempt.contains("outcome permanent, kind handler, error no such \u{fffd}[31morder"),
        "{attempt}"
    );
    let waits = below(&page, "It waits");
    assert!(
        waits.starts_with("    status dead, waits_for person, reason it was given up: no such"),
        "{waits}"
    );
}

#[tokio::test]
async fn each_line_of_sql_on_the_page_runs_and_shows_what_stands_above_it() {
    let world = World::new().await;
    let batch = "msgbatch_1's";
    receive_type(&world, "ended", "batch.ended", batch).await;
    world
        .sql(
            "insert into restante.batch (id, status, succeeded, results_stored, created_at) values ('msgbatch_1''s', 'ended', 2, 1, now())",
        )
        .await;
    world
        .sql("insert into restante.batch_result (batch_id, custom_id, outcome, line) values ('msgbatch_1''s', 'a', 'succeeded', '{}')")
        .await;
    world
        .sql("insert into restante.resource (type, id, status, observed_at) values ('session', 'msgbatch_1''s', 'idle', now())")
        .await;
    world
        .sql("insert into restante.delivery_differs (event_id, digest, payload) values ('ended', 1, '{}')")
        .await;
    world.sql("update restante.outbox set status = 'done' where event_id = 'ended'").await;

    let (page, is_found) = explain(&world, "ended");

    assert!(is_found);
    let statements: Vec<&str> = page.lines().filter(|line| line.starts_with("  select ")).collect();
    assert_eq!(statements.len(), 7, "{page}");
    for statement in statements {
        let rows = world.pool.fetch_all(AssertSqlSafe(statement.trim())).await.unwrap();
        assert!(!rows.is_empty(), "{statement}");
    }
    assert!(below(&page, "It is finished").contains("status done"), "{page}");
    assert!(below(&page, "The results that are stored").contains("outcome succeeded, count 1"), "{page}");
    assert!(below(&page, "What people did with it, or with its key").contains("what watch"), "{page}");
}

#[tokio::test]
async fn an_event_shows_its_notifications_and_how_they_were_answered() {
    let world = World::new().await;
    world
        .sql("insert into restante.endpoint (name, url, event_types) values ('crm', 'https://crm.example/', '{order.*}'), ('audit', 'https://audit.example/', '{order.*}')")
        .await;
    for event_id in ["o''1", "o2"] {
        world.sql(&format!("select restante.enqueue('order.placed', '{{}}', event_id => '{event_id}', account => 'second', callback => 'crm')")).await;
    }
    world
        .sql("insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, took, status, error)
              select 'crm', o.id, o.event_id, 'order.placed', 1, '1 s', 500, 'it answered 500' from restante.outbox as o where o.type = 'notify.crm'")
        .await;

    let (page, _) = explain(&world, "o'1");

    let rows: Vec<&str> = page
        .lines()
        .skip_while(|line| *line != "Its notifications")
        .skip(1)
        .take_while(|line| line.starts_with("    "))
        .collect();
    assert_eq!(rows.len(), 3, "{page}");
    for (of, said) in
        [("endpoint crm", "answer 500, error it answered 500"), ("endpoint audit", "status pending")]
    {
        assert!(rows.iter().any(|row| row.contains(of) && row.contains(said)), "{of}: {page}");
    }
    let notification: String = world
        .value("select event_id from restante.outbox where type = 'notify.crm' order by id limit 1")
        .await;
    let (page, _) = explain(&world, &notification);
    assert!(
        below(&page, "How its endpoint answered").contains("status 500, error it answered 500"),
        "{page}"
    );
}

#[tokio::test]
async fn an_event_of_a_message_shows_the_message_and_its_attempts() {
    let world = World::new().await;
    world
        .sql("select restante.send_message('{\"model\": \"m\", \"max_tokens\": 1, \"messages\": [{}]}', tag => 'letters')")
        .await;
    world
        .sql("insert into restante.message_attempt (message, attempt, ended_at, outcome, error) values (1, 1, now(), 'cut', 'it broke off')")
        .await;
    let event_id: String =
        world.value("select event_id from restante.outbox where type = 'message.send'").await;

    let (page, _) = explain(&world, &event_id);

    assert!(below(&page, "Its message").contains("state waits to be sent, attempt 0, tag letters"), "{page}");
    let attempt = below(&page, "The attempts of its message");
    assert!(attempt.contains("sent_as stream") && attempt.contains("outcome cut"), "{attempt}");
}

#[tokio::test]
async fn a_running_event_is_found_by_its_number() {
    let world = World::new().await;
    world.receive("runs", "", 0, json!({})).await;
    let claimed = world.claim(1).await;

    let (page, is_found) = explain(&world, &claimed[0].lease.id.to_string());

    assert!(is_found);
    assert!(page.starts_with("runs: test.ledger, from anthropic\n"), "{page}");
    assert!(below(&page, "It runs").contains("lease_owner somebody"), "{page}");
}

#[tokio::test]
async fn an_event_that_is_not_there_is_said_to_be_unknown_or_dropped() {
    let world = World::new().await;
    world.receive("dropped", "", 0, json!({})).await;
    world.sql("delete from restante.outbox").await;

    let (page, is_found) = explain(&world, "dropped");
    assert!(!is_found);
    assert!(page.contains("and is no longer in the outbox"), "{page}");
    let (page, is_found) = explain(&world, "whe_unknown");
    assert!(!is_found);
    assert!(page.starts_with("there is no event whe_unknown: it never arrived"), "{page}");
}
