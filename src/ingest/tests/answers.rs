//! What ingest answers, by path and method, to a repeated delivery, and while the store is unavailable.

use std::time::Duration;

use super::super::Limits;
use super::super::fake::{FakeStore, Verdict};
use super::deliveries::{body, delivery, delivery_with};
use super::door::{Door, statuses};

#[tokio::test]
async fn a_delivery_is_stored_under_every_name_of_the_endpoint_and_by_every_spelling() {
    let door = Door::open().await;
    for (id, path) in [
        ("whe_1", "/webhooks/anthropic"),
        ("whe_2", "/webhooks/anthropic/"),
        ("whe_3", "/webhook"),
        ("whe_4", "/webhook/"),
        ("whe_5", "/anthropic-webhook"),
        ("whe_6", "/anthropic-webhook/"),
        ("whe_7", "/webhook?from=here"),
        ("whe_8", "http://elsewhere.example/webhook"),
    ] {
        let answer = door.send(delivery_with(path, body(id).as_bytes(), "")).await;
        assert_eq!(statuses(&answer), [204], "{path}");
        assert!(door.store.stored().contains_key(id), "{path}");
    }
}

#[tokio::test]
async fn the_same_event_is_acknowledged_again_and_stored_once() {
    let door = Door::open().await;

    assert_eq!(statuses(&door.send(delivery("whe_1")).await), [204]);
    assert_eq!(statuses(&door.send(delivery("whe_1")).await), [204]);

    assert_eq!(door.stored(), ["whe_1"]);
}

#[tokio::test]
async fn a_probe_is_checked_as_a_delivery_and_stored_nowhere() {
    let door = Door::open().await;
    let probe = delivery("restante_probe_1");

    let answer = door.send(probe.clone()).await;

    assert_eq!(statuses(&answer), [409]);
    assert!(answer.contains("restante-probe: verified"), "{answer}");
    assert_eq!(door.stored(), [""; 0]);
    let changed = String::from_utf8(probe).unwrap().replace("sesn_1", "sesn_2");
    let answer = door.send(changed).await;
    assert_eq!(statuses(&answer), [401]);
    assert!(!answer.contains("restante-probe"), "{answer}");
}

#[tokio::test]
async fn other_paths_and_methods_are_answered_without_a_redirect() {
    let door = Door::open().await;
    for (line, expected) in [
        ("PUT /anthropic-webhook", 405),
        ("DELETE /webhooks/anthropic", 405),
        ("OPTIONS /webhooks/anthropic/", 405),
        ("BREW /webhook", 405),
        ("POST /", 404),
        ("DELETE /", 404),
        ("POST //webhook", 404),
        ("POST /webhook//", 404),
        ("POST /Webhook", 404),
        ("POST /web%68ook", 404),
        ("POST /webhook/..", 404),
        ("POST /webhooks", 404),
        ("POST /webhooks/anthropic/x", 404),
        ("GET /metrics", 404),
        ("OPTIONS *", 404),
        ("CONNECT restante:80", 404),
    ] {
        let answer = door.send(format!("{line} HTTP/1.1\r\nhost: restante\r\n\r\n")).await;
        assert_eq!(statuses(&answer), [expected], "{line}");
        assert!(!answer.contains("location"), "{line}");
        assert_eq!(answer.contains("allow: GET, HEAD, POST"), expected == 405, "{line}");
    }
}

#[tokio::test]
async fn a_health_check_is_answered_wherever_a_balancer_may_look() {
    let door = Door::open().await;
    for path in ["/", "/webhooks/anthropic", "/webhooks/anthropic/", "/webhook?x=1", "/anthropic-webhook"] {
        for (method, version) in [("GET", "1.1"), ("HEAD", "1.1"), ("GET", "1.0")] {
            let answer = door.send(format!("{method} {path} HTTP/{version}\r\nhost: a\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/{version} 200")), "{method} {path}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_away_for_too_long_is_answered_with_when_to_come_back() {
    let limits = Limits { ingest_wait: Duration::from_millis(500), ..Limits::default() };
    let store = FakeStore::scripted(|_, events| match events[0].event_id.as_str() {
        "whe_away" => Verdict::Unavailable,
        "whe_refused" => Verdict::Refuse,
        _ => Verdict::Take,
    });
    let door = Door::with(limits, store).await;

    for id in ["whe_away", "whe_refused"] {
        let answer = door.send(delivery(id)).await;
        assert_eq!(statuses(&answer), [503], "{id}");
        assert!(answer.contains("retry-after: 5"), "{answer}");
    }
    assert_eq!(statuses(&door.send(delivery("whe_1")).await), [204]);
    assert_eq!(door.stored(), ["whe_1"]);
}
