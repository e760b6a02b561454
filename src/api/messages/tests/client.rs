//! The call that opens a stream, against a stand-in for the API.

use std::time::Duration;

use super::super::super::stand_in::StandIn;
use super::super::{MessageStream, NotOpened, StreamError};
use super::*;
use crate::api::{Client, Error};

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nrequest-id: req_head\r\n";
const BODY: &[u8] = br#"{"model":"m","stream":true}"#;

/// An answer that ends where the connection does.
fn answer(body: &str) -> Vec<u8> {
    format!("{HEAD}connection: close\r\n\r\n{body}").into_bytes()
}

async fn open(client: &Client) -> Result<MessageStream, NotOpened> {
    client.stream_message(BODY.into(), &["beta"]).await
}

/// The events of a stream, and why there were no more.
async fn read_all(stream: &mut MessageStream) -> (usize, Result<(), StreamError>) {
    let mut events = 0;
    loop {
        match stream.next().await {
            Ok(Some(_)) => events += 1,
            Ok(None) => return (events, Ok(())),
            Err(error) => return (events, Err(error)),
        }
    }
}

/// How a stream with this event as its last ends.
async fn ending(event: &str) -> StreamError {
    let api = StandIn::sending(&answer(&stream(EXAMPLE[..3].iter().chain([&event])))).await;
    let mut stream = open(&api.client()).await.unwrap();
    read_all(&mut stream).await.1.unwrap_err()
}

#[tokio::test]
async fn a_stream_is_asked_for_with_the_key_and_ends_with_its_message() {
    let api = StandIn::sending(&answer(&stream(EXAMPLE))).await;

    let mut stream = open(&api.client()).await.unwrap();
    let (events, end) = read_all(&mut stream).await;

    assert!(end.is_ok() && events == EXAMPLE.len());
    assert_eq!(stream.request_id(), Some("req_head"));
    assert!(stream.next().await.unwrap().is_none(), "the end stays the end");
    assert_eq!(stream.finish().unwrap().json, EXAMPLE_MESSAGE);
    let request = &api.requests()[0];
    assert!(request.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{request}");
    for line in [
        "x-api-key: sk-secret",
        "accept: text/event-stream",
        "accept-encoding: identity",
        "content-length: 27",
        "anthropic-beta: beta",
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
    }
}

#[tokio::test]
async fn an_error_within_a_stream_is_classed_by_its_type() {
    let cases = [
        ("overloaded_error", "overloaded", true),
        ("api_error", "unavailable", true),
        ("timeout_error", "unavailable", true),
        ("conflict_error", "unavailable", true),
        ("rate_limit_error", "rate_limited", true),
        ("invalid_request_error", "refused_by_api", false),
        ("not_found_error", "refused_by_api", false),
        ("of_tomorrow", "refused_by_api", false),
        ("authentication_error", "account", false),
        ("permission_error", "account", false),
        ("billing_error", "account", false),
    ];
    for (kind, expected, is_retryable) in cases {
        let event = format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"m sk-secret"}},"request_id":"req_body"}}"#
        );
        let error = ending(&event).await;
        assert_eq!((error.kind(), error.is_retryable()), (expected, is_retryable), "{kind}");
        let answer = error.answer().unwrap();
        assert_eq!((answer.kind.as_deref(), answer.message.as_str()), (Some(kind), "m [key]"));
        assert_eq!(answer.request_id.as_deref(), Some("req_head"));
    }
    let limit = r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
    assert_eq!(ending(limit).await.kind(), "account");
    let bare = ending(r#"{"type":"error"}"#).await;
    assert_eq!((bare.kind(), bare.is_retryable()), ("unavailable", true));
}

#[tokio::test]
async fn a_stream_that_ends_early_says_how_and_keeps_what_it_cost() {
    let half = stream(&EXAMPLE[..9]);
    let cut = format!("{HEAD}content-length: 9999\r\n\r\n{half}");
    let cases = [
        ("ended", StandIn::sending(&answer(&half)).await),
        ("cut", StandIn::sending(cut.as_bytes()).await),
        ("silent", StandIn::hanging_after(cut.as_bytes()).await),
    ];
    for (kind, api) in cases {
        let client = api.client_with(|settings| settings.idle_timeout = Duration::from_secs(1));
        let mut stream = open(&client).await.unwrap();

        let (events, end) = read_all(&mut stream).await;

        let error = end.unwrap_err();
        assert_eq!((events, error.kind(), error.is_retryable()), (9, kind, true), "{error}");
        assert_eq!(stream.so_far().usage.output_tokens, Some(31), "{kind}");
        assert!(matches!(stream.next().await, Err(StreamError::Ended)), "{kind}");
        assert!(matches!(stream.finish(), Err(StreamError::Ended)), "{kind}");
    }
}

#[tokio::test]
async fn a_stream_that_is_not_as_described_is_malformed() {
    let error = ending(EXAMPLE[0]).await;

    assert_eq!(error.kind(), "malformed");
    assert_eq!(error.to_string(), "the stream is not as the API describes it: the message begins twice");
}

#[tokio::test]
async fn a_stream_that_was_not_opened_says_whether_it_may_have_begun() {
    let closed = StandIn::sending(b"").await;
    let whole_message = StandIn::answering(200, "content-type: application/json\r\n", "{}").await;
    let refused = StandIn::answering(400, "", r#"{"error":{"type":"invalid_request_error"}}"#).await;
    let limited = StandIn::answering(429, "", "").await;
    let failed = StandIn::answering(529, "", "").await;
    for (api, kind, may_have_arrived) in [
        (closed, "transport", true),
        (whole_message, "malformed", true),
        (failed, "unavailable", true),
        (refused, "refused_by_api", false),
        (limited, "rate_limited", false),
    ] {
        let error = open(&api.client()).await.unwrap_err();
        assert_eq!((error.error.kind(), error.may_have_arrived), (kind, may_have_arrived), "{error}");
    }
    let nobody = StandIn::sending(b"").await.client_with(|settings| {
        settings.base_url = "http://127.0.0.1:1".parse().unwrap();
    });
    let error = open(&nobody).await.unwrap_err();
    assert!(matches!(error, NotOpened { error: Error::Transport(_), may_have_arrived: false }), "{error:?}");
}

#[tokio::test]
async fn messages_that_are_refused_hold_up_no_other_message() {
    for kind in ["invalid_request_error", "request_too_large"] {
        let api = StandIn::answering(400, "", &format!(r#"{{"error":{{"type":"{kind}"}}}}"#)).await;
        let client = api.client();
        for _ in 0..20 {
            assert_eq!(open(&client).await.unwrap_err().error.kind(), "refused_by_api");
        }
        assert_eq!((client.trouble(), api.requests().len()), (None, 20));
    }
}

#[tokio::test]
async fn streams_that_are_not_opened_tell_of_the_trouble_of_the_api() {
    let api = StandIn::answering(529, "", "").await;
    let client = api.client();
    for _ in 0..10 {
        assert_eq!(client.trouble(), None);
        assert_eq!(open(&client).await.unwrap_err().error.kind(), "unavailable");
    }

    assert!(client.trouble().unwrap().contains("529"), "{:?}", client.trouble());
}

#[tokio::test]
async fn streams_that_are_all_broken_off_tell_of_it_too() {
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;
    let api = StandIn::sending(&answer(&stream([EXAMPLE[0], error]))).await;
    let client = api.client();
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(open(&client).await.unwrap());
    }
    assert_eq!(client.trouble(), None);

    for stream in &mut streams {
        assert_eq!(read_all(stream).await.1.unwrap_err().kind(), "overloaded");
    }

    assert!(client.trouble().unwrap().contains("overloaded_error"), "{:?}", client.trouble());
}

#[tokio::test]
async fn debug_output_shows_nothing_of_the_message() {
    let api = StandIn::sending(&answer(&stream(EXAMPLE))).await;
    let mut stream = open(&api.client()).await.unwrap();
    stream.next().await.unwrap();

    assert_eq!(
        format!("{stream:?}"),
        r#"MessageStream { request_id: Some("req_head"), is_complete: false, .. }"#
    );
}
