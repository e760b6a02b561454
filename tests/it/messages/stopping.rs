//! A worker that is told to stop while a message is being answered.

use std::sync::Arc;

use restante_playground::process::Signal;
use tokio::sync::Semaphore;

use super::{PATH, api_at, attempts, events, send, state, work_to_rest, written};
use crate::support::api::{Answer, ScriptedApi};
use crate::support::{Process, World, eventually};

/// A worker that is told to stop in the middle of an answer, which goes on when `gate` has a permit.
async fn told_to_stop(
    world: &World,
    api: &ScriptedApi,
    gate: &Arc<Semaphore>,
    drain_seconds: &str,
) -> (Process, i64) {
    let answer = Answer::events(written(&events(&["The ", "answer."])));
    api.answer_once(PATH, [answer.clone().held_at(500, gate)]);
    api.answer(PATH, answer);
    let id = send(world, "Hi", ", partial => true").await;
    let mut worker =
        Process::worker(&world.url, &api.origin, &[("RESTANTE_DRAIN_SECONDS", drain_seconds)]).await;
    eventually("the request has arrived", async || (api.bodies().len() == 1).then_some(())).await;
    worker.signal(Signal::Terminate);
    worker.until_logged("waiting for the attempts under way").await;
    (worker, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_worker_lets_its_streams_end() {
    let (api, world, gate) = (ScriptedApi::new().await, World::new().await, Arc::new(Semaphore::new(0)));
    let (mut worker, id) = told_to_stop(&world, &api, &gate, "60").await;

    gate.add_permits(1);

    assert_eq!(worker.ended().await.code(), Some(0));
    assert_eq!(state(&world, id).await, "done 1 The answer.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_end_in_time_is_lost_and_another_worker_asks_anew() {
    let (api, world, gate) = (ScriptedApi::new().await, World::new().await, Arc::new(Semaphore::new(0)));
    let (mut worker, id) = told_to_stop(&world, &api, &gate, "1").await;

    assert_eq!(worker.ended().await.code(), Some(0));
    assert_eq!(state(&world, id).await, "sending 1");
    work_to_rest(&world, &api_at(&api.origin)).await;

    assert_eq!(state(&world, id).await, "done 2 The answer.");
    assert_eq!(attempts(&world, id).await, "lost? answered");
}
