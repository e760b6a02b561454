//! What every request meets: key, version, faults, and the error envelope.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::super::{Settings, Simulator};
use super::world::{World, at_once};

#[tokio::test]
async fn only_the_right_key_and_a_known_version_are_let_in() {
    let mut settings = at_once();
    settings.api_key = Some("sk-right".to_owned().into());
    let world = World::new(settings).await;
    let status = async |headers: &[(&'static str, &str)]| {
        let mut request = world.client.get(format!("{}/v1/messages/batches", world.origin));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert!(response.headers().contains_key("request-id"));
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap()["error"]["type"].clone())
    };
    let version = ("anthropic-version", "2026-10-21");

    assert_eq!(status(&[("x-api-key", "sk-right"), version]).await.0, 200);
    assert_eq!(status(&[("authorization", "Bearer sk-right"), version]).await.0, 200);
    assert_eq!(status(&[("x-api-key", "sk-wrong"), version]).await, (401, json!("authentication_error")));
    assert_eq!(status(&[version]).await, (401, json!("authentication_error")));
    assert_eq!(
        status(&[("x-api-key", "sk-right"), ("authorization", "Bearer sk-right"), version]).await.0,
        401
    );
    assert_eq!(status(&[("x-api-key", "sk-right")]).await, (400, json!("invalid_request_error")));
}

#[tokio::test]
async fn every_refusal_is_an_envelope_that_names_its_request() {
    let world = World::new(at_once()).await;

    for (method, path, expected) in [
        (Method::GET, "/v1/nothing", 404),
        (Method::PUT, "/v1/messages/batches", 405),
        (Method::GET, "/v1/messages/batches?limit=1001", 400),
    ] {
        let response = world.send(method, path, None).await;
        let request_id = response.headers()["request-id"].to_str().unwrap().to_owned();
        assert_eq!(response.status().as_u16(), expected);
        assert_eq!(response.json::<Value>().await.unwrap()["request_id"], request_id);
    }
}

#[tokio::test]
async fn the_api_fails_as_often_as_it_is_told_to() {
    let mut settings = at_once();
    (settings.faults.rate_limited_share, settings.faults.retry_after_seconds) = (1.0, 9);
    let world = World::new(settings).await;

    let limited = world.send(Method::GET, "/v1/messages/batches", None).await;
    world.post("/_simulator/faults", json!({"rate_limited_share": 0.0, "overloaded_share": 1.0})).await;
    let overloaded = world.call(Method::GET, "/v1/messages/batches", None).await;
    world.post("/_simulator/faults", json!({"overloaded_share": 0.0, "internal_error_share": 1.0})).await;
    let internal = world.call(Method::GET, "/v1/messages/batches", None).await;

    assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].to_str().unwrap()), (429, "9"));
    assert_eq!((overloaded.0, &overloaded.1["error"]["type"]), (529, &json!("overloaded_error")));
    assert_eq!((internal.0, &internal.1["error"]["type"]), (500, &json!("api_error")));
}

#[tokio::test]
async fn a_limit_is_enforced_and_told_in_the_headers() {
    let mut settings = at_once();
    (settings.faults.limit_per_second, settings.faults.retry_after_seconds) = (Some(1), 3);
    let world = World::new(settings).await;

    let within = world.send(Method::GET, "/v1/messages/batches", None).await;
    let beyond = world.send(Method::GET, "/v1/messages/batches", None).await;

    let header = |name| within.headers()[name].to_str().unwrap();
    assert_eq!((within.status().as_u16(), header("anthropic-ratelimit-requests-limit")), (200, "60"));
    assert_eq!(header("anthropic-ratelimit-requests-remaining"), "0");
    assert_eq!((beyond.status().as_u16(), beyond.headers()["retry-after"].to_str().unwrap()), (429, "3"));
}

#[tokio::test]
async fn an_outage_refuses_every_call_and_nothing_else() {
    let world = World::new(at_once()).await;
    let outage = json!({"outages": [{"seconds": 1000, "error": "401"}]});
    world.post("/_simulator/faults", outage).await;
    assert_eq!(world.call(Method::GET, "/v1/messages/batches", None).await.0, 401);

    world.post("/_simulator/faults", json!({"outages": []})).await;
    assert_eq!(world.call(Method::GET, "/v1/messages/batches", None).await.0, 200);
}

#[tokio::test]
async fn a_new_batch_answers_404_as_often_as_it_is_told_to() {
    let mut settings = at_once();
    settings.faults.not_found_first = 2;
    let world = World::new(settings).await;
    let id =
        world.post("/_simulator/batches", json!({"requests": 1})).await["id"].as_str().unwrap().to_owned();

    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(world.call(Method::GET, &format!("/v1/messages/batches/{id}"), None).await.0);
    }

    assert_eq!(statuses, [404, 404, 200]);
}

#[tokio::test]
async fn the_journal_tells_who_came_with_a_key() {
    let world = World::new(at_once()).await;

    world.get("/v1/messages/batches").await;
    world.client.get(format!("{}/v1/messages/batches", world.origin)).send().await.unwrap();
    let requests = world.get("/_simulator/requests").await["data"].clone();

    assert_eq!((&requests[0]["key"], &requests[0]["status"]), (&json!(true), &json!(200)));
    assert_eq!((&requests[1]["key"], &requests[1]["status"]), (&json!(false), &json!(401)));
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_before_it_comes() {
    let world = World::new(at_once()).await;
    let mut socket = TcpStream::connect(world.origin.strip_prefix("http://").unwrap()).await.unwrap();
    let head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 40000000\r\n\r\n";

    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();

    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_stop_ends_it_also_while_a_connection_is_kept_open() {
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(Simulator::new(at_once()).serve(listener, stop.clone()));
    let _kept = TcpStream::connect(origin.strip_prefix("http://").unwrap()).await.unwrap();

    stop.cancel();

    assert!(serving.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_signing_key_that_is_none_is_told_at_once() {
    let mut settings = Settings { signing_key: Some("whsec_***".to_owned().into()), ..at_once() };
    settings.webhook_url = Some("http://127.0.0.1:9/".to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();

    let error = Simulator::new(settings).serve(listener, CancellationToken::new()).await.unwrap_err();

    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
