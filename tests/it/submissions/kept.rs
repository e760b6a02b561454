//! What the API keeps of batches, and for how long: results at risk are told of, and complete batches can be deleted there.

use std::time::Duration;

use restante::worker;
use tokio_util::sync::CancellationToken;

use super::{api_at, batches_of, registry, requests, submit, work, work_to_rest};
use crate::batches;
use crate::support::{SimulatedApi, World, eventually};

const NOTE: &str = "select restante.note_at_risk(array['anthropic'])";
const DELETE: &str = "select restante.delete_complete(array['anthropic'], '1 hour')";

#[tokio::test]
async fn a_batch_whose_results_are_at_risk_is_told_of_once() {
    let world = World::new().await;
    let of_account = "insert into restante.batch (id, account, created_at, ended_at, complete_at, given_up_because, first_seen_at)
       values ('soon', 'anthropic', now() - interval '23 days', null, null, null, now() - interval '23 days'),
              ('late', 'anthropic', now() - interval '2 days', now() - interval '1 day', null, null, now() - interval '2 days'),
              ('blind', 'anthropic', null, null, null, null, now() - interval '23 days'),
              ('staging', 'staging', now() - interval '23 days', null, null, null, now() - interval '23 days'),
              ('fresh', 'anthropic', now() - interval '2 hours', now() - interval '1 minute', null, null, now() - interval '2 hours'),
              ('found', 'anthropic', now() - interval '23 days', now() - interval '22 days', null, null, now()),
              ('runs', 'anthropic', now() - interval '2 hours', null, null, null, now() - interval '2 hours'),
              ('done', 'anthropic', now() - interval '23 days', now() - interval '22 days', now(), null, now() - interval '23 days'),
              ('given_up', 'anthropic', now() - interval '23 days', null, null, 'not wanted', now() - interval '23 days'),
              ('gone', 'anthropic', now() - interval '30 days', null, null, null, now() - interval '30 days')";
    world.sql(of_account).await;

    let shown = "select string_agg(id, ' ' order by id) from restante.batch_overview where at_risk";
    assert_eq!(world.value(shown).await, "blind late soon staging");
    assert_eq!(world.value(NOTE).await, "3");
    assert_eq!(world.value(NOTE).await, "0");
    world.sql("update restante.outbox set status = 'cancelled' where type = 'batch.at_risk'").await;
    assert_eq!(world.value(NOTE).await, "0");
    let told = "select string_agg(event_id, ' ' order by event_id) from restante.outbox where type = 'batch.at_risk'";
    assert_eq!(world.value(told).await, "batch.at_risk:blind batch.at_risk:late batch.at_risk:soon");
    assert_eq!(world.value(&NOTE.replace("anthropic", "staging")).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_deleted_at_the_api_only_once_it_is_complete_and_then_left_alone() {
    let simulated = SimulatedApi::start().await;
    let api = api_at(&simulated.url);
    let world = World::new().await;
    submit(&world, "s", &requests(1, 5)).await;
    let open = simulated.batch(5).await;
    world
        .sql(&format!(
            "insert into restante.batch (id, first_seen_at) values ('{open}', now() - interval '1 day')"
        ))
        .await;
    world.sql("select restante.pause('batch.poll')").await;
    work(&world, &api).await;
    assert_eq!(world.value(DELETE).await, "0");
    // Not even where an event asks for it.
    let too_early = format!(
        "select count(*) from restante.insert_event('early', 'batch.delete', null, null, now(), '{{\"batch_id\":\"{open}\"}}',
                                                    null, null, null, 'worker')"
    );
    world.value(&too_early).await;
    work(&world, &api).await;
    assert_eq!(batches_of(&simulated.url).await.len(), 2);
    let waits = "select concat_ws(' ', status, last_error like '%not complete%') from restante.outbox where type = 'batch.delete'";
    assert_eq!(world.value(waits).await, "retry t");

    world.sql("select restante.resume('batch.poll')").await;
    world.sql("update restante.outbox set status = 'cancelled' where type = 'batch.delete'").await;
    work_to_rest(&world, &api).await;
    assert_eq!(world.value("select count(*) from restante.batch where complete_at is not null").await, "2");
    assert_eq!(world.value(DELETE).await, "0", "they have just become complete");
    world.sql("update restante.batch set complete_at = complete_at - interval '2 hours'").await;
    assert_eq!(world.value(DELETE).await, "2");
    assert_eq!(world.value(DELETE).await, "0");
    work(&world, &api).await;

    assert_eq!(batches_of(&simulated.url).await, Vec::<i64>::new());
    let deleted = "select bool_and(deleted_at > complete_at) from restante.batch_overview";
    assert_eq!(world.value(deleted).await, "true");
    assert_eq!(
        world.value("select count(*) from restante.batch_answer where outcome is not null").await,
        "5"
    );
    // Deleting once more is fine, and nothing asks for a batch that is gone.
    world.sql("update restante.batch set deleted_at = null").await;
    world.sql("update restante.outbox set status = 'pending' where type in ('batch.delete', 'batch.poll', 'batch.ended')").await;
    work(&world, &api).await;
    assert_eq!(world.value(deleted).await, "true");
    assert_eq!(
        world
            .value("select count(*) from restante.outbox where status in ('pending', 'retry', 'dead')")
            .await,
        "0"
    );
    let jobs = "select restante.ensure_standing_jobs(array['batch.poll', 'batch.ended'])";
    assert_eq!(world.value(jobs).await, "0");
    let forgotten = sqlx::query("update restante.batch set complete_at = null").execute(&world.pool).await;
    assert!(forgotten.unwrap_err().to_string().contains("batch_is_complete_before_it_is_deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_of_results_at_risk_and_deletes_where_it_is_told_to() {
    for after in [None, Some(Duration::from_secs(3600))] {
        let (world, api) = batches::start().await;
        world
            .sql("insert into restante.batch (id, created_at, first_seen_at, complete_at, ended_at)
                  values ('old', now() - interval '3 days', now() - interval '3 days', now() - interval '2 days', now()),
                         ('late', now() - interval '23 days', now() - interval '23 days', null, null)")
            .await;
        let settings = worker::Settings { batch_delete_after: after, ..world.worker_settings() };
        let stop = CancellationToken::new();
        let run = worker::run(settings, world.pool.clone(), registry(), api.client(), stop.clone());
        let running = tokio::spawn(run);

        let expected =
            if after.is_some() { "batch.at_risk:late batch.delete:old" } else { "batch.at_risk:late" };
        let told = "select string_agg(event_id, ' ' order by event_id) from restante.outbox where type in ('batch.at_risk', 'batch.delete')";
        eventually("the worker has looked after batches", async || {
            (world.value(told).await == expected).then_some(())
        })
        .await;
        if after.is_some() {
            // The API does not know it, so it is deleted.
            eventually("the batch is deleted", async || {
                (world.value("select deleted_at is not null from restante.batch where id = 'old'").await
                    == "true")
                    .then_some(())
            })
            .await;
        }
        stop.cancel();
        running.await.unwrap().unwrap();
        assert_eq!(
            world.value("select count(*) from restante.batch where deleted_at is not null").await,
            if after.is_some() { "1" } else { "0" }
        );
    }
}
