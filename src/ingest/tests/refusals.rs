//! Deliveries that are not verified or have no envelope: what ingest answers and stores.

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
