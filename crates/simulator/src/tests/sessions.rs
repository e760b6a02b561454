//! Sessions: runs, events, outcomes, threads.

use serde_json::{Value, json};

use super::webhooks::{Receiver, delivering_to};
use super::world::{World, at_once};

async fn session(world: &World) -> String {
    let asked = json!({"agent": "agent_1", "environment_id": "env_1"});
    world.post("/v1/sessions", asked).await["id"].as_str().unwrap().to_owned()
}

async fn types(world: &World, id: &str, query: &str) -> Vec<Value> {
    let events = world.get(&format!("/v1/sessions/{id}/events{query}")).await;
    events["data"].as_array().unwrap().iter().map(|event| event["type"].clone()).collect()
}

async fn told(receiver: &mut Receiver, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..count {
        told.push(receiver.next().await.1["data"]["type"].as_str().unwrap().to_owned());
    }
    told.sort();
    told
}

#[tokio::test]
async fn a_message_makes_a_session_run_and_fall_idle_again() {
    let mut receiver = Receiver::new(vec![]).await;
    let world = World::new(delivering_to(&receiver)).await;
    let id = session(&world).await;

    let message = json!({"type": "user.message", "content": [{"type": "text", "text": "go"}]});
    let sent = world.post(&format!("/v1/sessions/{id}/events"), json!({"events": [message]})).await;
    let told = told(&mut receiver, 3).await;

    let order = ["user.message", "session.status_running", "agent.message", "session.status_idle"];
    assert_eq!(types(&world, &id, "").await, order);
    assert!(sent["data"][0]["id"].as_str().unwrap().starts_with("sevt_"));
    assert_eq!(told, ["session.created", "session.status_idled", "session.status_run_started"]);
    assert_eq!(world.get(&format!("/v1/sessions/{id}")).await["status"], "idle");
}

#[tokio::test]
async fn why_a_session_is_idle_is_in_its_newest_idle_event() {
    let world = World::new(at_once()).await;
    let id = session(&world).await;
    let reason = json!({"type": "requires_action", "event_ids": ["sevt_1"]});

    world.post(&format!("/_simulator/sessions/{id}"), json!({"status": "running"})).await;
    world.post(&format!("/_simulator/sessions/{id}"), json!({"status": "idle", "stop_reason": reason})).await;
    let query = "?types[]=session.status_idle&order=desc&limit=1";
    let events = world.get(&format!("/v1/sessions/{id}/events{query}")).await;

    assert_eq!(events["data"][0]["stop_reason"], reason);
    assert_eq!(types(&world, &id, query).await, ["session.status_idle"]);
}

#[tokio::test]
async fn a_defined_outcome_gets_its_verdict_at_the_end_of_the_run() {
    let mut receiver = Receiver::new(vec![]).await;
    let world = World::new(delivering_to(&receiver)).await;
    let id = session(&world).await;

    let outcome = json!({"type": "user.define_outcome", "description": "a report"});
    let sent = world.post(&format!("/v1/sessions/{id}/events"), json!({"events": [outcome]})).await;
    let told = told(&mut receiver, 4).await;
    let session = world.get(&format!("/v1/sessions/{id}")).await;

    let evaluation = &session["outcome_evaluations"][0];
    assert_eq!(evaluation["outcome_id"], sent["data"][0]["outcome_id"]);
    assert_eq!(
        (&evaluation["result"], &evaluation["description"]),
        (&json!("satisfied"), &json!("a report"))
    );
    assert_eq!(types(&world, &id, "?types[]=span.outcome_evaluation_end").await.len(), 1);
    assert!(told.contains(&"session.outcome_evaluation_ended".to_owned()));
}

#[tokio::test]
async fn an_interrupted_run_ends_at_once() {
    let mut settings = at_once();
    settings.session_seconds = 1e6;
    let world = World::new(settings).await;
    let id = session(&world).await;
    let events = format!("/v1/sessions/{id}/events");

    world.post(&events, json!({"events": [{"type": "user.message", "content": []}]})).await;
    let running = world.get(&format!("/v1/sessions/{id}")).await;
    world.post(&events, json!({"events": [{"type": "user.interrupt"}]})).await;
    let idle = world.get(&format!("/v1/sessions/{id}")).await;

    assert_eq!((&running["status"], &idle["status"]), (&json!("running"), &json!("idle")));
}

#[tokio::test]
async fn an_archived_session_is_terminated_with_its_threads() {
    let mut receiver = Receiver::new(vec![]).await;
    let world = World::new(delivering_to(&receiver)).await;
    let id = session(&world).await;

    let archived = world.post(&format!("/v1/sessions/{id}/archive"), json!({})).await;
    let threads = world.get(&format!("/v1/sessions/{id}/threads?include_archived=true")).await;
    let told = told(&mut receiver, 3).await;

    assert_eq!((&archived["status"], archived["archived_at"].is_string()), (&json!("terminated"), true));
    assert_eq!(threads["data"][0]["status"], "terminated");
    assert_eq!(told, ["session.archived", "session.created", "session.status_terminated"]);
}

#[tokio::test]
async fn a_webhook_about_a_thread_names_the_session_and_the_thread() {
    let mut receiver = Receiver::new(vec![]).await;
    let world = World::new(delivering_to(&receiver)).await;
    let id = session(&world).await;
    receiver.next().await;

    let thread =
        world.post(&format!("/_simulator/sessions/{id}/threads"), json!({"status": "running"})).await;
    let (_, event) = receiver.next().await;
    let fetched = world.get(&format!("/v1/sessions/{id}/threads/{}", thread["id"].as_str().unwrap())).await;

    assert_eq!(event["data"]["type"], "session.thread_created");
    assert_eq!((&event["data"]["id"], &event["data"]["session_thread_id"]), (&json!(id), &thread["id"]));
    assert_eq!(fetched, thread);
    assert!(thread["parent_thread_id"].is_string());
}

#[tokio::test]
async fn an_answer_to_a_send_that_does_not_come_leaves_its_events_in_the_session() {
    let world = World::new(at_once()).await;
    let id = session(&world).await;
    let path = format!("/v1/sessions/{id}/events");
    let send = async || {
        let request = world.client.post(format!("{}{path}", world.origin)).header("x-api-key", "sk-test");
        let request = request
            .header("anthropic-version", "2023-06-01")
            .header("anthropic-beta", "managed-agents-2026-04-01")
            .json(&json!({"events": [{"type": "user.message", "content": []}]}));
        request.send().await.map(|answer| answer.status().as_u16())
    };
    let messages = async || types(&world, &id, "?types[]=user.message").await.len();

    world.post("/_simulator/faults", json!({"send_mishap": "lost", "send_mishaps": 2})).await;
    assert!(send().await.is_err() && send().await.is_err());
    world.post("/_simulator/faults", json!({"send_mishap": "error"})).await;
    assert_eq!(send().await.unwrap(), 500);
    world.post("/_simulator/faults", json!({"send_mishap": "silence"})).await;
    tokio::select! {
        _ = send() => panic!("it was answered"),
        () = async { while messages().await < 4 {} } => {}
    }
    world.post("/_simulator/faults", json!({"refusals": [{"call": "send", "error": "503"}]})).await;
    assert_eq!(send().await.unwrap(), 503);

    assert_eq!(messages().await, 4, "what is refused before it is taken does not come up");
    assert_eq!(send().await.unwrap(), 200, "a fault is for one call");
}
