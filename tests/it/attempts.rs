//! What each answer of a handler does to its event.

use expect_test::expect;
use restante::handler::{self, Context, Handler};
use restante::registry::Registry;
use serde_json::json;

use crate::support::{Ledger, World};

#[tokio::test]
async fn an_event_that_was_handled_is_done_together_with_what_was_written() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({})).await;

    world.work().await;

    expect![["a done, attempt 1\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.ledger().await, ["a"]);
}

#[tokio::test]
async fn a_second_delivery_changes_nothing_also_after_the_event_is_done() {
    let world = World::new().await;
    assert_eq!(world.receive("a", "k", 0, json!({})).await, 1);
    assert_eq!(world.receive("a", "k", 0, json!({})).await, 0);
    world.work().await;

    assert_eq!(world.receive("a", "k", 0, json!({})).await, 0);
    assert_eq!(world.receive("a", "k", 30, json!({})).await, 0, "nor with another time in it");
    world.work().await;

    expect![["a done, attempt 1\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.ledger().await, ["a"]);
}

#[tokio::test]
async fn a_failed_attempt_writes_nothing_and_is_made_again() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({ "fail_until_attempt": 2 })).await;

    world.work().await;
    expect![["a retry, attempt 1\n"]].assert_eq(&world.outbox().await);
    assert!(world.ledger().await.is_empty());

    world.wait_for_retries().await;
    world.work().await;
    expect![["a done, attempt 2\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.ledger().await, ["a"]);
    assert_eq!(
        world.value("select outcome || ': ' || error from restante.failure").await,
        "retryable: told to fail"
    );
}

#[tokio::test]
async fn an_event_whose_policy_is_spent_is_a_dead_letter_with_its_reason() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({ "fail_until_attempt": 99 })).await;

    for _ in 0..3 {
        world.work().await;
        world.wait_for_retries().await;
    }

    expect![["a dead, attempt 3\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.value("select last_error from restante.outbox_dead").await, "told to fail");
    assert_eq!(world.value("select count(*) from restante.failure").await, "3");
}

#[tokio::test]
async fn a_person_decides_how_many_attempts_are_made() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({ "fail_until_attempt": 99 })).await;
    world.sql("update restante.outbox set max_attempts = 1").await;

    world.work().await;

    expect![["a dead, attempt 1\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn what_will_never_work_is_dead_at_once_and_nothing_was_written() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({ "permanent": true })).await;

    world.work().await;

    expect![["a dead, attempt 1\n"]].assert_eq(&world.outbox().await);
    assert!(world.ledger().await.is_empty());
}

#[tokio::test]
async fn a_snooze_does_not_count_and_keeps_what_was_committed_on_the_way() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({ "snooze": true })).await;

    world.work().await;
    expect![["a retry, attempt 0\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.value("select count(*) from snoozed").await, "1");
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");

    world.wait_for_retries().await;
    world.work().await;
    expect![["a done, attempt 1\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_the_worker_goes_on() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({ "panic": true })).await;
    world.receive("b", "", 1, json!({})).await;

    world.work().await;

    expect![["a retry, attempt 1\nb done, attempt 1\n"]].assert_eq(&world.outbox().await);
    let error = world.value("select outcome || ': ' || error from restante.failure").await;
    assert_eq!(error, "panicked: the handler panicked: told to panic");
}

#[tokio::test]
async fn a_handler_without_progress_times_out() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({ "hang": true })).await;

    world.work().await;

    expect![["a retry, attempt 1\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.value("select error from restante.failure").await, "no progress within 3 s");
    assert!(world.ledger().await.is_empty());
}

#[tokio::test]
async fn a_type_that_nobody_handles_is_ignored_and_replays_once_somebody_does() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({})).await;

    world.work_with(Registry::new().register(Deaf)).await;
    expect![["a ignored, attempt 1\n"]].assert_eq(&world.outbox().await);

    world.sql("update restante.outbox set status = 'pending' where status = 'ignored'").await;
    world.work().await;
    expect![["a done, attempt 1\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn a_payload_that_does_not_fit_is_a_dead_letter_that_says_why() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({ "panic": "certainly" })).await;

    world.work().await;

    expect![["a dead, attempt 1\n"]].assert_eq(&world.outbox().await);
    let error = world.value("select last_error from restante.outbox_dead").await;
    assert!(error.contains("invalid type: string \"certainly\", expected a boolean"), "{error}");
}

#[tokio::test]
async fn a_subscriber_has_attempts_of_its_own_beside_the_types_own_handler() {
    let world = World::new().await;
    let registry = || Registry::new().register(Deaf).register(Ledger).subscribe("billing", Ledger);
    world.work_with(registry()).await;
    world.receive("a", "k", 0, json!({ "fail_until_attempt": 2 })).await;
    world.receive("b", "k", 1, json!({})).await;

    world.work_with(registry()).await;
    world
        .sql("update restante.outbox set run_at = now() where status = 'retry' and subscriber = 'billing'")
        .await;
    world.work_with(registry()).await;

    let rows = "select string_agg(concat_ws(' ', event_id, nullif(subscriber, ''), status), ', ' order by id)
                  from restante.outbox";
    let expected = "a retry, a billing done, b blocked, b billing done";
    assert_eq!(world.value(rows).await, expected, "each waits for its own failures only");
}

/// Handles none of the types that these tests send.
struct Deaf;

impl Handler for Deaf {
    const EVENT_TYPES: &'static [&'static str] = &["test.unheard_of"];
    type Payload = serde_json::Value;

    async fn handle(&self, _: &mut Context<'_>, _: Self::Payload) -> handler::Result {
        Ok(())
    }
}
