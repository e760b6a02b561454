//! A webhook and the event of a poll that tell of the same change: one of them is handled.

use super::*;

/// What the reconciler knows of changes that no webhook told.
async fn missed(world: &World) -> String {
    world
        .value(
            "select string_agg(concat_ws(' ', type, case when polled_at is not null then 'polled' end, explained_by), ', ' order by happened_at, event_id)
               from restante.missed_change",
        )
        .await
}

/// When something happened to an object, as its field says.
async fn time_of(api: &SimulatedApi, path: &str, field: &str) -> String {
    api.get(path).await[field].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_webhook_that_came_is_not_repeated() {
    let (world, api) = start().await;
    interval(&world, &api).await;
    let id = made(&api, "/v1/vaults").await;
    let at = time_of(&api, &format!("/v1/vaults/{id}"), "created_at").await;
    world.receive_body(&webhook("whe_1", &at, json!({ "type": "vault.created", "id": id }))).await;

    for _ in 0..3 {
        interval(&world, &api).await;
    }

    assert_eq!((polled(&world).await, missed(&world).await), ("null".to_owned(), "null".to_owned()));
    assert_eq!(heard(&world).await, format!("vault.created {id} 1"));
}

#[tokio::test]
async fn a_webhook_that_waits_for_a_person_has_come_too() {
    let (world, api) = start().await;
    interval(&world, &api).await;
    world.value("select restante.pause('vault.*')").await;
    let id = made(&api, "/v1/vaults").await;
    let at = time_of(&api, &format!("/v1/vaults/{id}"), "created_at").await;
    world.receive_body(&webhook("whe_1", &at, json!({ "type": "vault.created", "id": id }))).await;

    for _ in 0..2 {
        interval(&world, &api).await;
    }

    assert_eq!(missed(&world).await, "null");
}

#[tokio::test]
async fn a_webhook_that_comes_after_its_change_was_polled_is_settled_by_that_event() {
    let (world, api) = start().await;
    interval(&world, &api).await;
    let id = made(&api, "/v1/vaults").await;
    let at = time_of(&api, &format!("/v1/vaults/{id}"), "created_at").await;
    interval(&world, &api).await;
    assert_eq!(polled(&world).await, "null", "a webhook may still come");
    interval(&world, &api).await;
    assert_eq!(polled(&world).await, format!("vault.created {id} done"));

    world.receive_body(&webhook("whe_1", &at, json!({ "type": "vault.created", "id": id }))).await;
    interval(&world, &api).await;

    let result = "select string_agg(concat_ws(' ', subscriber, status, result->>'settled_by'), ', ' order by subscriber)
                    from restante.outbox where event_id = 'whe_1'";
    let twin = format!("poll:vault.created:{id}");
    assert_eq!(world.value(result).await, format!(" done {twin}, app done {twin}"));
    assert_eq!(heard(&world).await, format!("vault.created {id} 1"));
    assert_eq!(missed(&world).await, "vault.created polled whe_1");
}

#[tokio::test]
async fn a_webhook_that_comes_before_its_change_is_polled_is_handled_and_nothing_is_polled() {
    let (world, api) = start().await;
    interval(&world, &api).await;
    let id = made(&api, "/v1/vaults").await;
    let at = time_of(&api, &format!("/v1/vaults/{id}"), "created_at").await;
    interval(&world, &api).await;
    assert_eq!(missed(&world).await, "vault.created");

    world.receive_body(&webhook("whe_1", &at, json!({ "type": "vault.created", "id": id }))).await;
    for _ in 0..2 {
        interval(&world, &api).await;
    }

    assert_eq!(
        (polled(&world).await, missed(&world).await),
        ("null".to_owned(), "vault.created whe_1".to_owned())
    );
    assert_eq!(heard(&world).await, format!("vault.created {id} 1"));
}

#[tokio::test]
async fn a_webhook_that_is_stored_and_not_run_keeps_its_change_from_being_polled() {
    let (world, api) = start().await;
    interval(&world, &api).await;
    let id = made(&api, "/v1/vaults").await;
    let at = time_of(&api, &format!("/v1/vaults/{id}"), "created_at").await;
    interval(&world, &api).await;
    world.receive_body(&webhook("whe_1", &at, json!({ "type": "vault.created", "id": id }))).await;
    world.sql("update restante.outbox set status = 'paused' where event_id = 'whe_1'").await;

    interval(&world, &api).await;

    assert_eq!(
        (polled(&world).await, missed(&world).await),
        ("null".to_owned(), "vault.created whe_1".to_owned())
    );
}

#[tokio::test]
async fn of_two_changes_of_one_type_only_the_one_that_no_webhook_told_is_polled() {
    let (world, api) = start().await;
    let id = made(&api, "/v1/sessions").await;
    interval(&world, &api).await;
    interval(&world, &api).await;
    world.sql("truncate heard").await;
    let steer = format!("/_simulator/sessions/{id}");
    let idle = |at: &str| {
        json!({ "events": [{ "type": "session.status_idle", "processed_at": at, "stop_reason": { "type": "end_turn" } }],
                                  "fields": { "title": at } })
    };
    let now = chrono::Utc::now();
    let [first, second] = [120, 60].map(|seconds| {
        (now - chrono::TimeDelta::seconds(seconds)).to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
    });
    api.post(&steer, idle(&first)).await;
    api.post(&steer, idle(&second)).await;
    let told =
        |event_id: &str, at: &str| webhook(event_id, at, json!({ "type": "session.status_idled", "id": id }));
    world.receive_body(&told("whe_2", &second)).await;

    for _ in 0..3 {
        interval(&world, &api).await;
    }
    world.receive_body(&told("whe_1", &first)).await;
    interval(&world, &api).await;

    assert_eq!(
        heard(&world).await,
        format!("session.status_idled {id} 2, session.updated {id} 1"),
        "each of the two once, and the title"
    );
    let settled =
        "select count(*) from restante.outbox where event_id = 'whe_1' and result->>'settled_by' is not null";
    assert_eq!(world.value(settled).await, "2");
}

#[tokio::test]
async fn what_was_there_before_the_first_look_is_taken_in_without_an_event() {
    let (world, api) = start().await;
    let old = json!({ "type": "vault", "created_at": "2026-10-01T12:00:00Z", "updated_at": "2026-10-01T12:00:00Z" });
    let id = api.post("/_simulator/resources", old).await["id"].as_str().unwrap().to_owned();

    interval(&world, &api).await;
    interval(&world, &api).await;
    assert_eq!((missed(&world).await, heard(&world).await), ("null".to_owned(), "null".to_owned()));
    assert_eq!(world.value("select id from restante.resource").await, id);

    api.post(&format!("/v1/vaults/{id}/archive"), json!({})).await;
    interval(&world, &api).await;
    interval(&world, &api).await;
    assert_eq!(heard(&world).await, format!("vault.archived {id} 1"));
}
