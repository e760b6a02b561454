//! What an operator sees of deliveries that are not verified, repeat an identifier or cannot be read.
//!
//! In the real process: within a process of tests, a line that another thread is the first to reach may stay off for everyone.

use crate::support::sender::{envelope, now_seconds};
use crate::support::{Delivery, Process, Sender, World};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_is_logged_and_counted_by_its_reason_and_reveals_nothing() {
    let world = World::new().await;
    let ingest = Process::ingest(&world.url, &[("RUST_LOG", "trace")]).await;
    let sender = Sender::to(ingest.address());
    let good = Delivery::event("whe_1", "session.status_idled", "sesn_1");
    let mut forged = good.clone();
    forged.headers[2].1 = "v1,canary".to_owned();
    let other = Delivery::new("whe_1", envelope("whe_1", "session.status_idled", "sesn_2"));
    let unreadable = Delivery::stamped("whe_header", &now_seconds().to_string(), "sesn_1");

    for _ in 0..3 {
        assert_eq!(sender.status(&forged).await, 401);
    }
    for kept in [&good, &good, &other, &unreadable] {
        assert_eq!(sender.status(kept).await, 204);
    }

    for method in ["GET", "HEAD"] {
        let request = format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert_eq!(sender.raw(request.as_bytes()).await, 200);
    }

    let (_, metrics) = ingest.ops("/metrics").await;
    for counted in [
        r#"restante_deliveries_total{answer="401",reason="mismatch"} 3"#,
        r#"restante_deliveries_total{answer="204",reason="stored"} 1"#,
        r#"restante_deliveries_total{answer="204",reason="duplicate"} 2"#,
        r#"restante_deliveries_total{answer="204",reason="unreadable"} 1"#,
        "restante_ack_seconds_count 4",
    ] {
        assert!(metrics.contains(counted), "{counted}: {metrics}");
    }
    let kinds = metrics
        .lines()
        .filter(|line| line.starts_with("restante_deliveries_total{") && !line.ends_with(" 0"));
    assert_eq!(kinds.count(), 4, "a health check counts as nothing: {metrics}");
    let logged = ingest.log();
    for told in [
        "refused a delivery",
        "not_base64",
        "a delivery repeats the identifier",
        "no JSON from line 1, column 1",
    ] {
        assert!(logged.contains(told), "{told}: {logged}");
    }
    assert!(logged.matches("refused a delivery").count() < 3, "many are one line: {logged}");
    for secret in ["canary", "sesn_", "webhook-signature", "24-byte key", "whe_header"] {
        assert!(!logged.contains(secret), "{secret}: {logged}");
    }
}
