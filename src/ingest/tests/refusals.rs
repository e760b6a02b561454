//! Deliveries that are not verified or have no envelope: what ingest answers, stores and logs.

use std::sync::{Arc, Mutex};

use metrics_exporter_prometheus::PrometheusBuilder;

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
async fn what_is_odd_is_logged_and_counted_by_its_reason_and_reveals_nothing() {
    let forged = String::from_utf8(delivery("whe_1")).unwrap().replace("v1,", "v1,canary");
    let other = String::from_utf8(delivery("whe_1")).unwrap().replace("sesn_1", "sesn_2");
    let other = delivery_with("/webhook", other.split_once("\r\n\r\n").unwrap().1.as_bytes(), "");
    let unreadable = delivery_with("/webhook", b"sesn_1", "");
    // `tracing` asks the subscribers once whether they want a line, when it is first reached. A neighbour without one may reach it at
    // the very moment in which this test sets its own; so every line has been reached before.
    let before = Door::open().await;
    for request in [forged.as_bytes(), &delivery("whe_1"), &other, &unreadable] {
        before.send(request).await;
    }
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    let _logging = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    let door = Door::open().await;

    for _ in 0..3 {
        assert_eq!(statuses(&door.send(&forged).await), [401]);
    }
    for kept in [delivery("whe_1"), delivery("whe_1"), other, unreadable] {
        assert_eq!(statuses(&door.send(kept).await), [204]);
    }
    for method in ["GET", "HEAD"] {
        assert_eq!(statuses(&door.send(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")).await), [200]);
    }

    let rendered = metrics.render();
    for counted in [
        r#"restante_deliveries_total{answer="401",reason="mismatch"} 3"#,
        r#"restante_deliveries_total{answer="204",reason="stored"} 1"#,
        r#"restante_deliveries_total{answer="204",reason="duplicate"} 2"#,
        r#"restante_deliveries_total{answer="204",reason="unreadable"} 1"#,
        "restante_ack_seconds_count 4",
    ] {
        assert!(rendered.contains(counted), "{counted}: {rendered}");
    }
    assert_eq!(rendered.matches("restante_deliveries_total{").count(), 4, "a health check counts as nothing");
    let logged = lines.text();
    assert_eq!(logged.matches("refused a delivery").count(), 1, "{logged}");
    assert!(logged.contains("mismatch"), "{logged}");
    assert_eq!(logged.matches("a delivery repeats the identifier").count(), 1, "{logged}");
    assert!(
        logged.contains("cannot be read") && logged.contains("no JSON from line 1, column 1"),
        "{logged}"
    );
    for secret in ["canary", "sesn_", "webhook-signature", "24-byte key", "whe_header"] {
        assert!(!logged.contains(secret), "{secret}: {logged}");
    }
}

/// The captured log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
