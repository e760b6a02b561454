//! What can go wrong with a call that creates a batch, and the limits that it keeps.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::{World, at_once};

const PATH: &str = "/v1/messages/batches";

fn requests(count: usize) -> Value {
    let item = |n| json!({"custom_id": format!("r-{n}"), "params": {}});
    json!({"requests": (0..count).map(item).collect::<Vec<_>>()})
}

/// Does the call that creates a batch get its whole answer?
async fn is_answered(world: &World) -> bool {
    let request = world.client.post(format!("{}{PATH}", world.origin)).header("x-api-key", "sk-test");
    match request.header("anthropic-version", "2023-06-01").json(&requests(3)).send().await {
        Ok(answer) => answer.json::<Value>().await.is_ok(),
        Err(_) => false,
    }
}

async fn batches(world: &World) -> usize {
    world.get(PATH).await["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_request_that_breaks_off_leaves_no_batch() {
    let world = World::new(at_once()).await;
    let length = requests(3).to_string().len();
    for bytes in [0, 1, length / 2, length] {
        world.post("/_simulator/faults", json!({"create_cut_request_bytes": bytes})).await;

        assert!(!is_answered(&world).await, "{bytes}");
        assert_eq!(batches(&world).await, 0, "{bytes}");
    }

    assert!(is_answered(&world).await, "a fault is for one call");
    world.post("/_simulator/faults", json!({"create_cut_request_bytes": length + 1})).await;
    assert!(is_answered(&world).await, "the request ends before");
    assert_eq!(batches(&world).await, 2);
}

#[tokio::test]
async fn an_answer_that_breaks_off_leaves_its_batch() {
    let world = World::new(at_once()).await;
    for (nth, bytes) in [0, 1, 16, 200, 500].into_iter().enumerate() {
        world.post("/_simulator/faults", json!({"create_cut_answer_bytes": bytes})).await;

        assert!(!is_answered(&world).await, "{bytes}");
        assert_eq!(batches(&world).await, nth + 1, "{bytes}");
    }

    world.post("/_simulator/faults", json!({"create_cut_answer_bytes": 1_000_000})).await;
    assert!(is_answered(&world).await && is_answered(&world).await);
}

#[tokio::test]
async fn every_so_many_batches_are_slow() {
    let world = World::new(at_once()).await;
    world.post("/_simulator/faults", json!({"slow_batch_every": 3})).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(world.post(PATH, requests(1)).await["id"].clone());
    }
    for status in &mut statuses {
        let batch = world.get(&format!("{PATH}/{}", status.as_str().unwrap())).await;
        *status = batch["processing_status"].clone();
    }
    assert_eq!(json!(statuses), json!(["ended", "ended", "in_progress", "ended", "ended", "in_progress"]));
}

#[tokio::test]
async fn a_batch_comes_up_after_its_answer_was_lost() {
    let world = World::new(at_once()).await;
    let never = json!({"create_late_milliseconds": 1_000_000_000, "create_mishaps": 2});
    world.post("/_simulator/faults", never).await;
    assert!(!is_answered(&world).await && !is_answered(&world).await);
    assert_eq!(batches(&world).await, 0);
    let faults = world.get("/_simulator/faults").await;
    assert_eq!(
        (&faults["create_late_milliseconds"], &faults["create_mishaps"]),
        (&Value::Null, &json!(1)),
        "it has happened as often as it was asked for"
    );

    world.post("/_simulator/faults", json!({"create_late_milliseconds": 1})).await;
    assert!(!is_answered(&world).await);
    while batches(&world).await == 0 {}
}

#[tokio::test]
async fn a_chosen_call_is_refused_as_often_as_asked_for_with_the_code_of_the_api() {
    let world = World::new(at_once()).await;
    let invalid = "invalid_request_error";
    for (error, status, kind, retry_after) in [
        ("400", 400, invalid, None),
        ("401", 401, "authentication_error", None),
        ("402", 402, "billing_error", None),
        ("403", 403, "permission_error", None),
        ("409", 409, "conflict_error", None),
        ("413", 413, "request_too_large", None),
        ("429", 429, "rate_limit_error", Some("1")),
        ("504", 504, "timeout_error", None),
        ("529", 529, "overloaded_error", None),
        ("workspace_human_review_disabled", 400, invalid, None),
        ("claude_code_key_creator_not_member", 400, invalid, None),
        ("organization_on_hold", 400, invalid, None),
        ("cmek_key_disabled", 400, invalid, None),
        ("ramp_limit_exceeded", 429, "rate_limit_error", Some("1")),
        ("enforced_spend_limit_reached", 429, "rate_limit_error", None),
        ("contract_spend_limit_reached", 429, "rate_limit_error", None),
        ("change_outcome_unknown", 503, "api_error", None),
        ("authorization_check_unavailable", 503, "api_error", None),
        ("cmek_context_unavailable", 503, "api_error", None),
        ("cmek_key_unreachable", 503, "api_error", None),
    ] {
        let plan = json!({"refusals": [{"call": "create", "error": error}]});
        world.post("/_simulator/faults", plan).await;

        assert_eq!(batches(&world).await, 0, "a list is another call");
        let answer = world.send(Method::POST, PATH, Some(requests(1))).await;

        assert_eq!(answer.status().as_u16(), status, "{error}");
        let waits = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(waits.as_deref(), retry_after, "{error}");
        let told = &answer.json::<Value>().await.unwrap()["error"];
        let code = if error.parse::<u16>().is_ok() { Value::Null } else { json!(error) };
        assert_eq!((&told["type"], &told["details"]["error_code"]), (&json!(kind), &code));
    }

    world
        .post("/_simulator/faults", json!({"refusals": [{"call": "any", "error": "503", "times": 2}]}))
        .await;
    for expected in [503, 503, 200] {
        assert_eq!(world.send(Method::GET, PATH, None).await.status().as_u16(), expected);
    }
    let wrong = json!({"refusals": [{"call": "create", "error": "teapot"}]});
    assert_eq!(world.call(Method::POST, "/_simulator/faults", Some(wrong)).await.0, 400);
}

#[tokio::test]
async fn a_batch_has_a_hundred_thousand_requests_at_most() {
    let world = World::new(at_once()).await;

    let (status, answer) = world.call(Method::POST, PATH, Some(requests(100_001))).await;
    assert_eq!((status, &answer["error"]["type"]), (400, &json!("invalid_request_error")));
    assert_eq!(world.call(Method::POST, PATH, Some(requests(100_000))).await.0, 200);
}

#[tokio::test]
async fn a_batch_has_256_megabytes_at_most() {
    let world = World::new(at_once()).await;
    // With 100 the simulator asks for the body.
    for (bytes, expected) in [(256_000_001, b"HTTP/1.1 413"), (256_000_000, b"HTTP/1.1 100")] {
        let mut socket = TcpStream::connect(world.origin.strip_prefix("http://").unwrap()).await.unwrap();
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nanthropic-version: 2023-06-01\r\n\
             expect: 100-continue\r\ncontent-length: {bytes}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();

        assert_eq!(&answer, expected, "{bytes}");
    }
}
