//! Changes of which an object shows only that they happened since the last look: which webhooks tell of them, and which do not.

use reqwest::Method;

use super::*;

/// A time, so many seconds after another.
fn later(time: chrono::DateTime<chrono::Utc>, seconds: f64) -> String {
    let milliseconds = chrono::TimeDelta::milliseconds((seconds * 1000.0) as i64);
    (time + milliseconds).to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// Puts an object of long ago to the API, in place of what it was before.
async fn put(api: &SimulatedApi, kind: &str, id: &str, updated_at: &str, more: Value) {
    let mut object =
        json!({ "type": kind, "id": id, "created_at": "2026-10-01T12:00:00Z", "updated_at": updated_at });
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    api.post("/_simulator/resources", object).await;
}

/// The webhook of an event of this type.
fn told(event_id: &str, event_type: &str, id: &str, created_at: &str) -> Value {
    webhook(event_id, created_at, json!({ "type": event_type, "id": id }))
}

/// A database that knows an agent, a deployment and a session, and the moment of their next changes.
async fn known() -> (World, SimulatedApi, Box<dyn Fn(f64) -> String>) {
    let (world, api) = start().await;
    let first = chrono::Utc::now() - chrono::TimeDelta::minutes(5);
    let time = move |seconds| later(first, seconds);
    put(&api, "agent", "agent_1", &time(-120.0), json!({ "version": 1 })).await;
    put(&api, "deployment", "depl_1", &time(-120.0), json!({ "name": "one", "status": "active" })).await;
    put(&api, "session", "sesn_1", &time(-120.0), json!({ "title": "one", "status": "running" })).await;
    interval(&world, &api).await;
    assert_eq!(polled(&world).await, "null");
    (world, api, Box::new(time))
}

async fn settled(world: &World) -> String {
    world
        .value(
            "select string_agg(concat_ws(' ', event_id, result->>'settled_by'), ', ' order by event_id)
               from restante.outbox where source = 'webhook' and subscriber = 'app' and result->>'settled_by' is not null",
        )
        .await
}

async fn agent(api: &SimulatedApi, version: u32, updated_at: &str) {
    put(api, "agent", "agent_1", updated_at, json!({ "version": version })).await;
}

#[tokio::test]
async fn a_change_that_a_webhook_told_is_not_repeated_though_its_object_changed_again_before_the_look() {
    let (world, api, time) = known().await;
    let (first, second) = (time(0.0), time(40.0));
    let archived = json!({ "version": 2, "archived_at": second });
    put(&api, "agent", "agent_1", &second, archived).await;
    put(&api, "deployment", "depl_1", &second, json!({ "name": "two", "status": "paused" })).await;
    put(&api, "session", "sesn_1", &second, json!({ "title": "two", "status": "idle" })).await;
    let idle = json!({ "type": "session.status_idle", "processed_at": second, "stop_reason": { "type": "end_turn" } });
    api.post("/_simulator/sessions/sesn_1", json!({ "events": [idle] })).await;
    world
        .receive_bodies(&[
            told("whe_1", "agent.updated", "agent_1", &first),
            told("whe_2", "agent.archived", "agent_1", &second),
            told("whe_3", "deployment.updated", "depl_1", &first),
            told("whe_4", "deployment.paused", "depl_1", &second),
            told("whe_5", "session.updated", "sesn_1", &first),
            told("whe_6", "session.status_idled", "sesn_1", &second),
        ])
        .await;

    for _ in 0..3 {
        interval(&world, &api).await;
    }

    assert_eq!(polled(&world).await, "null");
    assert_eq!(world.value("select count(*) || ' ' || count(distinct event_id) from heard").await, "6 6");
    assert_eq!(world.value("select count(*) from restante.missed_change").await, "0");
}

#[tokio::test]
async fn a_webhook_that_comes_after_its_change_was_polled_is_settled_though_the_object_changed_again() {
    let (world, api, time) = known().await;
    let second = time(40.0);
    put(&api, "agent", "agent_1", &second, json!({ "version": 2, "archived_at": second })).await;
    for _ in 0..2 {
        interval(&world, &api).await;
    }
    let polled_as = "agent.archived agent_1 done, agent.updated agent_1 done";
    let polls = "select string_agg(concat_ws(' ', type, key, status), ', ' order by type)
                   from restante.outbox where source = 'poll' and subscriber = ''";
    assert_eq!(world.value(polls).await, polled_as);

    world.receive_body(&told("whe_1", "agent.updated", "agent_1", &time(0.0))).await;
    world.receive_body(&told("whe_2", "agent.updated", "agent_1", &time(-121.0))).await;
    interval(&world, &api).await;

    let twin = world.value("select event_id from restante.missed_change where type = 'agent.updated'").await;
    assert_eq!(settled(&world).await, format!("whe_1 {twin}"), "the other one is of an earlier change");
}

#[tokio::test]
async fn a_webhook_that_told_of_a_change_does_not_tell_of_the_next_one() {
    let (world, api, time) = known().await;
    agent(&api, 2, &time(0.0)).await;
    world.receive_body(&told("whe_1", "agent.updated", "agent_1", &time(0.5))).await;
    interval(&world, &api).await;
    assert_eq!(world.value("select count(*) from restante.missed_change").await, "0");

    agent(&api, 3, &time(10.0)).await;
    interval(&world, &api).await;
    assert_eq!(world.value("select count(*) from restante.missed_change").await, "1");
    // Not even if it is run again before the event of the change is there.
    world.sql("update restante.outbox set status = 'pending' where event_id = 'whe_1'").await;
    work(&world, &api).await;
    interval(&world, &api).await;

    assert_eq!(polled(&world).await, "agent.updated agent_1 done");
    agent(&api, 4, &time(20.0)).await;
    world.receive_body(&told("whe_3", "agent.updated", "agent_1", &time(20.5))).await;
    for _ in 0..2 {
        interval(&world, &api).await;
    }
    let told = "select count(distinct event_id) from heard where source in ('poll', 'webhook')";
    assert_eq!(world.value(told).await, "3", "each version once: two by webhooks, one by a poll");
}

#[tokio::test]
async fn two_updates_between_two_looks_are_one_change_and_both_webhooks_tell_of_it_and_not_of_a_third() {
    for comes in ["before the look", "before the poll", "after the poll"] {
        let (world, api, time) = known().await;
        let both = [
            told("whe_1", "agent.updated", "agent_1", &time(0.5)),
            told("whe_2", "agent.updated", "agent_1", &time(10.5)),
        ];
        agent(&api, 3, &time(10.0)).await;
        if comes != "before the look" {
            interval(&world, &api).await;
        }
        if comes == "after the poll" {
            interval(&world, &api).await;
        }
        world.receive_bodies(&both).await;
        interval(&world, &api).await;
        let one = if comes == "after the poll" { "agent.updated agent_1 done" } else { "null" };
        assert_eq!(polled(&world).await, one, "{comes}");

        agent(&api, 4, &time(20.0)).await;
        for _ in 0..2 {
            interval(&world, &api).await;
        }

        let polls = world.value("select count(*) from heard where source = 'poll'").await;
        let webhooks = world.value("select count(*) from heard where source = 'webhook'").await;
        let expected = if comes == "after the poll" { ("2", "0") } else { ("1", "2") };
        assert_eq!((&*polls, &*webhooks), expected, "{comes}");
    }
}

#[tokio::test]
async fn a_deletion_that_a_webhook_told_is_not_repeated_however_late_the_look_is() {
    let (world, api) = start().await;
    let id = made(&api, "/v1/vaults").await;
    interval(&world, &api).await;
    interval(&world, &api).await;
    world.sql("truncate heard").await;
    api.call(Method::DELETE, &format!("/v1/vaults/{id}"), Value::Null).await;
    let three_hours_ago = later(chrono::Utc::now(), -10800.0);
    world.sql("update restante.reconciled set listed_at = listed_at - interval '4 hours'").await;
    world.receive_body(&told("whe_1", "vault.deleted", &id, &three_hours_ago)).await;

    for _ in 0..3 {
        interval(&world, &api).await;
    }

    assert_eq!(heard(&world).await, format!("vault.deleted {id} 1"));
    assert_eq!(
        world.value("select count(*) from restante.missed_change where type = 'vault.deleted'").await,
        "0"
    );
}

#[tokio::test]
async fn a_session_that_is_archived_or_deleted_within_a_day_after_it_was_terminated_is_found_in_time() {
    let (world, api) = start().await;
    let [archived, deleted] = [made(&api, "/v1/sessions").await, made(&api, "/v1/sessions").await];
    for id in [&archived, &deleted] {
        api.post(&format!("/_simulator/sessions/{id}"), json!({ "status": "terminated" })).await;
    }
    // A page of sessions that change no more.
    for _ in 0..100 {
        let id = made(&api, "/v1/sessions").await;
        api.post(&format!("/v1/sessions/{id}/archive"), json!({})).await;
    }
    interval(&world, &api).await;
    interval(&world, &api).await;
    world.sql("truncate heard").await;
    // All of them were made before any look that counts.
    world.sql("update restante.reconcile_state set complete_at = complete_at + interval '1 hour'").await;

    let at = later(chrono::Utc::now(), 0.0);
    let fields = json!({ "archived_at": at });
    api.post(&format!("/_simulator/sessions/{archived}"), json!({ "fields": fields })).await;
    api.call(Method::DELETE, &format!("/v1/sessions/{deleted}"), Value::Null).await;
    interval(&world, &api).await;
    interval(&world, &api).await;

    assert_eq!(heard(&world).await, format!("session.archived {archived} 1, session.deleted {deleted} 1"));
}
