//! Lists of the API: both cursors, empty pages, cursors that run out, and an API that asks for fewer requests.

use super::*;

async fn known(world: &World, kind: &str) -> String {
    world.value(&format!("select count(*) from restante.reconciled where kind = '{kind}'")).await
}

async fn make(api: &SimulatedApi, vaults: usize) {
    for _ in 0..vaults {
        made(api, "/v1/vaults").await;
    }
}

#[tokio::test]
async fn a_list_is_read_to_its_end_with_either_cursor_and_over_empty_pages() {
    for faults in [json!({}), json!({ "empty_pages": true }), json!({ "lists_by_id": true })] {
        let (world, api) = start().await;
        make(&api, 250).await;
        api.faults(faults.clone()).await;

        interval(&world, &api).await;

        assert_eq!(known(&world, "vault").await, "250", "{faults}");
    }
}

#[tokio::test]
async fn a_look_whose_cursor_is_refused_begins_anew_and_repeats_nothing() {
    let (world, api) = start().await;
    interval(&world, &api).await;
    make(&api, 250).await;
    api.faults(json!({ "cursors_refused": 1 })).await;

    for _ in 0..3 {
        interval(&world, &api).await;
    }

    assert_eq!(known(&world, "vault").await, "250");
    assert_eq!(world.value("select count(*) || ' ' || count(distinct event_id) from heard").await, "250 250");
    assert_eq!(
        world.value("select count(*) from restante.reconcile_state where fault is not null").await,
        "0"
    );
}

#[tokio::test]
async fn an_api_that_asks_for_fewer_requests_is_left_alone_and_the_watermark_stays() {
    let (world, api) = start().await;
    interval(&world, &api).await;
    let watermarks = "select string_agg(complete_at::text, ' ' order by kind) from restante.reconcile_state";
    let before = world.value(watermarks).await;
    make(&api, 1).await;
    api.faults(json!({ "rate_limited_share": 1.0, "retry_after_seconds": 77 })).await;

    interval(&world, &api).await;

    let waits = "select concat_ws(' ', status, outcome, attempt, run_at - clock_timestamp() between interval '70 seconds' and interval '93 seconds')
                   from restante.outbox where type = 'resource.reconcile' and subscriber = ''";
    assert_eq!(world.value(waits).await, "retry trouble 0 t");
    assert_eq!(world.value(watermarks).await, before);

    api.faults(json!({ "rate_limited_share": 0.0 })).await;
    interval(&world, &api).await;
    interval(&world, &api).await;
    assert_ne!(world.value(watermarks).await, before);
    assert_eq!(world.value("select string_agg(type, ' ') from heard").await, "vault.created");
}

#[tokio::test]
async fn a_kind_that_the_api_refuses_keeps_no_other_from_being_looked_at() {
    let world = World::new().await;
    world.sql("create table heard (event_id text, type text, subject text, source text)").await;
    let api = crate::support::api::ScriptedApi::new().await;
    let list = crate::support::api::Answer::json(&json!({ "data": [], "next_page": null }));
    for path in ["vaults", "agents", "deployments", "deployment_runs", "environments", "sessions"] {
        api.answer(&format!("/v1/{path}"), list.clone());
    }
    world.value("select restante.ensure_account_jobs('resource.reconcile', array['anthropic'])").await;

    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry(), api.client())
        .await
        .unwrap();

    let overview = "select string_agg(concat_ws(' ', kind, left(fault, 27)), ', ' order by kind)
                      from restante.reconcile_overview where last_look_at is null";
    assert_eq!(world.value(overview).await, "memory_store the API does not find it: 4");
    assert_eq!(world.value("select count(*) from restante.reconcile_overview where not is_late").await, "8");
    let waits =
        "select concat_ws(' ', status, outcome) from restante.outbox where type = 'resource.reconcile'";
    assert_eq!(world.value(waits).await, "retry snoozed");
}

#[tokio::test]
async fn what_was_noticed_waits_for_no_other_kind() {
    let (world, api) = start().await;
    interval(&world, &api).await;
    // The look at vaults takes longer than a webhook may.
    world
        .sql(
            "create function long_ago() returns trigger language plpgsql as
             $$begin new.noticed_at = new.noticed_at - interval '1 minute'; return new; end$$",
        )
        .await;
    world.sql("create trigger long_ago before insert on restante.missed_change for each row execute function long_ago()").await;
    made(&api, "/v1/vaults").await;

    interval(&world, &api).await;

    let before_the_next =
        "select o.created_at is not null and o.received_at < s.tried_at from restante.reconcile_state as s
                             left join restante.outbox as o on o.type = 'vault.created' and o.subscriber = ''
                            where s.kind = 'agent'";
    assert_eq!(world.value(before_the_next).await, "true");
}
