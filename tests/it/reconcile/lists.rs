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
async fn a_kind_whose_cursors_were_refused_for_a_while_is_looked_at_anew() {
    let world = World::new().await;
    let api = crate::support::api::ScriptedApi::new().await;
    let page = |id: &str, next: Option<&str>| {
        let vault = json!({ "id": id, "type": "vault", "created_at": "2026-11-01T12:00:00Z" });
        crate::support::api::Answer::json(&json!({ "data": [vault], "next_page": next }))
    };
    let first = "/v1/vaults?limit=100&include_archived=true";
    let refused = crate::support::api::Answer::refusal(400, "invalid_request_error", "");
    api.answer(first, page("vlt_1", None));
    api.answer(&format!("{first}&page=bad"), refused);
    look_at_scripted(&world, &api).await;
    // The look has begun anew three times, and was given a cursor each time that is never taken.
    world
        .sql(
            "update restante.reconcile_state set looking_since = clock_timestamp(), cursor = 'page=bad', restarts = 3, fault = '400'
              where kind = 'vault'",
        )
        .await;

    look_at_scripted(&world, &api).await;

    let state = "select concat_ws(' ', left(fault, 28), cursor, restarts, looking_since) from restante.reconcile_state where kind = 'vault'";
    assert_eq!(world.value(state).await, "the API refused the request: 0");

    api.answer(first, page("vlt_1", Some("good")));
    api.answer(&format!("{first}&page=good"), page("vlt_2", None));
    look_at_scripted(&world, &api).await;

    assert_eq!(world.value(state).await, "0");
    assert_eq!(known(&world, "vault").await, "2");
}

#[tokio::test]
async fn the_list_of_a_parent_whose_cursor_is_refused_is_read_anew_also_by_the_next_look() {
    let world = World::new().await;
    let api = crate::support::api::ScriptedApi::new().await;
    let page = |kind: &str, ids: &[&str], next: Option<&str>| {
        let object = |id: &&str| json!({ "id": id, "type": kind, "created_at": "2026-11-01T12:00:00Z" });
        let objects: Vec<Value> = ids.iter().map(object).collect();
        crate::support::api::Answer::json(&json!({ "data": objects, "next_page": next }))
    };
    let refused = |status| crate::support::api::Answer::refusal(status, "some_error", "");
    let first = "/v1/vaults/vlt_1/credentials?limit=100&include_archived=true";
    api.answer("/v1/vaults", page("vault", &["vlt_1"], None));
    api.answer_once(first, [page("vault_credential", &["vcrd_1"], Some("bad")), refused(403)]);
    api.answer(&format!("{first}&page=bad"), refused(400));
    api.answer(first, page("vault_credential", &["vcrd_1", "vcrd_2"], None));

    look_at_scripted(&world, &api).await;
    assert_eq!(known(&world, "vault_credential").await, "1");
    look_at_scripted(&world, &api).await;

    assert_eq!(known(&world, "vault_credential").await, "2");
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

/// One look at each kind of a scripted API.
async fn look_at_scripted(world: &World, api: &crate::support::api::ScriptedApi) {
    world.value("select restante.ensure_account_jobs('resource.reconcile', array['anthropic'])").await;
    world.sql("update restante.reconcile_state set tried_at = tried_at - every").await;
    world.wait_for_retries().await;
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry(), api.client())
        .await
        .unwrap();
}
