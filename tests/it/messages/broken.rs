//! Answers that break off: another attempt asks anew, and nothing of the first becomes part of the answer.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Semaphore;

use super::{PATH, api_at, attempts, events, send, state, work, work_to_rest, written};
use crate::support::api::{Answer, ScriptedApi};
use crate::support::{World, eventually};

/// An answer that breaks off after its first text, with this event or none.
fn broken_by(error: Option<&str>) -> Answer {
    let mut begun = events(&["Lost text. "]);
    begun.truncate(4);
    begun.extend(
        error.map(|kind| json!({ "type": "error", "error": { "type": kind, "message": "scripted" } })),
    );
    Answer::events(written(&begun))
}

/// A whole answer.
fn whole() -> Answer {
    Answer::events(written(&events(&["The ", "answer."])))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_is_asked_for_anew_and_never_joined() {
    for (what, broken) in [
        ("overloaded", broken_by(Some("overloaded_error"))),
        ("api error", broken_by(Some("api_error"))),
        ("timeout", broken_by(Some("timeout_error"))),
        ("rate limit", broken_by(Some("rate_limit_error"))),
        ("early close", broken_by(None)),
        ("cut", broken_by(None).then_reset()),
        ("silence", broken_by(None).then_silence()),
    ] {
        let api = ScriptedApi::new().await;
        api.answer_once(PATH, [broken]);
        api.answer(PATH, whole());
        let world = World::new().await;
        let id = send(&world, "Hi", ", partial => true").await;

        work(&world, &api_at(&api.origin)).await;
        let between =
            "select concat_ws(' ', status, attempt, reason is not null, text) from restante.message";
        assert_eq!(world.value(between).await, "waiting 1 t", "{what}");
        let used = "select concat_ws(' ', input_tokens, message_id, error is not null) from restante.message_attempt";
        assert_eq!(world.value(used).await, "12 msg_scripted t", "{what}");
        work_to_rest(&world, &api_at(&api.origin)).await;

        assert_eq!(state(&world, id).await, "done 2 The answer.", "{what}");
        assert_eq!(attempts(&world, id).await, "cut? answered", "{what}");
        assert_eq!(api.bodies().len(), 2, "{what}");
        let dead = "select count(*) from restante.message_chunk where attempt = 1";
        assert_eq!(world.value(dead).await, "0", "{what}");
        let visible = "select attempts_that_may_be_paid from restante.message_overview";
        assert_eq!(world.value(visible).await, "2", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_answer_never_came_is_sent_again_and_may_have_been_paid() {
    let api = ScriptedApi::new().await;
    api.answer_once(PATH, [Answer::bytes("").then_reset(), Answer::bytes("HTTP/1.1 200 O")]);
    api.answer(PATH, whole());
    let world = World::new().await;
    let id = send(&world, "Hi", "").await;

    work_to_rest(&world, &api_at(&api.origin)).await;

    assert_eq!(state(&world, id).await, "done 3 The answer.");
    assert_eq!(attempts(&world, id).await, "lost? lost? answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_the_middle_of_an_answer_is_final() {
    let api = ScriptedApi::new().await;
    api.answer(PATH, broken_by(Some("invalid_request_error")));
    let world = World::new().await;
    let id = send(&world, "Hi", "").await;

    work_to_rest(&world, &api_at(&api.origin)).await;

    assert_eq!(state(&world, id).await, "failed 1");
    assert_eq!(attempts(&world, id).await, "cut?");
    assert_eq!(world.value("select error_type from restante.message").await, "invalid_request_error");
    let dead = "select status from restante.outbox where type = 'message.send'";
    assert_eq!(world.value(dead).await, "dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_in_the_middle_of_an_answer_leaves_the_message_waiting() {
    let api = ScriptedApi::new().await;
    api.answer_once(PATH, [broken_by(Some("authentication_error"))]);
    api.answer(PATH, whole());
    let world = World::new().await;
    let id = send(&world, "Hi", "").await;

    work(&world, &api_at(&api.origin)).await;
    let waits = "select concat_ws(' ', m.status, o.status, o.outcome) from restante.message as m, restante.outbox_live as o";
    assert_eq!(world.value(waits).await, "waiting retry trouble");

    work_to_rest(&world, &api_at(&api.origin)).await;
    assert_eq!(state(&world, id).await, "done 2 The answer.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_sent_as_often_as_it_may_be_fails_and_can_be_sent_again() {
    let api = ScriptedApi::new().await;
    api.answer(PATH, broken_by(None));
    let world = World::new().await;
    let id = send(&world, "Hi", ", attempts_max => 3").await;

    work_to_rest(&world, &api_at(&api.origin)).await;

    assert_eq!(state(&world, id).await, "failed 3");
    assert_eq!(attempts(&world, id).await, "cut? cut? cut?");
    let reason = world.value("select reason from restante.message").await;
    assert!(reason.starts_with("it was sent 3 times; the last time: "), "{reason}");
    let told = "select string_agg(concat_ws(' ', type, status), ', ' order by id) from restante.outbox";
    assert_eq!(world.value(told).await, "message.send dead, message.failed ignored");

    api.answer(PATH, whole());
    world.sql("update restante.message set status = 'waiting'").await;
    work_to_rest(&world, &api_at(&api.origin)).await;
    assert_eq!(state(&world, id).await, "done 4 The answer.");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_for_whoever_has_locked_its_message() {
    let api = ScriptedApi::new().await;
    let gate = Arc::new(Semaphore::new(0));
    api.answer(PATH, whole().held_at(200, &gate));
    let world = Arc::new(World::new().await);
    let id = send(&world, "Hi", "").await;
    let working = tokio::spawn({
        let (world, api) = (Arc::clone(&world), api_at(&api.origin));
        async move { work(&world, &api).await }
    });
    eventually("the answer is under way", async || (state(&world, id).await == "sending 1").then_some(()))
        .await;

    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("select from restante.message for update").execute(&mut *tx).await.unwrap();
    gate.add_permits(1);
    world.somebody_waits_for_a_lock().await;
    tx.rollback().await.unwrap();

    working.await.unwrap();
    assert_eq!(state(&world, id).await, "done 1 The answer.");
    assert_eq!(api.bodies().len(), 1);
}
