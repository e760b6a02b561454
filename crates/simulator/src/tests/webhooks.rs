//! Deliveries, their signatures, and what the sender does when they fail.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::super::{Settings, sign};
use super::world::{World, at_once};

pub(super) const KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// An endpoint that answers with these statuses in turn, and then with 204.
pub(super) struct Receiver {
    pub(super) url: String,
    deliveries: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
}

#[derive(Clone)]
struct Answers(Arc<Mutex<Vec<u16>>>, mpsc::UnboundedSender<(HeaderMap, Bytes)>);

impl Receiver {
    pub(super) async fn new(mut statuses: Vec<u16>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks/anthropic", listener.local_addr().unwrap());
        let (sender, deliveries) = mpsc::unbounded_channel();
        statuses.reverse();
        let router =
            Router::new().fallback(receive).with_state(Answers(Arc::new(Mutex::new(statuses)), sender));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver { url, deliveries }
    }

    pub(super) async fn next(&mut self) -> (HeaderMap, Value) {
        let (headers, body) = self.next_bytes().await;
        (headers, serde_json::from_slice(&body).unwrap())
    }

    /// The headers and body of the next delivery.
    pub(super) async fn next_bytes(&mut self) -> (HeaderMap, Bytes) {
        tokio::time::timeout(PATIENCE, self.deliveries.recv()).await.expect("a delivery").unwrap()
    }
}

async fn receive(
    State(Answers(statuses, sender)): State<Answers>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    sender.send((headers, body)).unwrap();
    let status = StatusCode::from_u16(statuses.lock().unwrap().pop().unwrap_or(204)).unwrap();
    (status, [(header::LOCATION, "/elsewhere")]).into_response()
}

pub(super) fn delivering_to(receiver: &Receiver) -> Settings {
    Settings {
        webhook_url: Some(receiver.url.clone()),
        signing_key: Some(KEY.to_owned().into()),
        ..at_once()
    }
}

/// Longer than any wait here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The journal, once it has this many entries.
async fn journal(world: &World, entries: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let deliveries = world.get("/_simulator/deliveries").await;
        let data = deliveries["data"].as_array().unwrap();
        if data.len() >= entries {
            return data.clone();
        }
        assert!(Instant::now() < deadline, "in vain: {entries} entries in {deliveries}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_end_of_a_batch_is_delivered_with_a_signature_over_its_exact_bytes() {
    let mut receiver = Receiver::new(vec![]).await;
    let world = World::new(delivering_to(&receiver)).await;

    let batch = world.post("/_simulator/batches", json!({"requests": 1})).await;
    let (headers, body) = receiver.next_bytes().await;

    let event: Value = serde_json::from_slice(&body).unwrap();
    let header = |name: &str| headers[name].to_str().unwrap();
    let timestamp = header("webhook-timestamp").parse().unwrap();
    let signed = sign::standard(&KEY.to_owned().into(), header("webhook-id"), timestamp, &body).unwrap();
    assert_eq!(signed[2].1, header("webhook-signature"));
    assert_eq!(event["id"], header("webhook-id"));
    assert_eq!((&event["type"], &event["data"]["type"]), (&json!("event"), &json!("batch.completed")));
    assert_eq!(event["data"]["id"], batch["id"]);
}

#[tokio::test]
async fn the_older_shape_has_its_type_at_the_top_and_the_older_signature() {
    let mut receiver = Receiver::new(vec![]).await;
    let settings =
        Settings { top_level_type: true, webhook_secret: Some("s".to_owned().into()), ..at_once() };
    let world = World::new(Settings { webhook_url: Some(receiver.url.clone()), ..settings }).await;

    let batch = world.post("/_simulator/batches", json!({"requests": 1})).await;
    let (headers, event) = receiver.next().await;

    assert_eq!(event["type"], "batch.completed");
    assert_eq!(event["data"], json!({"batch_id": batch["id"]}));
    assert!(headers.contains_key("anthropic-signature") && !headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn an_event_is_tried_three_times_and_then_dropped() {
    let receiver = Receiver::new(vec![500, 503, 500]).await;
    let world = World::new(delivering_to(&receiver)).await;

    world.post("/_simulator/events", json!({"type": "vault.created", "id": "vlt_1"})).await;
    let tried = journal(&world, 3).await;

    let attempts: Vec<_> = tried.iter().map(|entry| (&entry["attempt"], &entry["status"])).collect();
    assert_eq!(attempts, [(&json!(1), &json!(500)), (&json!(2), &json!(503)), (&json!(3), &json!(500))]);
    assert!(tried.iter().all(|entry| entry["event_id"] == tried[0]["event_id"]));
}

#[tokio::test]
async fn a_redirect_disables_the_endpoint_and_is_not_followed() {
    let mut receiver = Receiver::new(vec![308]).await;
    let world = World::new(delivering_to(&receiver)).await;

    world.post("/_simulator/events", json!({"type": "vault.created", "id": "vlt_1"})).await;
    journal(&world, 1).await;
    receiver.next().await;
    let disabled = world.get("/_simulator/endpoint").await;
    world.post("/_simulator/events", json!({"type": "vault.created", "id": "vlt_2"})).await;
    let lost = journal(&world, 2).await;
    world.post("/_simulator/endpoint", json!({})).await;
    world.post("/_simulator/events", json!({"type": "vault.created", "id": "vlt_3"})).await;
    let (_, event) = receiver.next().await;

    assert_eq!(disabled["disabled_reason"], "auto-disabled: endpoint URL returned a redirect (3xx)");
    assert_eq!(lost[1]["fault"], "endpoint disabled");
    assert_eq!(event["data"]["id"], "vlt_3");
}

/// Waits until so many attempts in a row have failed.
async fn until_failed(world: &World, failures: u32) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let endpoint = world.get("/_simulator/endpoint").await;
        if endpoint["failures_in_a_row"] == failures {
            return;
        }
        assert!(Instant::now() < deadline, "in vain: {failures} failures in {endpoint}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn sustained_failures_disable_the_endpoint_and_a_request_enables_it_without_a_replay() {
    let mut receiver = Receiver::new(vec![500, 500, 500, 204, 500, 500, 500, 500]).await;
    let settings = Settings { webhook_failures: 4, ..delivering_to(&receiver) };
    let world = World::new(settings).await;
    let emit = async |id: &str| {
        world.post("/_simulator/events", json!({"type": "vault.created", "id": id})).await;
    };

    // Three failures, and a success from which they count anew.
    for (id, failures) in [("vlt_1", 3), ("vlt_2", 0), ("vlt_3", 3), ("vlt_4", 4)] {
        emit(id).await;
        until_failed(&world, failures).await;
    }
    let lost = journal(&world, 9).await;
    let disabled = world.get("/_simulator/endpoint").await;
    world.post("/_simulator/endpoint", json!({})).await;
    emit("vlt_5").await;

    assert_eq!(
        (&disabled["state"], &disabled["disabled_reason"]),
        (&json!("disabled"), &json!("auto-disabled after sustained delivery failures"))
    );
    assert_eq!(lost[8]["fault"], "endpoint disabled");
    let mut arrived = Vec::new();
    for _ in 0..9 {
        arrived.push(receiver.next().await.1["data"]["id"].clone());
    }
    assert_eq!(arrived[7..], ["vlt_4", "vlt_5"], "what was lost meanwhile is not sent again");
}

#[tokio::test]
async fn faults_put_stale_forged_and_repeated_deliveries_around_an_event() {
    let mut receiver = Receiver::new(vec![401, 401]).await;
    let world = World::new(delivering_to(&receiver)).await;
    let faults = json!({"stale_share": 1.0, "forged_share": 1.0, "duplicate_share": 1.0});
    world.post("/_simulator/faults", faults).await;

    let event =
        world.post("/_simulator/events", json!({"type": "external_key.failed", "id": "ekey_1"})).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(receiver.next().await);
    }

    let signed_right = |(headers, event): &(HeaderMap, Value)| {
        let header = |name: &str| headers[name].to_str().unwrap();
        let body = event.to_string();
        let timestamp = header("webhook-timestamp").parse().unwrap();
        let signed = sign::standard(&KEY.to_owned().into(), header("webhook-id"), timestamp, body.as_bytes());
        signed.unwrap()[2].1 == header("webhook-signature")
    };
    let seconds = |n: usize| seen[n].0["webhook-timestamp"].to_str().unwrap().parse::<i64>().unwrap();
    assert!(seconds(2) - seconds(0) >= 600, "the first is stale");
    assert_eq!(seen.iter().map(signed_right).collect::<Vec<_>>(), [true, false, true, true]);
    assert_ne!(seen[1].1["id"], event["event_id"]);
    assert_eq!(seen[2].1["id"], event["event_id"]);
    assert_eq!(seen[3].1, seen[2].1);
    assert!(seen[2].1["data"].get("workspace_id").is_none(), "an organization's event has no workspace");
}

#[tokio::test]
async fn a_lost_event_is_never_sent() {
    let receiver = Receiver::new(vec![]).await;
    let mut settings = delivering_to(&receiver);
    settings.faults.lost_share = 1.0;
    let world = World::new(settings).await;

    world.post("/_simulator/events", json!({"type": "vault.created", "id": "vlt_1"})).await;
    let journal = journal(&world, 1).await;

    assert_eq!((&journal[0]["fault"], &journal[0]["status"]), (&json!("lost"), &Value::Null));
}
