//! A message as a stream of server-sent events, and what goes wrong with it.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, future, stream};
use serde_json::{Value, json};

use super::dice;
use super::faults::Faults;
use super::line_end::LineEnd;
use super::refusal::Refusal;

/// The answer that sends these events, unless one of the faults hits it.
pub(super) fn response(mut events: Vec<Value>, faults: &Faults, seed: u64, request_id: &str) -> Response {
    // Without a number, a fault hits the stream between the first delta and the last.
    let before_fault = faults.stream_fault_after_events.unwrap_or(events.len() / 2);
    let is_hit = |topic, share| dice::roll(seed, topic, request_id) < share;
    let mut is_silent = false;
    if is_hit("stream error", faults.stream_error_share) {
        events.truncate(before_fault);
        let mut error = Refusal::overloaded().envelope(request_id);
        error["error"]["type"] = json!(faults.stream_error_type);
        events.push(error);
    } else if is_hit("stream cut", faults.stream_cut_share) {
        events.truncate(before_fault);
    } else if is_hit("stream silence", faults.stream_silence_share) {
        events.truncate(before_fault);
        is_silent = true;
    }
    if faults.stream_novelties {
        events = events.into_iter().flat_map(with_novelties).collect();
    }
    let pause = Duration::from_millis(faults.stream_pause_milliseconds);
    let sent = server_sent(events, pause, faults.stream_line_end);
    let silence = stream::once(future::pending()).take(usize::from(is_silent));
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(sent.chain(silence).map(Ok::<_, Infallible>))).into_response()
}

/// The event, preceded by what the API may add one day: an event of another type, and before a delta one of another type.
fn with_novelties(event: Value) -> Vec<Value> {
    let mut events = vec![json!({"type": "novelty", "note": "an event of an unknown type"})];
    if event["type"] == "content_block_delta" {
        let delta = json!({"type": "novelty_delta", "note": "a delta of an unknown type"});
        events.push(json!({"type": "content_block_delta", "index": event["index"], "delta": delta}));
    }
    events.push(event);
    events
}

/// The events in their wire form, with a pause before each. What is new comes with a comment.
fn server_sent(events: Vec<Value>, pause: Duration, line_end: LineEnd) -> impl Stream<Item = Bytes> + Send {
    let line_end = match line_end {
        LineEnd::Lf => "\n",
        LineEnd::Crlf => "\r\n",
        LineEnd::Cr => "\r",
    };
    stream::iter(events).then(move |event| async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let name = event["type"].as_str().unwrap_or("message");
        let comment = if name == "novelty" { format!(": a comment{line_end}") } else { String::new() };
        Bytes::from(format!("{comment}event: {name}{line_end}data: {event}{line_end}{line_end}"))
    })
}
