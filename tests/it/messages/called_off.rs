//! Messages that a person or the application calls off, before and while they are answered.

use std::sync::Arc;

use sqlx::AssertSqlSafe;
use tokio::sync::Semaphore;

use super::{PATH, api_at, attempts, events, send, state, work, work_to_rest, written};
use crate::support::api::{Answer, ScriptedApi};
use crate::support::{World, eventually};

fn whole() -> Answer {
    Answer::events(written(&events(&["The answer."])))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_called_off_before_it_goes_out_is_never_sent() {
    let api = ScriptedApi::new().await;
    api.answer(PATH, whole());
    let world = World::new().await;
    let id = send(&world, "Hi", "").await;
    world.sql("update restante.message set status = 'cancelled'").await;

    work(&world, &api_at(&api.origin)).await;
    assert_eq!(state(&world, id).await, "cancelled 0");
    assert_eq!(api.bodies().len(), 0);
    let told = "select string_agg(concat_ws(' ', type, status), ', ' order by id) from restante.outbox";
    assert_eq!(world.value(told).await, "message.send done, message.cancelled ignored");

    world.sql("update restante.message set status = 'waiting'").await;
    work_to_rest(&world, &api_at(&api.origin)).await;
    assert_eq!(state(&world, id).await, "done 1 The answer.");
}

/// A world in which a message is being answered, up to some byte of the answer.
async fn under_way(
    api: &ScriptedApi,
    gate: &Arc<Semaphore>,
) -> (Arc<World>, i64, tokio::task::JoinHandle<()>) {
    api.answer_once(PATH, [whole().held_at(400, gate)]);
    let world = Arc::new(World::new().await);
    let id = send(&world, "Hi", "").await;
    let working = tokio::spawn({
        let (world, api) = (Arc::clone(&world), api_at(&api.origin));
        async move { work(&world, &api).await }
    });
    eventually("the request has arrived", async || (api.bodies().len() == 1).then_some(())).await;
    (world, id, working)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_called_off_meanwhile_is_not_used_and_what_it_cost_stays_known() {
    let api = ScriptedApi::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let (world, id, working) = under_way(&api, &gate).await;

    world.sql("update restante.message set status = 'cancelled'").await;
    gate.add_permits(1);
    working.await.unwrap();

    assert_eq!(state(&world, id).await, "cancelled 1");
    assert_eq!(attempts(&world, id).await, "unused?");
    assert_eq!(world.value("select input_tokens from restante.message_attempt").await, "12");
    let event = "select status from restante.outbox where type = 'message.send'";
    assert_eq!(world.value(event).await, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_called_off_and_sent_again_while_it_is_answered_gets_the_later_answer() {
    let api = ScriptedApi::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let (world, id, working) = under_way(&api, &gate).await;
    api.answer(PATH, Answer::events(written(&events(&["Later."]))));

    world.sql("update restante.message set status = 'cancelled'").await;
    world.sql("update restante.message set status = 'waiting'").await;
    gate.add_permits(1);
    working.await.unwrap();
    work_to_rest(&world, &api_at(&api.origin)).await;

    assert_eq!(state(&world, id).await, "done 2 Later.");
    assert_eq!(attempts(&world, id).await, "unused? answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_mean_is_refused_with_what_to_do() {
    let api = ScriptedApi::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let (world, id, working) = under_way(&api, &gate).await;
    let refused = async |status: &str| {
        let update = format!("update restante.message set status = '{status}'");
        let error = sqlx::query(AssertSqlSafe(update)).execute(&world.pool).await.unwrap_err();
        error.into_database_error().unwrap().message().to_owned()
    };

    assert_eq!(refused("waiting").await, format!("message {id} is being sent"));
    assert_eq!(refused("failed").await, "a message fails by itself");
    assert!(refused("done").await.contains("message_done_has_its_answer"));
    gate.add_permits(1);
    working.await.unwrap();
    assert_eq!(refused("cancelled").await, format!("message {id} has its answer"));
}
