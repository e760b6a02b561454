//! What lies under another key, or under none: notifications of an endpoint that is gone, jobs, facts and alarms that name what is forgotten.

use secrecy::ExposeSecret;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::files::{CANARY, KEY, empty_of, files_with, keep_uncompressed};
use super::{erase, erase_all, forget};
use crate::health::look;
use crate::support::World;

/// A tag that is a word of a customer itself.
const TAG: &str = "letters_CANARY-d41d8cd98f00";

/// The relation and the rows that a dry run names.
async fn counted(world: &World, what: &str) -> String {
    world
        .value(&format!(
            "select string_agg(relation || ' ' || rows, ', ' order by relation) from restante.forget({what})"
        ))
        .await
}

/// A world with an endpoint that is told everything but what ingest stores.
async fn told() -> World {
    let world = World::new().await;
    keep_uncompressed(&world).await;
    world.sql("insert into restante.endpoint (name, url) values ('endc', 'https://a.example/')").await;
    world
}

/// Ends the notifications, each with an answer that repeats the canary.
async fn answer(world: &World) {
    world.sql(&format!("insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, took, answer)
                        select 'endc', id, event_id, 't', 1, '1 s', '{CANARY}' from restante.outbox where type = 'notify.endc'")).await;
    world
        .sql("update restante.outbox set status = 'cancelled' where type = 'notify.endc' and finished_at = 'infinity'")
        .await;
}

/// The events that are left, by their type.
async fn types(world: &World) -> String {
    world.value("select concat(string_agg(type, ' ' order by type)) from restante.outbox").await
}

#[tokio::test]
async fn what_an_endpoint_was_sent_of_a_key_goes_too_when_the_endpoint_is_gone() {
    let world = told().await;
    world
        .sql(&format!("select restante.enqueue('order.placed', '{{\"text\": \"{CANARY}\"}}', key => '{KEY}', event_id => 'o')"))
        .await;
    answer(&world).await;
    world.sql("delete from restante.endpoint where name = 'endc'").await;
    world.sql("analyze").await;
    assert_eq!(counted(&world, &format!("key => '{KEY}'")).await, "outbox 2");

    forget(&world, &format!("key => '{KEY}'")).await;
    erase_all(&world).await;

    assert_eq!(types(&world).await, "");
    assert_eq!(world.value("select count(*) from restante.endpoint_delivery").await, "0");
    empty_of(&world, &[CANARY, KEY]).await;
    let again =
        format!("select concat(restante.enqueue('order.placed', '{{}}', key => '{KEY}', event_id => 'o'))");
    assert_eq!(world.value(&again).await, "", "it is still a duplicate");
}

#[tokio::test]
async fn jobs_and_facts_of_a_tag_go_with_what_the_api_said_to_them() {
    let world = told().await;
    world
        .sql(&format!(
            "select restante.submit_batch('[{{\"custom_id\":\"r\",\"params\":{{\"model\":\"m\",\"max_tokens\":1,\"messages\":[]}}}}]',
                                          name => 'n', tag => '{TAG}', callback => 'https://a.example/{CANARY}')"
        ))
        .await;
    world
        .sql(&format!(
            "select restante.send_message('{{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{{}}]}}', tag => '{TAG}', key => 'shared')"
        ))
        .await;
    world
        .sql("select restante.send_message('{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{}]}', key => 'shared')")
        .await;
    world.sql(&format!("insert into restante.budget_limit (tag, amount) values ('{TAG}', 5)")).await;
    world.sql("update restante.submission_part set status = 'sending', sent_at = now()").await;
    world.sql("update restante.submission_part set status = 'uncertain'").await;
    world.sql("update restante.submission_part set status = 'waiting'").await;
    world.sql("update restante.submission_part set status = 'sending', sent_at = now()").await;
    world.sql(&format!("update restante.submission_part set status = 'refused', reason = '{CANARY}'")).await;
    world
        .sql(&format!(
            "update restante.outbox set status = 'dead', last_error = '{CANARY}' where type = 'batch.submit'"
        ))
        .await;
    world
        .sql(&format!(
            "insert into restante.failure (outbox_id, event_id, type, attempt, outcome, kind, error)
             select id, event_id, type, 1, 'permanent', 'content', '{CANARY}' from restante.outbox where type = 'batch.submit'"
        ))
        .await;
    let mut person = PgConnection::connect(world.url.expose_secret()).await.unwrap();
    for statement in [
        format!("set restante.reason = '{CANARY}'"),
        "update restante.submission set attempts_max = 9".to_owned(),
        "update restante.message set status = 'cancelled' where tag is not null".to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut person).await.unwrap();
    }
    answer(&world).await;
    world.sql("analyze").await;
    let said =
        "select count(*) from restante.outbox where type = 'notify.endc' and payload::text like '%CANARY%'";
    assert_ne!(world.value(said).await, "0", "a fact that was sent on carries the tag");
    let count = counted(&world, &format!("tag => '{TAG}'")).await;
    assert!(count.starts_with("batch_request 1, budget_limit 1, message 1, outbox "), "{count}");

    forget(&world, &format!("tag => '{TAG}', reason => 'ticket 4711'")).await;
    erase_all(&world).await;

    assert_eq!(types(&world).await, "message.send", "the other message of the key is not forgotten");
    assert_eq!(
        world.value("select status from restante.outbox").await,
        "pending",
        "it is the head of its key now"
    );
    empty_of(&world, &[CANARY]).await;
}

#[tokio::test]
async fn a_message_stays_until_the_events_that_name_it_are_gone() {
    let world = World::new().await;
    world
        .sql("select restante.send_message('{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{}]}', tag => 'letters')")
        .await;
    let mut person = world.pool.begin().await.unwrap();
    sqlx::query("select from restante.outbox where type = 'message.send' for update")
        .execute(&mut *person)
        .await
        .unwrap();

    forget(&world, "tag => 'letters'").await;
    erase(&world).await;
    let waits = "select concat_ws(': ', status, waits_for) from restante.forget_overview";
    assert_eq!(world.value(waits).await, "erasing: a session that has locked events of it");
    person.rollback().await.unwrap();
    let mut person = world.pool.begin().await.unwrap();
    sqlx::query("select from restante.message for update").execute(&mut *person).await.unwrap();
    world.sql("update restante.forgetting set due_at = now()").await;
    erase(&world).await;
    assert_eq!(types(&world).await, "");
    assert_eq!(world.value(waits).await, "erasing: a session that has locked rows of it in restante.message");
    person.rollback().await.unwrap();
    world.sql("update restante.forgetting set due_at = now()").await;
    erase_all(&world).await;
    assert_eq!(world.value("select count(*) from restante.message").await, "0");
}

#[tokio::test]
async fn events_that_name_a_batch_go_with_its_key() {
    let world = told().await;
    world
        .sql(&format!(
            "insert into restante.batch (id, status, succeeded, created_at, ended_at, first_seen_at, complete_at, given_up_because)
             values ('msgbatch_{KEY}', 'ended', 1, now() - interval '28 days', now() - interval '27 days', now(), null, '{CANARY}')"
        ))
        .await;
    world
        .sql(&format!(
            "select restante.insert_event('batch.at_risk:msgbatch_{KEY}', 'batch.at_risk', null, null, now(),
                                          '{{\"batch_id\": \"msgbatch_{KEY}\"}}', null, null, null, 'worker'),
                    restante.cancel_batch('msgbatch_{KEY}', 'anthropic', 'sql')"
        ))
        .await;
    world.sql("update restante.outbox set status = 'cancelled' where type = 'batch.at_risk'").await;
    world.sql(&format!("update restante.outbox set last_error = '{CANARY}'")).await;
    answer(&world).await;
    world.sql("delete from restante.endpoint where name = 'endc'").await;

    forget(&world, &format!("key => 'msgbatch_{KEY}'")).await;
    world.sql("update restante.outbox set status = 'cancelled' where type = 'resource.forget'").await;
    erase_all(&world).await;

    assert_eq!(types(&world).await, "");
    assert_eq!(world.value("select count(*) from restante.endpoint_delivery").await, "0");
    empty_of(&world, &[CANARY]).await;
    let left = files_with(&world, KEY).await;
    // And samples of them.
    let identifiers = ["batch", "batch_pk", "outbox_seen", "outbox_seen_once", "pg_statistic"];
    assert!(left.iter().all(|file| identifiers.contains(&file.as_str())), "only identifiers stay: {left:?}");
}

#[tokio::test]
async fn an_alarm_names_the_kind_of_an_error_and_keeps_no_word_of_it() {
    let world = told().await;
    look(&world).await;
    world
        .sql(&format!(
            "insert into restante.outbox (event_id, type, key, payload, status, run_at, outcome, kind, last_error, received_at)
             values ('t', 'test.ledger', '{KEY}', '{{}}', 'retry', now() + interval '5 minutes', 'trouble', 'account', '401 {CANARY} {KEY}',
                     now() - interval '1 day')"
        ))
        .await;
    look(&world).await;
    world.sql("update restante.health_alarm set noticed_at = noticed_at - interval '6 minutes'").await;
    look(&world).await;
    let sentence = "select payload->>'sentence' from restante.outbox where type = 'health.raised'";
    assert_eq!(
        world.value(sentence).await,
        "1 event of the account anthropic cannot go on because something is wrong with us, or with the API (account)."
    );
    let shown = "select sentence from restante.health where question = 'trouble'";
    assert!(world.value(shown).await.contains(CANARY), "who looks sees all of it");

    world
        .sql("update restante.outbox set status = 'cancelled' where type in ('health.raised', 'notify.endc')")
        .await;
    forget(&world, &format!("key => '{KEY}'")).await;
    erase_all(&world).await;
    assert_eq!(types(&world).await, "health.raised notify.endc", "the alarm itself stays");
    empty_of(&world, &[CANARY, KEY]).await;
}

#[tokio::test]
async fn an_alarm_of_a_release_that_repeated_errors_goes_with_the_key_in_it() {
    let world = told().await;
    for (key, id) in [(KEY, 1), ("customer_8", 2)] {
        world
            .sql(&format!(
                "select restante.store_alarm_event({id}, 'health.raised', 'trouble', 'anthropic', 'The API said: no {key}', 'see')"
            ))
            .await;
    }
    answer(&world).await;
    world.sql("update restante.outbox set status = 'cancelled' where finished_at = 'infinity'").await;

    forget(&world, &format!("key => '{KEY}'")).await;
    erase_all(&world).await;

    assert_eq!(types(&world).await, "health.raised notify.endc");
    assert_eq!(world.value("select count(*) from restante.endpoint_delivery").await, "1");
    empty_of(&world, &[KEY]).await;
}

#[tokio::test]
async fn what_the_api_said_of_a_key_is_not_kept_by_the_breaker_or_the_reconciler() {
    let world = World::new().await;
    let opens = format!("select restante.open_breaker('anthropic', 'messages', 'account', 'no {KEY}', 0)");
    assert_eq!(world.value(&opens).await, "opened");
    let closes = "select restante.end_probe('anthropic', 0, 'messages', true, null, null)";
    assert_eq!(world.value(closes).await, "closed");
    assert_eq!(world.value("select concat(said) from restante.api_breaker").await, "", "it is closed");
    let opens = format!("select restante.open_breaker('anthropic', 'messages', 'account', 'no {KEY}', 2)");
    assert_eq!(world.value(&opens).await, "opened");
    world
        .sql(&format!(
            "insert into restante.reconcile_state (account, kind, since, every, fault) values ('anthropic', 'session', now(), '1 h', 'no {KEY}')"
        ))
        .await;
    world.sql("analyze").await;

    forget(&world, &format!("key => '{KEY}'")).await;
    erase_all(&world).await;

    assert_eq!(world.value("select cardinality(parts) from restante.api_breaker").await, "1", "it is open");
    empty_of(&world, &[KEY]).await;
}
