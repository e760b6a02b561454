//! What the API does not take: a fault of the message is final, and every other fault is waited out without an attempt.

use super::{PATH, api_at, attempts, events, send, state, work, work_to_rest, written};
use crate::support::World;
use crate::support::api::{Answer, ScriptedApi};

fn whole() -> Answer {
    Answer::events(written(&events(&["The answer."])))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_at_fault_fails_with_what_the_api_says_and_costs_nothing() {
    for (status, kind) in [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
    ] {
        let api = ScriptedApi::new().await;
        api.answer(PATH, Answer::refusal(status, kind, ""));
        let world = World::new().await;
        let id = send(&world, "Hi", "").await;

        work_to_rest(&world, &api_at(&api.origin)).await;

        assert_eq!(state(&world, id).await, "failed 1", "{status}");
        assert_eq!(attempts(&world, id).await, "refused", "{status}");
        let says = "select concat_ws(' ', error_type, reason like '%scripted%') from restante.message";
        assert_eq!(world.value(says).await, format!("{kind} t"), "{status}");
        let dead = "select status from restante.outbox where type = 'message.send'";
        assert_eq!(world.value(dead).await, "dead", "{status}");
        assert_eq!(api.bodies().len(), 1, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_ours_or_of_the_api_is_waited_out_and_uses_up_no_attempt() {
    for (status, kind) in [
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (429, "rate_limit_error"),
        (529, "overloaded_error"),
    ] {
        let api = ScriptedApi::new().await;
        api.answer_once(PATH, (0..3).map(|_| Answer::refusal(status, kind, "")));
        api.answer(PATH, whole());
        let world = World::new().await;
        let id = send(&world, "Hi", ", attempts_max => 1").await;

        work(&world, &api_at(&api.origin)).await;
        assert_eq!(state(&world, id).await, "waiting 0", "{status}");
        let waits = "select concat_ws(' ', status, outcome) from restante.outbox where type = 'message.send'";
        assert_eq!(world.value(waits).await, "retry trouble", "{status}");
        // A client of its own each time, as one that has just started: the one before leaves the API alone for a while.
        crate::support::eventually("the message has its answer", async || {
            world.wait_for_retries().await;
            work(&world, &api_at(&api.origin)).await;
            (state(&world, id).await == "done 1 The answer.").then_some(())
        })
        .await;

        assert_eq!(attempts(&world, id).await, "answered", "{status}");
        assert_eq!(api.bodies().len(), 4, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_cannot_be_reached_has_been_sent_nothing() {
    let world = World::new().await;
    let id = send(&world, "Hi", ", attempts_max => 1").await;

    work(&world, &api_at("http://127.0.0.1:9")).await;

    assert_eq!(state(&world, id).await, "waiting 0");
    assert_eq!(attempts(&world, id).await, "not sent");
    let api = ScriptedApi::new().await;
    api.answer(PATH, whole());
    work_to_rest(&world, &api_at(&api.origin)).await;
    assert_eq!(state(&world, id).await, "done 1 The answer.");
    assert_eq!(attempts(&world, id).await, "answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_can_not_have_a_message_sent() {
    let api = ScriptedApi::new().await;
    let world = World::new().await;
    let id = send(&world, "Hi", "").await;
    world.sql("delete from restante.outbox_live").await;
    let body = serde_json::json!({ "type": "event", "id": "evt_1", "created_at": "2026-11-01T12:00:00Z",
                                   "data": { "type": "message.send", "message": id } });
    world.receive_body(&body).await;

    work(&world, &api_at(&api.origin)).await;

    assert_eq!(state(&world, id).await, "waiting 0");
    let skipped = "select concat_ws(' ', status, result ->> 'skipped') from restante.outbox";
    assert_eq!(world.value(skipped).await, "done only restante.send_message() sends");
    assert_eq!(api.bodies().len(), 0);
}
