//! A look that finds no fresh answer: it waits for no slow panel.

use futures_util::future::join_all;

use super::{get_once, login_url, panel, worker};
use crate::support::{World, eventually};

/// Keeps everybody from reading what people did.
async fn lock_operations(world: &World) -> sqlx::PgTransaction<'static> {
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::query("lock table restante.operation in access exclusive mode").execute(&mut *lock).await.unwrap();
    lock
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_that_waits_for_a_lock_holds_up_no_other_and_has_its_answer_later() {
    let world = World::new().await;
    let lock = lock_operations(&world).await;
    let worker = worker(&world, &[]).await;

    let page = eventually("a page that has all but one panel", async || {
        let text = get_once(&worker, "/").await.text;
        let is_there = panel(&text, "operations").contains("This is being looked up.")
            && panel(&text, "safe").contains("answers")
            && panel(&text, "work").contains("Nothing waits");
        is_there.then_some(text)
    })
    .await;

    assert!(
        page.contains("http-equiv=\"refresh\" content=\"1\""),
        "without a script it is soon asked again: {page}"
    );
    assert!(!panel(&page, "operations").contains("Nobody"), "nothing is said before it is known: {page}");
    lock.rollback().await.unwrap();
    eventually("the panel that was missing", async || {
        let text = get_once(&worker, "/").await.text;
        (panel(&text, "operations").contains("Nobody has changed anything yet.")
            && !text.contains(" data-awaited "))
        .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_look_finds_what_the_worker_asked_at_its_start() {
    let world = World::new().await;
    world.sql("insert into restante.operation (who, what, of_what, how_many) values ('grace', 'pause', 'order.*', 4)").await;
    let mut worker = worker(&world, &[]).await;
    worker.until_logged("the ops page has asked for each of its panels once").await;
    // From now on nobody can ask.
    let lock = lock_operations(&world).await;

    let first = get_once(&worker, "/").await.text;

    assert!(panel(&first, "operations").contains("grace"), "{first}");
    lock.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_look_they_ask_each_question_once() {
    let world = World::new().await;
    let lock = lock_operations(&world).await;
    let worker = worker(&world, &[]).await;
    let waits = "select count(*) from pg_stat_activity
                  where application_name = 'restante page' and datname = current_database() and wait_event_type = 'Lock'";
    eventually("a question that waits for the lock", async || {
        (world.value(waits).await == "1").then_some(())
    })
    .await;

    let looks = join_all((0..40).map(|_| get_once(&worker, "/"))).await;

    assert!(
        looks.iter().all(|look| look.status == 200 && !panel(&look.text, "operations").contains("Nobody"))
    );
    let waiting = world.value(waits).await;
    assert!(waiting == "1" || waiting == "0", "{waiting} ask the same");
    lock.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_not_read_makes_no_errors_in_the_log_of_the_server_at_the_start() {
    let world = World::new().await;
    let (stranger, url) = login_url(&world, &["restante_ingest"]).await;
    let mut running = worker(&world, &[("RESTANTE_OPS_DATABASE_URL", &url)]).await;

    running.until_logged("nobody can read on the ops page yet").await;

    assert!(!running.log().contains("the ops page has asked"), "{}", running.log());
    drop(running);
    stranger.drop(&world).await;
}
