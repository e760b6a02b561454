//! An hour without ingest: nothing of it is lost.

use std::collections::BTreeMap;

use reqwest::Method;

use super::*;

/// All objects of the API as their lists show them, by type and id: status, last change, archived.
async fn at_the_api(api: &SimulatedApi) -> BTreeMap<(String, String), String> {
    let mut objects = BTreeMap::new();
    let mut paths: Vec<String> =
        ["sessions", "deployment_runs", "vaults", "agents", "deployments", "environments", "memory_stores"]
            .map(|kind| format!("/v1/{kind}"))
            .into();
    while let Some(path) = paths.pop() {
        let mut cursor = String::new();
        loop {
            let page = api.get(&format!("{path}?limit=100&include_archived=true{cursor}")).await;
            for object in page["data"].as_array().unwrap() {
                let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
                match (text("type").as_str(), text("id")) {
                    ("session", id) => paths.push(format!("/v1/sessions/{id}/threads")),
                    ("vault", id) => paths.push(format!("/v1/vaults/{id}/credentials")),
                    _ => {}
                }
                let state = format!("{} {} {}", text("status"), text("updated_at"), text("archived_at"));
                objects.insert((text("type"), text("id")), state);
            }
            match page["next_page"].as_str() {
                Some(next) => cursor = format!("&page={next}"),
                None => break,
            }
        }
    }
    objects
}

/// The same as the database has it, without what is gone.
async fn in_the_database(world: &World) -> BTreeMap<(String, String), String> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select type, id, concat(status, ' ', body->>'updated_at', ' ', body->>'archived_at')
           from restante.resource where gone_at is null",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    rows.into_iter().map(|(kind, id, state)| ((kind, id), state)).collect()
}

/// What happens at the API meanwhile.
async fn an_hour_goes_by(api: &SimulatedApi, old: &[String]) {
    let message = json!({ "events": [{ "type": "user.message", "content": [] }] });
    for number in 0..200 {
        let id = made(api, "/v1/sessions").await;
        api.post(&format!("/v1/sessions/{id}/events"), message.clone()).await;
        api.post(&format!("/v1/sessions/{id}"), json!({ "title": "changed" })).await;
        if number % 2 == 0 {
            api.post(&format!("/v1/sessions/{id}/archive"), json!({})).await;
        } else {
            api.post(&format!("/_simulator/sessions/{id}"), json!({ "status": "terminated" })).await;
        }
    }
    let (deleted, changed) = old.split_at(old.len() / 2);
    for id in deleted {
        api.call(Method::DELETE, &format!("/v1/sessions/{id}"), Value::Null).await;
    }
    for id in changed {
        api.post(&format!("/v1/sessions/{id}/events"), message.clone()).await;
        api.post(&format!("/_simulator/sessions/{id}/threads"), json!({ "status": "idle" })).await;
    }
    for _ in 0..20 {
        api.batch(2).await;
    }
    let deployment = made(api, "/v1/deployments").await;
    for number in 0..30 {
        let outcome =
            if number % 3 == 0 { json!({ "error": "session_rate_limited_error" }) } else { json!({}) };
        api.post(&format!("/_simulator/deployments/{deployment}/run"), outcome).await;
    }
    api.post(&format!("/v1/deployments/{deployment}/pause"), json!({})).await;
    for number in 0..10 {
        let vault = made(api, "/v1/vaults").await;
        made(api, &format!("/v1/vaults/{vault}/credentials")).await;
        if number % 2 == 0 {
            api.post(&format!("/v1/vaults/{vault}/archive"), json!({})).await;
        }
    }
    for path in ["/v1/agents", "/v1/environments", "/v1/memory_stores"] {
        made(api, path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_without_ingest_is_made_up_for_within_two_intervals_and_each_change_is_handled_once() {
    let (world, api) = start().await;
    let mut old = Vec::new();
    for _ in 0..20 {
        old.push(made(&api, "/v1/sessions").await);
    }
    interval(&world, &api).await;
    interval(&world, &api).await;
    world.sql("truncate heard").await;

    an_hour_goes_by(&api, &old).await;
    interval(&world, &api).await;
    interval(&world, &api).await;

    let (stored, shown) = (in_the_database(&world).await, at_the_api(&api).await);
    let differing: Vec<_> =
        shown.iter().filter(|(object, state)| stored.get(*object) != Some(*state)).collect();
    assert!(differing.is_empty(), "{differing:?}");
    assert_eq!(stored.len(), shown.len());
    let batches = "select count(*) from restante.batch where complete_at is not null and results_stored = 2";
    assert_eq!(world.value(batches).await, "20");
    let more_than_once =
        "select count(*) from (select from heard group by type, subject, event_id having count(*) > 1) as h";
    assert_eq!(world.value(more_than_once).await, "0");
    let told = "select string_agg(type || ' ' || n, E'\\n' order by type) from (select type, count(*) as n from heard group by type) as h";
    assert_eq!(
        world.value(told).await,
        "agent.created 1\n\
         deployment.created 1\n\
         deployment.paused 1\n\
         deployment_run.failed 10\n\
         deployment_run.started 30\n\
         deployment_run.succeeded 20\n\
         environment.created 1\n\
         memory_store.created 1\n\
         session.archived 100\n\
         session.created 220\n\
         session.deleted 10\n\
         session.status_idled 210\n\
         session.status_run_started 210\n\
         session.status_terminated 200\n\
         session.thread_created 10\n\
         session.thread_idled 10\n\
         vault.archived 5\n\
         vault.created 10\n\
         vault_credential.archived 5\n\
         vault_credential.created 10"
    );
    let needs_a_person = "select count(*) from restante.outbox where status in ('dead', 'paused')";
    assert_eq!(world.value(needs_a_person).await, "0");

    every_webhook_comes_late(&world).await;
    work(&world, &api).await;
    let settled = "select count(*) from restante.outbox where source = 'webhook' and status = 'done' and result->>'settled_by' like 'poll:%'";
    let came = world.value("select count(*) from restante.outbox where source = 'webhook'").await;
    assert_eq!((world.value(settled).await, world.value(told).await.lines().count()), (came, 20));
    assert_eq!(world.value("select count(*) from heard where source = 'webhook'").await, "0");
}

/// The webhooks of all changes that were missed, as a gateway may deliver them hours later.
async fn every_webhook_comes_late(world: &World) {
    let missed: Vec<(String, String)> = sqlx::query_as(
        "select payload::text, to_char(happened_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
           from restante.missed_change order by event_id desc",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert!(missed.len() > 1000, "{}", missed.len());
    let bodies: Vec<Value> = missed
        .iter()
        .enumerate()
        .map(|(number, (data, at))| {
            webhook(&format!("whe_{number}"), at, serde_json::from_str(data).unwrap())
        })
        .collect();
    world.receive_bodies(&bodies).await;
}
