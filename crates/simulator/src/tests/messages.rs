//! Messages, whole and streamed.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::super::text;
use super::world::{World, at_once};

fn request(stream: bool) -> Value {
    let tool = json!({"name": "lookup", "input_schema": {"type": "object"}});
    json!({"model": "claude-opus-5-5", "max_tokens": 1000, "stream": stream, "tools": [tool],
        "tool_choice": {"type": "any"}, "messages": [{"role": "user", "content": "hello"}]})
}

/// The events of a stream, each checked to carry its name twice.
async fn events(world: &World) -> Vec<Value> {
    let response = world.send(Method::POST, "/v1/messages", Some(request(true))).await;
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    let event = |block: &str| {
        let (name, data) = block.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        data
    };
    text.split_terminator("\n\n").map(event).collect()
}

#[tokio::test]
async fn a_stream_tells_the_message_that_would_have_come_whole() {
    let world = World::new(at_once()).await;
    let whole = world.post("/v1/messages", request(false)).await;

    let events = events(&world).await;

    let deltas = |kind: &'static str, field: &'static str| -> String {
        let deltas = events.iter().filter(move |event| event["delta"]["type"] == kind);
        deltas.map(move |event| event["delta"][field].as_str().unwrap()).collect()
    };
    let end = &events[events.len() - 2];
    assert_eq!(whole["content"][0]["text"], deltas("text_delta", "text"));
    assert_eq!(
        whole["content"][1]["input"],
        serde_json::from_str::<Value>(&deltas("input_json_delta", "partial_json")).unwrap()
    );
    assert_eq!(end["delta"]["stop_reason"], "tool_use");
    assert_eq!(end["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    assert_eq!(events.first().unwrap()["message"]["content"], json!([]));
    assert!(events.iter().any(|event| event["type"] == "ping"));
    assert_eq!(events.last().unwrap()["type"], "message_stop");
}

#[tokio::test]
async fn a_stream_breaks_off_with_an_error_or_without_a_word() {
    let mut settings = at_once();
    settings.faults.stream_error_share = 1.0;
    let world = World::new(settings).await;

    let failed = events(&world).await;
    world.post("/_simulator/faults", json!({"stream_error_share": 0.0, "stream_cut_share": 1.0})).await;
    let cut = events(&world).await;

    let last = failed.last().unwrap();
    assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!("overloaded_error")));
    assert!(last["request_id"].is_string());
    assert_eq!(cut.last().unwrap()["type"], "content_block_delta");
}

#[tokio::test]
async fn the_error_that_breaks_a_stream_off_has_the_type_and_the_place_that_are_asked_for() {
    let world = World::new(at_once()).await;
    let faults =
        json!({"stream_error_share": 1.0, "stream_error_type": "api_error", "stream_fault_after_events": 1});
    world.post("/_simulator/faults", faults).await;

    let events = events(&world).await;

    assert_eq!(events.len(), 2);
    assert_eq!(
        (&events[0]["type"], &events[1]["error"]["type"]),
        (&json!("message_start"), &json!("api_error"))
    );
}

#[tokio::test]
async fn a_silent_stream_stays_open_after_its_last_event() {
    let mut settings = at_once();
    (settings.faults.stream_silence_share, settings.faults.stream_fault_after_events) = (1.0, Some(2));
    let world = World::new(settings).await;
    let mut response = world.send(Method::POST, "/v1/messages", Some(request(true))).await;
    let mut text = String::new();
    while text.matches("\n\n").count() < 2 {
        text += str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap();
    }

    assert!(text.contains("event: content_block_start"), "{text}");
    let more = tokio::time::timeout(Duration::from_millis(50), response.chunk()).await;
    assert!(more.is_err(), "neither an event nor an end");
}

#[tokio::test]
async fn lines_end_as_asked_for_and_novelties_stand_between_what_is_known() {
    let world = World::new(at_once()).await;
    for (name, line_end) in [("lf", "\n"), ("crlf", "\r\n"), ("cr", "\r")] {
        let faults = json!({"stream_line_end": name, "stream_novelties": true});
        world.post("/_simulator/faults", faults).await;

        let text = world.send(Method::POST, "/v1/messages", Some(request(true))).await.text().await.unwrap();

        let line = |line: &str| text.contains(&format!("{line}{line_end}"));
        assert!(line(": a comment") && line("event: novelty") && line("event: message_stop"), "{text}");
        assert!(text.contains(r#""type":"novelty_delta""#), "{text}");
        let others = ["\n", "\r"].map(|other| text.replace(line_end, "").contains(other));
        assert_eq!(others, [false; 2], "{name}");
    }
}

#[tokio::test]
async fn who_asks_for_thoughts_gets_them_with_their_signature() {
    let world = World::new(at_once()).await;
    let mut request = request(false);
    request["thinking"] = json!({"type": "enabled", "budget_tokens": 1024});
    let whole = world.post("/v1/messages", request.clone()).await;
    request["stream"] = json!(true);

    let text = world.send(Method::POST, "/v1/messages", Some(request)).await.text().await.unwrap();

    assert_eq!(whole["content"][0]["thinking"], "The user wrote 5 characters.");
    assert!(whole["content"][0]["signature"].as_str().unwrap().ends_with("=="));
    let at = |what| text.find(what).unwrap();
    assert!(
        at("thinking_delta") < at("signature_delta") && at("signature_delta") < at("text_delta"),
        "{text}"
    );
}

#[tokio::test]
async fn an_answer_stays_within_max_tokens() {
    let world = World::new(at_once()).await;
    let mut request = request(false);
    (request["max_tokens"], request["tool_choice"]) = (json!(10), json!({"type": "auto"}));

    let message = world.post("/v1/messages", request).await;

    assert_eq!(message["stop_reason"], "max_tokens");
    assert_eq!(text::tokens(message["content"][0]["text"].as_str().unwrap()), 10);
}

#[tokio::test]
async fn a_wrong_message_is_refused() {
    let world = World::new(at_once()).await;

    let (status, answer) = world.call(Method::POST, "/v1/messages", Some(json!({"model": "m"}))).await;

    assert_eq!((status, &answer["error"]["type"]), (400, &json!("invalid_request_error")));
}
