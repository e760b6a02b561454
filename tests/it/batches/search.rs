//! The search for batches that no webhook announced.

use restante::handlers::batch_reconcile;

use super::*;
use crate::support::api::{Answer, ago, results_path};

const SEARCHED: &str = "retry: the search for batches is done; this event begins the next one";
const FIRST_PAGE: &str = "/v1/messages/batches?limit=1000";

fn page(batches: &[Value], has_more: bool) -> Answer {
    let id = |batch: Option<&Value>| batch.map(|batch| batch["id"].clone());
    Answer::json(&json!({
        "data": batches, "has_more": has_more, "first_id": id(batches.first()), "last_id": id(batches.last()),
    }))
}

fn page_after(id: &str) -> String {
    format!("{FIRST_PAGE}&after_id={id}")
}

async fn start_search() -> (World, ScriptedApi) {
    let (world, api) = start().await;
    batch_reconcile::schedule(&world.pool).await.unwrap();
    (world, api)
}

/// An ended batch with its object and its results.
fn ended(api: &ScriptedApi, id: &str) -> Value {
    let batch = api.ended(id, ONE_OF_EACH);
    api.batch(&batch);
    api.results(id, Answer::stream(one_of_each()));
    batch
}

#[tokio::test]
async fn batches_that_nobody_told_of_are_found_on_every_page() {
    let (world, api) = start_search().await;
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| ended(&api, id));
    let running = api.in_progress("running", 4);
    api.batch(&running);
    api.answer(FIRST_PAGE, page(&[a, running], true));
    api.answer(&page_after("running"), page(&[b, c], true));
    api.answer(&page_after("c"), page(&[d], false));

    work(&world, &api).await;

    let progress = "select string_agg(id || ' ' || progress, ', ' order by id) from restante.batch_overview";
    assert_eq!(
        world.value(progress).await,
        "a complete, b complete, c complete, d complete, running under way"
    );
    assert_eq!(fate(&world, "batch.poll:running").await, NOT_ENDED);
    assert_eq!(fate(&world, "batch.reconcile").await, SEARCHED);
    let waits = "select extract(epoch from run_at - now()) between 280 and 300 from restante.outbox
                  where event_id = 'batch.reconcile'";
    assert_eq!(world.value(waits).await, "true");
}

#[tokio::test]
async fn a_search_that_finds_nothing_new_asks_for_nothing_more() {
    let (world, api) = start_search().await;
    let batches = ["a", "b"].map(|id| ended(&api, id));
    api.answer(FIRST_PAGE, page(&batches, false));
    work(&world, &api).await;
    let asked = api.heads().len();

    for _ in 0..3 {
        work_later(&world, &api).await;
    }

    assert_eq!(api.heads().len(), asked + 3, "the list, and nothing else");
    assert_eq!(api.times_asked(&results_path("a")), 1);
    assert_eq!(failures(&world, "batch.reconcile").await, "0");
}

#[tokio::test]
async fn what_has_vanished_is_not_asked_for_and_ends_the_search() {
    let (world, api) = start_search().await;
    let vanished = with(api.ended("vanished", ONE_OF_EACH), json!({ "created_at": ago(29 * 86400 + 60) }));
    let archived =
        with(api.ended("archived", ONE_OF_EACH), json!({ "archived_at": ago(60), "results_url": null }));
    let last_call = with(ended(&api, "last"), json!({ "created_at": ago(29 * 86400 - 3600) }));
    api.answer(FIRST_PAGE, page(&[last_call, archived, vanished], true));

    work(&world, &api).await;

    assert_eq!(complete(&world).await, "1");
    let ended = "select string_agg(event_id, ', ') from restante.outbox where type = 'batch.ended'";
    assert_eq!(world.value(ended).await, "batch.ended:last");
    assert_eq!(api.times_asked(&page_after("vanished")), 0);
    let waits = "select extract(epoch from run_at - now()) > 200 from restante.outbox where event_id = 'batch.reconcile'";
    assert_eq!(world.value(waits).await, "true", "until the next search");
}

#[tokio::test]
async fn a_batch_whose_webhook_is_a_dead_letter_gets_another_chance() {
    let (world, api) = start_search().await;
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(""));
    hear_of(&world, "b").await;
    world.sql("update restante.outbox set max_attempts = 1 where event_id = 'wevt_b'").await;
    api.answer(FIRST_PAGE, page(&[], false));
    work(&world, &api).await;
    assert_eq!(fate(&world, "wevt_b").await, "dead: 0 of 4 results are here");

    api.answer(FIRST_PAGE, page(&[ended(&api, "b")], false));
    work_later(&world, &api).await;

    assert_eq!(fate(&world, "batch.ended:b").await, "done");
    assert_eq!(complete(&world).await, "1");
}

#[tokio::test]
async fn a_search_that_breaks_off_in_the_middle_keeps_what_it_found() {
    let (world, api) = start_search().await;
    api.answer(FIRST_PAGE, page(&[ended(&api, "a")], true));
    api.answer(&page_after("a"), Answer::refusal(500, "api_error", ""));

    work(&world, &api).await;

    assert_eq!(complete(&world).await, "1");
    assert!(fate(&world, "batch.reconcile").await.starts_with("retry: the API cannot answer now: 500"));
}

#[tokio::test]
async fn a_search_is_never_given_up() {
    let (world, api) = start_search().await;
    api.answer(FIRST_PAGE, Answer::refusal(500, "api_error", ""));
    for _ in 0..100 {
        work_later(&world, &api).await;
    }
    assert!(fate(&world, "batch.reconcile").await.starts_with("retry: the API cannot answer now: 500"));

    api.answer(FIRST_PAGE, page(&[ended(&api, "a")], false));
    work_later(&world, &api).await;

    assert_eq!(complete(&world).await, "1");
    assert_eq!(fate(&world, "batch.reconcile").await, SEARCHED);
}

#[tokio::test]
async fn there_is_one_search_however_many_workers_start() {
    let (world, api) = start_search().await;
    api.answer(FIRST_PAGE, page(&[], false));
    batch_reconcile::schedule(&world.pool).await.unwrap();
    work(&world, &api).await;
    batch_reconcile::schedule(&world.pool).await.unwrap();

    work(&world, &api).await;

    assert_eq!(api.times_asked(FIRST_PAGE), 1);
    assert_eq!(world.value("select count(*) from restante.outbox").await, "1");
}

#[tokio::test]
async fn a_cursor_that_does_not_move_is_not_followed_for_ever() {
    let (world, api) = start_search().await;
    api.answer(FIRST_PAGE, page(&[ended(&api, "a")], true));
    api.answer(&page_after("a"), page(&[ended(&api, "a")], true));

    work(&world, &api).await;

    assert_eq!(api.times_asked(&page_after("a")), 1);
    assert_eq!(complete(&world).await, "1");
}
