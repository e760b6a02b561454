//! Standing jobs: whatever happens to their events, they go on until there is nothing left to do.

use restante::handler::{self, Context, Handler};
use restante::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::support::api::{Answer, results_path};
use crate::support::eventually;
use crate::support::world::no_api;

/// Does what a worker does every ten seconds. Returns how many jobs were missing.
async fn ensure(world: &World) -> String {
    world
        .value("select restante.ensure_standing_jobs(array['batch.poll', 'batch.ended', 'batch.reconcile'])")
        .await
}

/// The unfinished jobs, by type and status.
async fn jobs(world: &World) -> String {
    world
        .value(
            "select string_agg(type || ' ' || status, ', ' order by type)
               from restante.outbox_live where source in ('poll', 'worker')",
        )
        .await
}

/// What a person or a handler can do to the events of jobs. Each leaves a job without a live row.
const ENDS: [&str; 6] = [
    "update restante.outbox set status = 'cancelled' where finished_at = 'infinity'",
    "update restante.outbox set status = 'done' where finished_at = 'infinity'",
    "update restante.outbox set status = 'ignored' where finished_at = 'infinity'",
    "update restante.outbox set status = 'dead' where finished_at = 'infinity'",
    "delete from restante.outbox where finished_at = 'infinity'",
    "delete from restante.outbox_live",
];

#[tokio::test]
async fn a_job_that_somebody_ended_comes_back_and_does_its_work() {
    for end in ENDS {
        let (world, api) = start().await;
        let batch = api.in_progress("running", 4);
        api.batch(&batch);
        for id in ["running", "ended"] {
            api.results(id, Answer::stream(one_of_each()));
        }
        api.batch(&api.ended("ended", ONE_OF_EACH));
        world.sql("insert into restante.batch (id) values ('running')").await;
        world.sql("insert into restante.batch (id, ended_at) values ('ended', now())").await;
        assert_eq!(ensure(&world).await, "2", "the ended one and the search");
        let all = "batch.ended pending, batch.poll pending, batch.reconcile pending";
        assert_eq!(jobs(&world).await, all);

        world.sql(end).await;
        assert_eq!(ensure(&world).await, "3", "{end}");
        assert_eq!(ensure(&world).await, "0", "{end}");

        assert_eq!(jobs(&world).await, all, "{end}");
        api.batch(&api.ended("running", ONE_OF_EACH));
        let page = json!({ "data": [], "has_more": false, "first_id": null, "last_id": null });
        api.answer("/v1/messages/batches?limit=1000", Answer::json(&page));
        work(&world, &api).await;
        assert_eq!(complete(&world).await, "2", "{end}");
        assert_eq!(ensure(&world).await, "0", "{end}");
        assert!(jobs(&world).await.starts_with("batch.reconcile retry"), "{end}");
    }
}

#[tokio::test]
async fn an_identifier_that_somebody_took_first_keeps_no_job_away() {
    let (world, api) = start().await;
    for event_id in ["batch.poll:b", "batch.ended:b", "batch.reconcile"] {
        let taken = format!(
            "select restante.insert_event('{event_id}', 'order.placed', null, null, now(), '{{}}', null, null, null, 'sql')"
        );
        assert_ne!(world.value(&taken).await, "null");
    }
    api.batch(&api.in_progress("b", 4));
    api.results("b", Answer::stream(one_of_each()));
    world.sql("insert into restante.batch (id) values ('b')").await;
    assert_eq!(ensure(&world).await, "1");
    assert_eq!(jobs(&world).await, "batch.poll pending, batch.reconcile pending");
    work(&world, &api).await;

    api.batch(&api.ended("b", ONE_OF_EACH));
    work_later(&world, &api).await;
    assert_eq!(ensure(&world).await, "1", "its end could not be said under its usual name");
    work_later(&world, &api).await;

    assert_eq!(complete(&world).await, "1");
    assert_eq!(ensure(&world).await, "0");
}

/// Handles events of an application and none of the built-in types.
struct Orders;

impl Handler for Orders {
    const EVENT_TYPES: &'static [&'static str] = &["order.placed"];
    type Payload = Value;

    async fn handle(&self, _: &mut Context<'_>, _: Value) -> handler::Result {
        Ok(())
    }
}

#[tokio::test]
async fn a_worker_with_other_handlers_leaves_the_jobs_to_those_who_have_one() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    world.sql("insert into restante.batch (id, ended_at) values ('b', now())").await;
    world.sql("insert into restante.batch (id) values ('c')").await;
    assert_eq!(ensure(&world).await, "2");
    world.sql("select restante.enqueue('order.of_no_kind', '{}', event_id => 'other')").await;

    let orders = Registry::new().register(Orders);
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), orders, no_api()).await.unwrap();

    assert_eq!(jobs(&world).await, "batch.ended retry, batch.poll retry, batch.reconcile retry");
    let reason =
        "select count(*) from restante.outbox where last_error like 'this worker has no handler for it%'";
    assert_eq!(world.value(reason).await, "3");
    assert_eq!(fate(&world, "other").await, "ignored");
    work_later(&world, &api).await;
    assert_eq!(complete(&world).await, "1");
}

/// Handles every type.
struct Everything;

impl Handler for Everything {
    const EVENT_TYPES: &'static [&'static str] = &["*"];
    type Payload = Value;

    async fn handle(&self, _: &mut Context<'_>, _: Value) -> handler::Result {
        Ok(())
    }
}

#[tokio::test]
async fn a_handler_of_everything_takes_no_job_and_a_subscriber_of_everything_gets_a_row_of_its_own() {
    let (world, api) = start().await;
    let registry = || Registry::new().register(Everything).subscribe("all", Everything);
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry(), no_api()).await.unwrap();
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    world.sql("insert into restante.batch (id, ended_at) values ('b', now())").await;
    assert_eq!(ensure(&world).await, "2");

    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry(), no_api()).await.unwrap();

    let rows = "select string_agg(concat_ws(' ', type, nullif(subscriber, ''), status), ', ' order by type, subscriber)
                  from restante.outbox";
    let expected = "batch.ended retry, batch.ended all done, batch.reconcile retry, batch.reconcile all done";
    assert_eq!(world.value(rows).await, expected);
    assert_eq!(ensure(&world).await, "0");
    work_later(&world, &api).await;
    assert_eq!(complete(&world).await, "1");
}

#[tokio::test]
async fn a_batch_whose_results_are_gone_is_given_up_once_and_a_person_may_have_it_tried_again() {
    let (world, api) = start().await;
    let archived = json!({ "archived_at": "2026-11-01T10:00:00Z", "results_url": null });
    api.batch(&with(api.ended("archived", ONE_OF_EACH), archived));
    world.sql("insert into restante.batch (id, ended_at) values ('archived', now()), ('..', now())").await;
    world
        .sql("insert into restante.batch (id, created_at) values ('vanished', now() - interval '30 days')")
        .await;
    ensure(&world).await;

    work(&world, &api).await;
    world.sql("update restante.failure set failed_at = failed_at - interval '1 day'").await;
    assert_eq!(ensure(&world).await, "0");

    let reasons = "select string_agg(concat_ws(': ', id, progress, given_up_because), '; ' order by id)
                     from restante.batch_overview join restante.batch using (id)";
    assert_eq!(
        world.value(reasons).await,
        "..: given up: the id cannot be part of a URL; \
         archived: given up: the results are gone: the batch was archived at 2026-11-01 10:00:00 UTC; \
         vanished: given up: the API keeps results for 29 days, and these are over: the API does not find it: \
         404 not_found_error: scripted"
    );
    assert_eq!(world.value("select count(*) from restante.outbox where status = 'dead'").await, "3");

    api.batch(&api.ended("archived", ONE_OF_EACH));
    api.results("archived", Answer::stream(one_of_each()));
    world.sql("update restante.batch set given_up_because = null where id = 'archived'").await;
    assert_eq!(ensure(&world).await, "1");
    work(&world, &api).await;
    assert_eq!(complete(&world).await, "1");
}

#[tokio::test]
async fn a_job_that_was_just_given_up_can_be_seen_for_some_minutes_before_it_goes_on() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(""));
    world.sql("insert into restante.batch (id, ended_at) values ('b', now())").await;
    ensure(&world).await;
    world.sql("update restante.outbox set max_attempts = 1 where type = 'batch.ended'").await;
    work(&world, &api).await;
    assert_eq!(fate(&world, "batch.ended:b").await, "dead: 0 of 4 results are here");
    assert_eq!(ensure(&world).await, "0");

    world.sql("update restante.failure set failed_at = failed_at - interval '11 minutes'").await;
    assert_eq!(ensure(&world).await, "1");

    api.results("b", Answer::stream(one_of_each()));
    work(&world, &api).await;
    assert_eq!(complete(&world).await, "1");
}

#[tokio::test]
async fn results_that_never_add_up_are_tried_for_until_they_have_vanished() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", [1, 1, 1, 2]));
    api.results("b", Answer::stream(one_of_each()));
    hear_of(&world, "b").await;
    for _ in 0..70 {
        work_later(&world, &api).await;
    }
    assert_eq!(fate(&world, "wevt_b").await, "retry: 4 of 5 results are here");

    world.sql("update restante.batch set created_at = now() - interval '30 days'").await;
    let vanished = with(api.ended("b", [1, 1, 1, 2]), json!({ "created_at": null }));
    api.batch(&vanished);
    work_later(&world, &api).await;

    let expected = "dead: the API keeps results for 29 days, and these are over: 4 of 5 results are here";
    assert_eq!(fate(&world, "wevt_b").await, expected);
}

#[tokio::test]
async fn a_batch_that_the_senders_own_event_sees_to_gets_no_second_one() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::refusal(500, "api_error", ""));
    hear_of(&world, "b").await;
    work(&world, &api).await;
    world.sql("select restante.begin_standing_job('batch.reconcile', null)").await;
    assert_eq!(ensure(&world).await, "0");

    world.sql("update restante.outbox set status = 'cancelled' where event_id = 'wevt_b'").await;
    assert_eq!(ensure(&world).await, "1", "nobody else would store its results now");

    api.results("b", Answer::stream(one_of_each()));
    work_later(&world, &api).await;
    assert_eq!(complete(&world).await, "1");
    assert_eq!(api.times_asked(&results_path("b")), 2);
}

#[tokio::test]
async fn workers_that_look_at_the_same_time_begin_each_job_once() {
    let (world, _) = start().await;
    world.sql("insert into restante.batch (id, ended_at) select 'b' || n, now() from generate_series(1, 50) as n").await;
    world.sql("insert into restante.outbox_seen (event_id) select 'batch.ended:b' || n from generate_series(1, 50) as n").await;
    world.sql("insert into restante.outbox_seen (event_id) values ('batch.reconcile')").await;

    let looks: Vec<_> = (0..8)
        .map(|_| {
            let pool = world.pool.clone();
            tokio::spawn(async move {
                sqlx::query("select restante.ensure_standing_jobs(array['batch.poll', 'batch.ended', 'batch.reconcile'])")
                    .execute(&pool)
                    .await
                    .unwrap();
            })
        })
        .collect();
    for look in looks {
        look.await.unwrap();
    }

    assert_eq!(world.value("select count(*) from restante.outbox where type = 'batch.ended'").await, "50");
    assert_eq!(world.value("select count(*) from restante.outbox where type = 'batch.reconcile'").await, "1");
}

#[tokio::test]
async fn a_held_job_is_there_and_is_not_begun_beside_its_hold() {
    let (world, _) = start().await;
    world.sql("insert into restante.batch (id) values ('b')").await;
    assert_eq!(ensure(&world).await, "1");

    world.sql("select restante.pause('batch.*')").await;

    assert_eq!(ensure(&world).await, "0");
    assert_eq!(jobs(&world).await, "batch.poll paused, batch.reconcile paused");
}

#[tokio::test]
async fn a_worker_puts_back_what_was_called_off_without_being_started_again() {
    let (world, api) = start().await;
    api.batch(&api.in_progress("b", 4));
    api.results("b", Answer::stream(one_of_each()));
    world.sql("insert into restante.batch (id) values ('b')").await;
    let stop = CancellationToken::new();
    let every = Duration::from_secs(60);
    let registry = handlers::registry(handlers::Settings {
        batch_poll: every,
        reconcile: Some(every),
        allow_private_endpoints: false,
    });
    let running = tokio::spawn(worker::run(
        world.worker_settings(),
        world.pool.clone(),
        registry,
        api.client(),
        stop.clone(),
    ));
    let there = "select count(*) from restante.outbox_live where type in ('batch.poll', 'batch.reconcile') and attempt = 0";
    let both_wait = async || (world.value(there).await == "2").then_some(());
    eventually("the batch is watched, and the search is there", both_wait).await;

    api.batch(&api.ended("b", ONE_OF_EACH));
    world.sql("update restante.outbox set status = 'cancelled' where finished_at = 'infinity'").await;

    eventually("the batch is complete", async || (complete(&world).await == "1").then_some(())).await;
    eventually("the search is back", async || {
        (world.value("select count(*) from restante.outbox_live where type = 'batch.reconcile'").await == "1")
            .then_some(())
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_search_that_a_webhook_asks_for_is_no_second_one() {
    let (world, api) = start().await;
    world.receive_body(&json!({ "type": "batch.reconcile", "id": "evt_1", "data": {} })).await;
    ensure(&world).await;
    api.answer("/v1/messages/batches?limit=1000", Answer::json(&json!({ "data": [], "has_more": false })));

    work(&world, &api).await;

    assert_eq!(fate(&world, "evt_1").await, "done");
    assert_eq!(jobs(&world).await, "batch.reconcile retry");
}
