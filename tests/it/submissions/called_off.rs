//! Submissions that are called off once the API has them: what had succeeded is kept, and paid for once.

use serde_json::json;

use crate::batches::{ONE_OF_EACH, one_of_each, start, work};
use crate::support::World;
use crate::support::api::{Answer, ScriptedApi};

const CANCEL: &str = "/v1/messages/batches/b/cancel";

/// A submission of four requests whose batch `b` the API has, and that would have some of them sent again by itself.
async fn submitted(world: &World) {
    let requests = json!(["a", "b", "c", "d"].map(|id| json!({ "custom_id": id, "params": {} }))).to_string();
    sqlx::query("select restante.submit_batch($1::json, name => 's', resubmit => '{retriable,canceled}')")
        .bind(requests)
        .execute(&world.pool)
        .await
        .unwrap();
    world.sql("update restante.submission_part set status = 'sending'").await;
    world.sql("update restante.submission_part set batch_id = 'b'").await;
}

async fn work_later(world: &World, api: &ScriptedApi) {
    world.wait_for_retries().await;
    work(world, api).await;
}

/// How often the API was asked to cancel the batch.
fn cancels(api: &ScriptedApi) -> usize {
    api.requests().iter().filter(|head| head.starts_with(&format!("POST {CANCEL} "))).count()
}

const STATUS: &str = "select concat_ws(' ', status, cancelled_at is not null) from restante.submission";
const CALL_OFF: &str = "update restante.submission set status = 'cancelled'";

#[tokio::test]
async fn a_submission_that_is_called_off_keeps_what_succeeded_and_is_complete_once_its_batch_is() {
    let (world, api) = start().await;
    api.batch(&api.in_progress("b", 4));
    let mut canceling = api.in_progress("b", 4);
    canceling["processing_status"] = json!("canceling");
    api.answer(CANCEL, Answer::json(&canceling));
    submitted(&world).await;
    work(&world, &api).await;

    world.sql(CALL_OFF).await;
    work(&world, &api).await;
    assert_eq!((world.value(STATUS).await.as_str(), cancels(&api)), ("cancelled t", 1));
    assert_eq!(world.value("select status from restante.batch").await, "canceling");
    let error = sqlx::query("select restante.resubmit('s')").execute(&world.pool).await.unwrap_err();
    assert!(error.to_string().contains("the submission s has been called off"), "{error}");
    // The same event once more asks once more, and changes nothing.
    world.sql("update restante.outbox set status = 'pending' where type = 'batch.cancel'").await;
    work(&world, &api).await;
    assert_eq!((world.value(STATUS).await.as_str(), cancels(&api)), ("cancelled t", 2));

    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    work_later(&world, &api).await;

    assert_eq!(world.value(STATUS).await, "complete t");
    let answers = "select string_agg(concat_ws(' ', custom_id, outcome, text), ', ' order by custom_id) from restante.batch_answer";
    assert_eq!(world.value(answers).await, "a succeeded paid, b errored, c canceled, d expired");
    // Nothing is sent again by itself, and a person may.
    assert_eq!(world.value("select count(*) from restante.submission_part").await, "1");
    world.sql("update restante.outbox set status = 'pending' where type = 'batch.cancel'").await;
    work(&world, &api).await;
    assert_eq!(cancels(&api), 2, "a complete batch is not cancelled");
    assert!(sqlx::query(CALL_OFF).execute(&world.pool).await.is_err(), "nothing is left to call off");
    assert_eq!(world.value("select restante.resubmit('s', 'canceled')").await, "1");
    assert_eq!(world.value(STATUS).await, "waiting f");
}

#[tokio::test]
async fn a_batch_that_ended_before_it_could_be_cancelled_is_fine() {
    let (world, api) = start().await;
    api.batch(&api.in_progress("b", 4));
    submitted(&world).await;
    work(&world, &api).await;

    api.answer(CANCEL, Answer::refusal(400, "invalid_request_error", ""));
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    world.sql(CALL_OFF).await;
    work(&world, &api).await;
    let cancel = "select status from restante.outbox where type = 'batch.cancel'";
    assert_eq!(world.value(cancel).await, "done");
    work_later(&world, &api).await;

    assert_eq!(world.value(STATUS).await, "complete t");
    assert_eq!(
        world.value("select count(*) from restante.batch_answer where outcome is not null").await,
        "4"
    );
}

#[tokio::test]
async fn a_part_that_was_on_its_way_when_its_submission_was_called_off_is_cancelled_too() {
    let (world, api) = start().await;
    let requests = json!([{ "custom_id": "a", "params": {} }]).to_string();
    sqlx::query("select restante.submit_batch($1::json, name => 's')")
        .bind(requests)
        .execute(&world.pool)
        .await
        .unwrap();
    world.sql("update restante.submission_part set status = 'sending'").await;
    world.sql(CALL_OFF).await;
    assert_eq!(world.value("select count(*) from restante.outbox where type = 'batch.cancel'").await, "0");

    world.sql("update restante.submission_part set batch_id = 'b'").await;
    api.batch(&api.in_progress("b", 1));
    api.answer(CANCEL, Answer::json(&api.in_progress("b", 1)));
    work(&world, &api).await;

    assert_eq!((world.value(STATUS).await.as_str(), cancels(&api)), ("cancelled t", 1));
}
