//! Which key is stuck, and a key that a person holds.

use std::time::Duration;

use expect_test::expect;
use restante::internals::outbox::outcome::{Failure, Fault, Verdict};
use restante::internals::outbox::settle::fail;
use restante::registry::Registry;
use serde_json::json;

use super::{lines, refused};
use crate::support::{Ledger, World};

#[tokio::test]
async fn a_key_is_stuck_if_the_event_in_front_does_not_finish_and_others_wait_behind_it() {
    let world = World::new().await;
    for (key, ending) in [("retry", false), ("dead", true)] {
        world.receive(&format!("{key}1"), key, 1, json!({})).await;
        let claimed = world.claim(1).await;
        let failure =
            Failure { fault: Fault::Retryable, kind: "handler", reason: "no such order".to_owned() };
        let verdict = match ending {
            true => Verdict::Dead { failure, holds_key: true },
            false => Verdict::Retry { failure, wait: Duration::from_secs(600) },
        };
        assert!(fail(&world.pool, claimed[0].lease, &verdict).await.unwrap());
        world.receive(&format!("{key}2"), key, 2, json!({})).await;
    }
    for name in ["gone1", "gone2", "moves1", "moves2", "unclaimed1", "unclaimed2"] {
        world.receive(name, name.trim_end_matches(['1', '2']), 1, json!({})).await;
    }
    world.receive("alone", "alone", 0, json!({})).await;
    assert_eq!(world.claim(3).await.len(), 3);
    world
        .sql("update restante.outbox_live set lease_until = clock_timestamp() where event_id = 'gone1'")
        .await;
    world.sql("update restante.outbox_live set received_at = received_at - interval '10 minutes' where event_id in ('alone', 'unclaimed1')").await;
    world.may_leave_running();

    let shown = "select key, front, front_status, reason, waiting from restante.key_stuck order by key";
    expect![[r#"
        {"key":"dead","front":"dead1","front_status":"dead","reason":"the event in front was given up, and its handler keeps the key: no such order","waiting":1}
        {"key":"gone","front":"gone1","front_status":"running","reason":"the worker of the event in front is gone","waiting":1}
        {"key":"retry","front":"retry1","front_status":"retry","reason":"the event in front is tried again: no such order","waiting":1}
        {"key":"unclaimed","front":"unclaimed1","front_status":"pending","reason":"no worker has claimed the event in front for a minute","waiting":1}
    "#]]
    .assert_eq(&lines(&world, shown).await);
}

#[tokio::test]
async fn a_key_that_is_paused_runs_nothing_until_it_is_resumed_and_then_all_in_order() {
    let world = World::new().await;
    world.receive("k1", "k", 1, json!({})).await;
    world.receive("k2", "k", 2, json!({})).await;

    assert_eq!(world.value("select restante.pause(key => 'k', reason => 'a look at it')").await, "2");
    world.receive("k3", "k", 3, json!({})).await;
    world.receive("k0", "k", 0, json!({})).await;
    world.receive("other", "m", 1, json!({})).await;
    world.work().await;

    assert_eq!(world.ledger().await, ["other"]);
    let reasons = "select event_id, waits_for, reason, next_attempt_at from restante.outbox_waiting where type = 'test.ledger' order by event_id";
    expect![[r#"
        {"event_id":"k0","waits_for":"person","reason":"held by restante.pause(key => 'k'): a look at it","next_attempt_at":null}
        {"event_id":"k1","waits_for":"person","reason":"held by restante.pause(key => 'k'): a look at it","next_attempt_at":null}
        {"event_id":"k2","waits_for":"person","reason":"held by restante.pause(key => 'k'): a look at it","next_attempt_at":null}
        {"event_id":"k3","waits_for":"person","reason":"held by restante.pause(key => 'k'): a look at it","next_attempt_at":null}
    "#]]
    .assert_eq(&lines(&world, reasons).await);
    assert_eq!(
        lines(&world, "select key, keys_of, subscriber, reason, waiting from restante.paused_key").await,
        "{\"key\":\"k\",\"keys_of\":\"anthropic\",\"subscriber\":\"\",\"reason\":\"a look at it\",\"waiting\":4}\n"
    );

    assert_eq!(world.value("select restante.resume(key => 'k')").await, "4");
    world.work().await;
    assert_eq!(world.ledger().await, ["other", "k0", "k1", "k2", "k3"]);
}

#[tokio::test]
async fn a_key_may_be_paused_before_it_has_events_and_holds_those_of_each_subscriber() {
    let world = World::new().await;
    let registry = || Registry::new().register(Ledger).subscribe("billing", Ledger);
    world.work_with(registry()).await;

    assert_eq!(world.value("select restante.pause(key => 'k')").await, "0");
    world.receive("k1", "k", 1, json!({})).await;
    world.work_with(registry()).await;
    assert!(world.ledger().await.is_empty());

    assert_eq!(world.value("select restante.resume(key => 'k')").await, "2");
    world.work_with(registry()).await;
    assert_eq!(world.ledger().await, ["k1", "k1"]);
}

#[tokio::test]
async fn what_runs_or_is_tried_again_comes_before_and_after_a_pause_of_its_key() {
    let world = World::new().await;
    world.receive("runs", "j", 1, json!({})).await;
    let claimed = world.claim(1).await;
    world.receive("next", "j", 2, json!({})).await;
    world.receive("retry", "k", 1, json!({ "fail_until_attempt": 2 })).await;
    world.work().await;
    world.value("select restante.pause(key => 'j') + restante.pause(key => 'k')").await;

    let done = restante::internals::outbox::settle::Finished {
        lease: claimed[0].lease,
        finish: restante::internals::outbox::outcome::Finish::Done,
        result: None,
        delivered: None,
    };
    restante::internals::outbox::settle::finish(&world.pool, &[done], None).await.unwrap();
    world.wait_for_retries().await;
    world.work().await;
    assert!(world.ledger().await.is_empty());

    world.value("select restante.resume(key => 'j') + restante.resume(key => 'k')").await;
    world.work().await;
    assert_eq!(
        world.value("select string_agg(event_id, ' ' order by event_id) from ledger").await,
        "next retry"
    );
}

#[tokio::test]
async fn the_same_key_of_another_account_goes_on() {
    let world = World::new().await;
    world.value("select restante.enqueue('test.ledger', '{}', key => 'k', event_id => 'ours')").await;
    world.value("select restante.enqueue('test.ledger', '{}', key => 'k', event_id => 'theirs', account => 'staging')").await;

    assert_eq!(world.value("select restante.pause(key => 'k', keys_of => 'staging')").await, "1");

    let states = "select string_agg(event_id || ' ' || status, ', ' order by event_id) from restante.outbox where type = 'test.ledger'";
    assert_eq!(world.value(states).await, "ours pending, theirs blocked");
}

#[tokio::test]
async fn a_pause_without_a_name_with_two_or_twice_is_refused() {
    let world = World::new().await;
    world.value("select restante.pause(key => 'k')").await;
    for (call, reason) in [
        ("restante.pause()", "type is missing"),
        ("restante.pause('')", "type is missing"),
        ("restante.pause('x', key => 'k')", "exclude each other"),
        ("restante.pause(key => '')", "key is missing"),
        ("restante.pause(key => 'k')", "the key k is paused already"),
        ("restante.resume(key => 'm')", "the key m is not paused"),
        ("restante.resume(subscriber => 'billing')", "the subscriber:billing is not paused"),
        ("restante.resume()", "type is missing"),
    ] {
        let told = refused(&world, &format!("select {call}")).await;
        assert!(told.contains(reason), "{call}: {told}");
    }
}
