//! Two workers: one is frozen in the middle of an answer, and its lease runs out.

use std::sync::Arc;

use restante_playground::process::Signal;
use tokio::sync::Semaphore;

use super::{PATH, api_at, attempts, events, send, state, work_to_rest, written};
use crate::support::api::{Answer, ScriptedApi};
use crate::support::{Process, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_up_after_its_lease_adds_nothing_to_the_answer_of_another() {
    let api = ScriptedApi::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let frozen = written(&events(&["Dead ", "text."]));
    let held = frozen.windows(5).position(|bytes| bytes == b"text.").unwrap();
    api.answer_once(PATH, [Answer::events(frozen).held_at(held, &gate)]);
    api.answer(PATH, Answer::events(written(&events(&["The ", "answer."]))));
    let world = World::new().await;
    let id = send(&world, "Hi", ", partial => true").await;
    let mut first = Process::worker(&world.url, &api.origin, &[]).await;
    let shown = "select coalesce(string_agg(text, '' order by attempt, seq), '') from restante.message_chunk";
    eventually("some of the first answer", async || (world.value(shown).await == "Dead ").then_some(()))
        .await;

    first.signal(Signal::Stop);
    world.let_leases_run_out().await;
    work_to_rest(&world, &api_at(&api.origin)).await;
    assert_eq!(state(&world, id).await, "done 2 The answer.");
    first.signal(Signal::Continue);
    gate.add_permits(1);
    // It shows that it is awake by an answer of its own.
    let next = send(&world, "Hi again", "").await;
    eventually("the first worker works again", async || {
        (state(&world, next).await == "done 1 The answer.").then_some(())
    })
    .await;

    assert_eq!(state(&world, id).await, "done 2 The answer.");
    assert_eq!(attempts(&world, id).await, "lost? answered");
    assert_eq!(world.value(shown).await, "The answer.");
    let told = "select count(*) from restante.outbox where type = 'message.completed'";
    assert_eq!(world.value(told).await, "2");
}
