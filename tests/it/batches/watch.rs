//! Batches that have not ended: the worker watches each until it has, even if no webhook ever comes.

use super::*;
use crate::support::api::{Answer, ago, results_path};

/// The events about a batch that did not come from webhooks, with their status and how often they failed.
async fn watches(world: &World) -> String {
    world
        .value(
            "select string_agg(concat_ws(' ', event_id, status, attempt), ', ' order by id)
               from restante.outbox where source <> 'webhook'",
        )
        .await
}

#[tokio::test]
async fn a_batch_that_has_not_ended_is_snoozed_and_watched() {
    let (world, api) = start().await;
    api.batch(&api.in_progress("b", 4));
    hear_of(&world, "b").await;

    work(&world, &api).await;

    assert_eq!(fate(&world, "wevt_b").await, NOT_ENDED);
    assert_eq!(failures(&world, "wevt_b").await, "0");
    assert_eq!(watches(&world).await, "batch.poll:b retry 0");
    let waits =
        "select bool_and(run_at between now() + interval '45 seconds' and now() + interval '66 seconds')
                   from restante.outbox";
    assert_eq!(world.value(waits).await, "true");
    let overview =
        "select concat_ws(' ', status, requests, results_stored, progress) from restante.batch_overview";
    assert_eq!(world.value(overview).await, "in_progress 4 0 under way");
    assert_eq!(api.times_asked(&results_path("b")), 0);
}

#[tokio::test]
async fn a_webhook_that_came_too_early_has_the_results_stored_in_the_end() {
    let (world, api) = start().await;
    api.batch(&api.in_progress("b", 4));
    hear_of(&world, "b").await;
    work(&world, &api).await;

    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    work_later(&world, &api).await;

    assert_eq!(fate(&world, "wevt_b").await, "done");
    assert_eq!(complete(&world).await, "1");
    assert_eq!(watches(&world).await, "batch.poll:b done 1, batch.ended:b done 1");
    assert_eq!(api.times_asked(&results_path("b")), 1);
}

#[tokio::test]
async fn a_batch_that_was_inserted_by_hand_is_watched_and_its_results_arrive_without_any_webhook() {
    let (world, api) = start().await;
    api.batch(&api.in_progress("b", 4));
    world.sql("insert into restante.batch (id) values ('b')").await;

    work(&world, &api).await;
    assert_eq!(watches(&world).await, "batch.poll:b retry 0");
    api.batch(&with(api.in_progress("b", 4), json!({ "processing_status": "canceling" })));
    work_later(&world, &api).await;
    assert_eq!(world.value("select status from restante.batch").await, "canceling");

    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    work_later(&world, &api).await;

    assert_eq!(watches(&world).await, "batch.poll:b done 1, batch.ended:b done 1");
    assert!(stored(&world, "b").await.starts_with("complete, 4 results"));
}

#[tokio::test]
async fn a_complete_batch_is_not_downloaded_again() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    hear_of(&world, "b").await;
    work(&world, &api).await;

    let again = json!({ "id": "evt_again", "type": "batch.completed", "data": { "batch_id": "b" } });
    world.receive_body(&again).await;
    world.sql("select restante.begin_standing_job('batch.poll', 'b')").await;
    world.sql("update restante.outbox set status = 'pending' where event_id = 'wevt_b'").await;
    work(&world, &api).await;

    assert_eq!(world.value("select string_agg(distinct status, ', ') from restante.outbox").await, "done");
    assert_eq!(api.heads().len(), 2, "the object and its results, once each");
}

#[tokio::test]
async fn a_batch_that_should_have_ended_long_ago_is_complained_about_and_still_watched() {
    let (world, api) = start().await;
    let overdue = json!({ "created_at": ago(3 * 86400), "expires_at": ago(2 * 86400) });
    api.batch(&with(api.in_progress("b", 4), overdue));
    world.sql("insert into restante.batch (id) values ('b')").await;

    work(&world, &api).await;

    let expected = "retry: the batch should have ended a day ago, and the API says that it has not";
    assert_eq!(fate(&world, "batch.poll:b").await, expected);
    assert_eq!(failures(&world, "batch.poll:b").await, "0");

    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    work_later(&world, &api).await;
    assert_eq!(complete(&world).await, "1");
}

#[tokio::test]
async fn a_status_of_a_new_kind_is_no_end() {
    let (world, api) = start().await;
    api.batch(&with(api.in_progress("b", 4), json!({ "processing_status": "warming_up" })));
    hear_of(&world, "b").await;

    work(&world, &api).await;

    assert_eq!(fate(&world, "wevt_b").await, NOT_ENDED);
    assert_eq!(world.value("select status from restante.batch").await, "warming_up");
}

#[tokio::test]
async fn an_answer_that_is_older_than_the_end_does_not_begin_a_batch_again() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", [9, 0, 0, 0]));
    api.results("b", Answer::stream(one_of_each()));
    hear_of(&world, "b").await;
    work(&world, &api).await;

    // As a stale cache of the API may answer.
    api.batch(&api.in_progress("b", 9));
    work_later(&world, &api).await;

    let batch =
        "select concat_ws(' ', status, processing, succeeded, ended_at is not null) from restante.batch";
    assert_eq!(world.value(batch).await, "ended 0 9 t");
}

#[tokio::test]
async fn a_watch_outlives_an_outage_of_days() {
    let (world, api) = start().await;
    api.answer("/v1/messages/batches/b", Answer::refusal(500, "api_error", ""));
    world.sql("insert into restante.batch (id) values ('b')").await;
    // Attempts are up to six hours apart by then.
    for _ in 0..40 {
        work_later(&world, &api).await;
    }
    assert!(fate(&world, "batch.poll:b").await.starts_with("retry: "));

    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    work_later(&world, &api).await;

    assert_eq!(complete(&world).await, "1");
}
