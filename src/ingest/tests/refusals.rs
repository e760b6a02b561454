//! Deliveries that are not verified or have no envelope: what ingest answers and stores.

use std::time::{Duration, Instant};

use super::super::Limits;
use super::super::fake::FakeStore;
use super::deliveries::{delivery, delivery_with};
use super::door::{Door, statuses};

#[tokio::test]
async fn every_unverified_delivery_gets_the_same_answer_and_leaves_nothing() {
    let door = Door::open().await;
    let valid = String::from_utf8(delivery("whe_1")).unwrap();
    let mut answers = Vec::new();
    for (from, to) in [
        ("webhook-id: whe_header\r\n", ""),
        ("webhook-id: whe_header", "webhook-id: whe_other"),
        ("webhook-id: whe_header", "webhook-id: \u{fc}\u{202e}"),
        ("webhook-id: whe_header\r\n", "webhook-id: whe_header\r\nWebhook-Id: whe_other\r\n"),
        ("webhook-timestamp: 1793534400", "webhook-timestamp: 1793534401"),
        ("webhook-timestamp: 1793534400", "webhook-timestamp: 1793534099"),
        ("webhook-timestamp: 1793534400", "webhook-timestamp: -9223372036854775808"),
        ("webhook-timestamp: 1793534400", "webhook-timestamp: +1793534400"),
        ("webhook-signature: v1,", "webhook-signature: v1a,"),
        ("webhook-signature: v1,", "webhook-signature: \t"),
        ("webhook-signature: v1,", "svix-signature: v1,"),
        ("sesn_1", "sesn_2"),
    ] {
        assert!(valid.contains(from), "{from}");
        let answer = door.send(valid.replace(from, to)).await;
        assert_eq!(statuses(&answer), [401], "{to:?}");
        answers.push(answer.lines().filter(|line| !line.starts_with("date: ")).collect::<String>());
    }

    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(door.stored(), [""; 0]);
}

#[tokio::test]
async fn a_verified_body_is_kept_exactly_whatever_is_in_it() {
    for unreadable in [&b""[..], b"   ", b"nothing", b"[]", b"{}", b"{\"type\":\"a\",}", b"\x1f\x8b\x08gzip"]
    {
        let door = Door::open().await;
        let answer = door.send(delivery_with("/webhook", unreadable, "")).await;
        assert_eq!(statuses(&answer), [204], "{unreadable:?}");
        let kept = &door.store.stored()["whe_header"];
        assert_eq!((kept.event_type.as_str(), kept.body.as_bytes()), ("unreadable", unreadable));
    }

    let door = Door::open().await;

    let deep = format!(r#"{{"type":"a","id":"deep","x":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    for (id, odd) in [
        ("nul", &br#"{"type":"a","id":"nul","x":"\u0000"}"#[..]),
        ("surrogate", br#"{"type":"a","id":"surrogate","x":"\ud800"}"#),
        ("bytes", b"{\"type\":\"a\",\"id\":\"bytes\",\"x\":\"\xff\"}"),
        ("deep", deep.as_bytes()),
    ] {
        let more = "content-type: text/plain; charset=utf-16\r\ncontent-encoding: gzip\r\n";
        let answer = door.send(delivery_with("/webhook", odd, more)).await;
        assert_eq!(statuses(&answer), [204], "{id}");
        assert_eq!(door.store.stored()[id].body.as_bytes(), odd, "{id}");
    }
}

#[tokio::test]
async fn refusals_of_every_kind_keep_to_one_pace() {
    let door = Door::with(Limits { refusals_per_second: 10, ..Limits::default() }, FakeStore::new()).await;
    let began = Instant::now();
    for (request, status) in [("POST /webhook", 401), ("POST /elsewhere", 404), ("PUT /webhook", 405)] {
        assert_eq!(statuses(&door.send(format!("{request} HTTP/1.1\r\nhost: a\r\n\r\n")).await), [status]);
    }
    assert!(
        began.elapsed() >= Duration::from_millis(100),
        "the second waits for a tenth of a second at least"
    );
}

/// Ends ingest, which reports for the last time then, and returns what was reported.
async fn reported(door: Door) -> Vec<(String, &'static str, i64)> {
    door.stop.cancel();
    assert!(door.running.await.unwrap());
    let refused = door.store.refused();
    refused.into_iter().map(|((sender, reason), requests)| (sender, reason, requests)).collect()
}

fn at_once() -> Limits {
    Limits { linger: Duration::ZERO, ..Limits::default() }
}

#[tokio::test]
async fn refused_requests_are_counted_by_sender_and_reason_and_reported_without_what_they_said() {
    let door = Door::with(at_once(), FakeStore::new()).await;
    let valid = String::from_utf8(delivery("whe_1")).unwrap();
    for (from, to) in [
        ("webhook-id: whe_header\r\n", ""),
        ("webhook-id: whe_header\r\n", ""),
        ("webhook-signature: v1,", "webhook-signature: hex="),
        ("webhook-signature: v1,", "svix-signature: v1,"),
        ("webhook-timestamp: 1793534400", "webhook-timestamp: 1793530000"),
        ("webhook-timestamp: 1793534400", "webhook-timestamp: 1793539999"),
        ("\"id\":\"sesn_1\"", "\"id\": \"sesn_1\""),
        ("sesn_1", "sesn_2"),
        ("/webhooks/anthropic", "/webhooks/nobody"),
        ("POST", "PUT"),
    ] {
        assert!(valid.contains(from), "{from}");
        let mut request = valid.replace(from, to);
        if to.contains("\": \"") {
            let length = super::deliveries::body("whe_1").len();
            let header = |length: usize| format!("content-length: {length}\r\n");
            request = request.replace(&header(length), &header(length + 1));
        }
        door.send(request).await;
    }

    let expected = [
        ("-", "not_found", 1),
        ("-", "wrong_method", 1),
        ("anthropic", "body_altered", 1),
        ("anthropic", "future", 1),
        ("anthropic", "mismatch", 1),
        ("anthropic", "missing", 2),
        ("anthropic", "not_base64", 1),
        ("anthropic", "stale", 1),
        ("anthropic", "wrong_header_name", 1),
    ];
    assert_eq!(reported(door).await, expected.map(|(sender, reason, n)| (sender.to_owned(), reason, n)));
}

#[tokio::test]
async fn what_cannot_be_reported_is_kept_for_the_next_report_and_holds_up_no_delivery() {
    let limits = Limits { report_every: Duration::from_millis(10), ..at_once() };
    let door = Door::with(limits, FakeStore::new()).await;
    door.store.lose_reports(usize::MAX);
    for _ in 0..3 {
        assert_eq!(statuses(&door.send("POST /webhook HTTP/1.1\r\nhost: a\r\n\r\n").await), [401]);
        assert_eq!(statuses(&door.send(delivery("whe_1")).await), [204]);
    }
    assert!(door.store.refused().is_empty());

    door.store.lose_reports(0);

    assert_eq!(reported(door).await, [("anthropic".to_owned(), "missing", 3)]);
}

#[tokio::test]
async fn the_last_report_is_sent_again_until_it_arrives() {
    let door = Door::with(at_once(), FakeStore::new()).await;
    assert_eq!(statuses(&door.send("POST /webhook HTTP/1.1\r\nhost: a\r\n\r\n").await), [401]);
    door.store.lose_reports(3);

    assert_eq!(reported(door).await, [("anthropic".to_owned(), "missing", 1)]);
}

#[tokio::test]
async fn of_many_bad_deliveries_only_some_are_looked_at_more_closely_and_all_are_counted() {
    let door = Door::with(at_once(), FakeStore::new()).await;
    let bad = String::from_utf8(delivery("whe_1"))
        .unwrap()
        .replace("webhook-signature: v1,", "webhook-signature: hex=");

    for _ in 0..100 {
        assert_eq!(statuses(&door.send(&bad).await), [401]);
    }

    let counts = reported(door).await;
    assert_eq!(counts.iter().map(|(_, _, requests)| requests).sum::<i64>(), 100, "{counts:?}");
    assert!(
        counts.iter().any(|(_, reason, requests)| *reason == "not_base64" && *requests >= 20),
        "{counts:?}"
    );
    assert!(counts.iter().all(|(_, reason, _)| ["not_base64", "mismatch"].contains(reason)), "{counts:?}");
}
