//! Ingest as its senders meet it: raw bytes on a socket, the answers to them, and what is stored then.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use metrics_exporter_prometheus::PrometheusBuilder;
use secrecy::SecretSlice;
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fake::{FakeStore, Verdict};
use super::{Limits, Settings, run};
use crate::event::Body;
use crate::signature::Keys;

const NOW: i64 = 1_793_534_400;
const KEY: &[u8] = b"the 24-byte key of tests";

/// Ingest, running on a port of its own.
struct Door {
    address: SocketAddr,
    store: FakeStore,
    stop: CancellationToken,
    running: JoinHandle<bool>,
}

impl Door {
    async fn open() -> Door {
        Door::with(Limits::default(), FakeStore::new()).await
    }

    async fn with(limits: Limits, store: FakeStore) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let keys = Keys { standard: vec![SecretSlice::from(KEY.to_vec())], older: vec![] };
        let stop = CancellationToken::new();
        let settings = Settings { keys, now: || NOW, limits };
        let running = tokio::spawn(run(settings, listener, store.clone(), stop.clone()));
        Door { address, store, stop, running }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Writes `request`, closes that direction, and reads all that is answered.
    async fn send(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // What is refused early may not be read to its end.
        let _ = stream.write_all(request.as_ref()).await;
        let _ = stream.shutdown().await;
        read_to_end(&mut stream).await
    }

    fn stored(&self) -> Vec<String> {
        self.store.stored().into_keys().collect()
    }
}

/// All that comes until the connection ends, in whatever way it does. It must end before hyper's own deadline of
/// 30 s would end it.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection is still open");
    String::from_utf8(answer).unwrap()
}

/// The head of the next answer; the answers here have no bodies.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// The statuses of all answers in `text`.
fn statuses(text: &str) -> Vec<u16> {
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

fn body(id: &str) -> String {
    format!(r#"{{"type":"event","id":"{id}","data":{{"type":"session.status_idled","id":"sesn_1"}}}}"#)
}

/// The three signature headers for `body`, each with its line end.
fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
    mac.update(format!("whe_header.{NOW}.").as_bytes());
    mac.update(body);
    let signature =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, mac.finalize().into_bytes());
    format!("webhook-id: whe_header\r\nwebhook-timestamp: {NOW}\r\nwebhook-signature: v1,{signature}\r\n")
}

/// A signed delivery; `more` are further header lines.
fn delivery_with(path: &str, body: &[u8], more: &str) -> Vec<u8> {
    let signature = signature(body);
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: restante\r\n{signature}content-length: {length}\r\n{more}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn delivery(id: &str) -> Vec<u8> {
    delivery_with("/webhooks/anthropic", body(id).as_bytes(), "")
}

/// A signed delivery whose length headers and body are `framed`, whatever that is; `id` is signed.
fn framed(id: &str, framed: &str) -> String {
    format!("POST /webhook HTTP/1.1\r\nhost: restante\r\n{}{framed}", signature(body(id).as_bytes()))
}

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
async fn other_paths_and_methods_are_answered_without_a_redirect() {
    let door = Door::open().await;
    for (line, expected) in [
        ("GET /webhook", 405),
        ("HEAD /webhook/", 405),
        ("PUT /anthropic-webhook", 405),
        ("DELETE /webhooks/anthropic", 405),
        ("OPTIONS /webhooks/anthropic/", 405),
        ("BREW /webhook", 405),
        ("GET /", 404),
        ("POST /", 404),
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
        assert_eq!(answer.contains("allow: POST"), expected == 405, "{line}");
    }
}

#[tokio::test]
async fn every_unverified_delivery_gets_the_same_answer_and_leaves_nothing() {
    let door = Door::open().await;
    let valid = String::from_utf8(delivery("whe_1")).unwrap();
    let mut answers = Vec::new();
    for (from, to) in [
        ("webhook-id: whe_header\r\n", ""),
        ("webhook-id: whe_header", "webhook-id: whe_other"),
        ("webhook-id: whe_header", "webhook-id: \u{fc}\u{202e}"),
        ("webhook-id: whe_header\r\n", "webhook-id: whe_header\r\nWebhook-Id: whe_header\r\n"),
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
async fn a_verified_body_without_an_envelope_is_refused_and_any_other_is_kept_exactly() {
    let door = Door::open().await;
    for unreadable in [&b""[..], b"   ", b"nothing", b"[]", b"{}", b"\x1f\x8b\x08gzip"] {
        let answer = door.send(delivery_with("/webhook", unreadable, "")).await;
        assert_eq!(statuses(&answer), [400], "{unreadable:?}");
    }
    assert_eq!(door.stored(), [""; 0]);

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
async fn a_body_of_the_largest_size_is_stored_and_a_larger_one_refused_before_it_is_read() {
    let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;
    let padded = |length: usize| format!("{}{}", body("whe_1"), " ".repeat(length - body("whe_1").len()));

    assert_eq!(statuses(&door.send(delivery_with("/webhook", padded(1000).as_bytes(), "")).await), [204]);

    // Nothing of the body is sent, so the length alone is what is refused.
    for length in ["1001", "10000000000"] {
        let mut stream = door.connect().await;
        let head = format!("POST /webhook HTTP/1.1\r\nhost: restante\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert_eq!(statuses(&answer), [413]);
        assert!(answer.contains("connection: close"), "{answer}");
    }

    // The sender never ends its body, so it is the limit that ends the request.
    let mut stream = door.connect().await;
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500)).repeat(3);
    let head = "POST /webhook HTTP/1.1\r\nhost: restante\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{chunk}").as_bytes()).await.unwrap();
    assert_eq!(statuses(&read_to_end(&mut stream).await), [413]);
}

#[tokio::test]
async fn large_bodies_share_a_bounded_memory_and_small_ones_do_not_need_it() {
    let limits = Limits { large_bodies_bytes_max: 30_000, ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;
    let large = delivery_with("/webhook", format!("{}{}", body("whe_1"), " ".repeat(20_000)).as_bytes(), "");

    let mut first = door.connect().await;
    first
        .write_all(
            b"POST /webhook HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 20000\r\n\r\n",
        )
        .await
        .unwrap();
    assert_eq!(statuses(&read_head(&mut first).await), [100], "the memory is taken");
    let answer = door.send(&large).await;

    assert_eq!(statuses(&answer), [503]);
    assert!(answer.contains("retry-after: 5"), "{answer}");
    assert_eq!(statuses(&door.send(delivery("whe_2")).await), [204]);
    // The memory is free again before the first sender gets its answer.
    first.write_all(&[b'x'; 20_000]).await.unwrap();
    assert_eq!(statuses(&read_head(&mut first).await), [401]);
    assert_eq!(statuses(&door.send(&large).await), [204]);
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_their_order() {
    let door = Door::open().await;
    let mut pipeline = Vec::new();
    for number in 1..=100 {
        let request = delivery(&format!("whe_{number}"));
        let unsigned = b"POST /webhook HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}";
        pipeline.extend(if number % 10 == 0 { unsigned.to_vec() } else { request });
    }

    let answers = statuses(&door.send(pipeline).await);

    let expected: Vec<u16> = (1..=100).map(|number| if number % 10 == 0 { 401 } else { 204 }).collect();
    assert_eq!(answers, expected);
    assert_eq!(door.stored().len(), 90);
}

#[tokio::test]
async fn ambiguous_and_malformed_requests_store_nothing_but_whole_signed_bodies() {
    let door = Door::open().await;
    let signed = body("whe_1");
    let length = signed.len();
    let chunked = format!("{length:x}\r\n{signed}\r\n0\r\n\r\n");
    let hidden = format!("{}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", chunked.clone());
    let table: Vec<(&str, String, &[u16])> = vec![
        // Framing that everybody reads alike.
        ("length", framed("whe_1", &format!("content-length: {length}\r\n\r\n{signed}")), &[204]),
        ("chunks", framed("whe_1", &format!("transfer-encoding: chunked\r\n\r\n{chunked}")), &[204]),
        (
            "chunks, upper case",
            framed("whe_1", &format!("Transfer-Encoding: CHUNKED\r\n\r\n{chunked}")),
            &[204],
        ),
        (
            "chunks and a trailer",
            framed(
                "whe_1",
                &format!("transfer-encoding: chunked\r\n\r\n{length:x};a=b\r\n{signed}\r\n0\r\na: b\r\n\r\n"),
            ),
            &[204],
        ),
        (
            "equal lengths",
            framed("whe_1", &format!("content-length: {length}\r\ncontent-length: {length}\r\n\r\n{signed}")),
            &[204],
        ),
        (
            "bare line feeds",
            format!(
                "POST /webhook HTTP/1.1\r\nhost: a\r\n{}content-length: {length}\r\n\r\n{signed}",
                signature(signed.as_bytes())
            )
            .replace("\r\n", "\n"),
            &[204],
        ),
        // After chunks the connection ends, so that nothing can hide behind them.
        (
            "chunks, then more",
            framed("whe_1", &format!("transfer-encoding: chunked\r\n\r\n{hidden}")),
            &[204],
        ),
        (
            "length and chunks",
            framed("whe_1", &format!("content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{hidden}")),
            &[204],
        ),
        (
            "chunks and length",
            framed("whe_1", &format!("transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n{hidden}")),
            &[204],
        ),
        // Lengths that are none.
        (
            "length too small",
            framed("whe_1", &format!("content-length: {}\r\n\r\n{signed}", length - 1)),
            &[401, 400],
        ),
        (
            "length too large",
            framed("whe_1", &format!("content-length: {}\r\n\r\n{signed}", length + 1)),
            &[400],
        ),
        ("no length", framed("whe_1", &format!("\r\n{signed}")), &[401, 400]),
        (
            "two lengths",
            framed("whe_1", &format!("content-length: {length}\r\ncontent-length: 5\r\n\r\n{signed}")),
            &[400],
        ),
        ("length list", framed("whe_1", &format!("content-length: {length}, 5\r\n\r\n{signed}")), &[400]),
        (
            "length with a sign",
            framed("whe_1", &format!("content-length: +{length}\r\n\r\n{signed}")),
            &[400],
        ),
        ("negative length", framed("whe_1", &format!("content-length: -1\r\n\r\n{signed}")), &[400]),
        (
            "hexadecimal length",
            framed("whe_1", &format!("content-length: 0x{length:x}\r\n\r\n{signed}")),
            &[400],
        ),
        (
            "20 digits",
            framed("whe_1", &format!("content-length: 99999999999999999999\r\n\r\n{signed}")),
            &[400],
        ),
        ("empty length", framed("whe_1", &format!("content-length: \r\n\r\n{signed}")), &[400]),
        // Chunks that are none.
        ("unknown coding", framed("whe_1", &format!("transfer-encoding: xchunked\r\n\r\n{chunked}")), &[400]),
        (
            "chunked is not last",
            framed("whe_1", &format!("transfer-encoding: chunked, identity\r\n\r\n{chunked}")),
            &[400],
        ),
        (
            "chunked on HTTP/1.0",
            framed("whe_1", &format!("transfer-encoding: chunked\r\n\r\n{chunked}"))
                .replace("HTTP/1.1", "HTTP/1.0"),
            &[400],
        ),
        (
            "chunk size too large",
            framed(
                "whe_1",
                &format!("transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{signed}\r\n0\r\n\r\n"),
            ),
            &[400],
        ),
        (
            "chunk size is none",
            framed("whe_1", &format!("transfer-encoding: chunked\r\n\r\nzz\r\n{signed}\r\n0\r\n\r\n")),
            &[400],
        ),
        (
            "no last chunk",
            framed("whe_1", &format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{signed}\r\n")),
            &[400],
        ),
        // Heads that are none.
        (
            "space before the colon",
            framed("whe_1", &format!("content-length : {length}\r\n\r\n{signed}")),
            &[400],
        ),
        (
            "folded line",
            framed("whe_1", &format!("a: b\r\n c\r\ncontent-length: {length}\r\n\r\n{signed}")),
            &[400],
        ),
        (
            "NUL in a header",
            framed("whe_1", &format!("a: \0\r\ncontent-length: {length}\r\n\r\n{signed}")),
            &[400],
        ),
        (
            "101 headers",
            framed("whe_1", &format!("{}content-length: {length}\r\n\r\n{signed}", "a: b\r\n".repeat(101))),
            &[431],
        ),
        (
            "huge header",
            framed(
                "whe_1",
                &format!("a: {}\r\ncontent-length: {length}\r\n\r\n{signed}", "x".repeat(1 << 20)),
            ),
            &[431],
        ),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &[]),
        ("HTTP/0.9", "GET /webhook\r\n".into(), &[400]),
        ("a TLS hello", "\u{16}\u{3}\u{1}\u{2}\0\u{1}".into(), &[400]),
        ("noise", "\0\0\0\0\r\n\r\n".into(), &[400]),
        ("nothing", String::new(), &[]),
    ];
    for (name, request, expected) in table {
        let before = door.store.calls().len();
        let answer = door.send(&request).await;
        let stored = door.store.calls().len() - before;
        assert_eq!(statuses(&answer), expected, "{name}");
        assert_eq!(stored, usize::from(expected == [204]), "{name}");
    }
    assert_eq!(door.stored(), ["whe_1"]);
    assert_eq!(door.store.stored()["whe_1"].body, Body::Json(signed));
}

#[tokio::test]
async fn a_slow_or_silent_connection_is_closed_and_others_are_served_meanwhile() {
    let short = Duration::from_millis(500);
    let limits = Limits { head_timeout: short, body_timeout: short, ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;
    let mut slow = Vec::new();
    for begun in ["", "P", "POST /webhook HTTP/1.1\r\nhost: a\r\nx: ", "PRI * HTTP/2.0\r\n"] {
        let mut stream = door.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let mut half_a_body = door.connect().await;
    let whole = delivery("whe_2");
    half_a_body.write_all(&whole[..whole.len() - 1]).await.unwrap();
    let mut idle = door.connect().await;
    idle.write_all(&delivery("whe_1")).await.unwrap();

    assert_eq!(statuses(&read_to_end(&mut idle).await), [204], "served, and closed when idle");
    for mut stream in slow {
        let answer = statuses(&read_to_end(&mut stream).await);
        assert!(answer.is_empty() || answer == [408] || answer == [400], "{answer:?}");
    }
    assert_eq!(statuses(&read_to_end(&mut half_a_body).await), [408]);
    assert_eq!(door.stored(), ["whe_1"]);
}

#[tokio::test]
async fn a_connection_beyond_the_cap_is_served_once_another_ends() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;
    let mut first = door.connect().await;
    first.write_all(&delivery("whe_1")).await.unwrap();
    assert_eq!(statuses(&read_head(&mut first).await), [204]);

    let mut second = door.connect().await;
    second.write_all(&delivery("whe_2")).await.unwrap();
    let unserved = tokio::time::timeout(Duration::from_millis(50), second.read_u8()).await;
    assert!(unserved.is_err());
    drop(first);

    assert_eq!(statuses(&read_head(&mut second).await), [204]);
}

#[tokio::test]
async fn a_store_that_is_away_for_too_long_is_answered_with_when_to_come_back() {
    let limits = Limits { commit_timeout: Duration::from_millis(500), ..Limits::default() };
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

#[tokio::test]
async fn a_stop_lets_requests_finish_and_closes_the_rest() {
    let door = Door::with(Limits::default(), FakeStore::scripted(|_, _| Verdict::Hold)).await;
    let mut idle = door.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_eq!(statuses(&read_head(&mut idle).await), [404]);
    let mut busy = door.connect().await;
    busy.write_all(&delivery("whe_1")).await.unwrap();
    door.store.entered().await;

    door.stop.cancel();
    assert_eq!(read_to_end(&mut idle).await, "", "closed without waiting");
    assert!(TcpStream::connect(door.address).await.is_err(), "nothing is accepted any more");
    door.store.release();

    assert_eq!(statuses(&read_to_end(&mut busy).await), [204]);
    assert!(door.running.await.unwrap(), "drained");
    assert_eq!(door.store.stored().len(), 1);
}

#[tokio::test]
async fn what_does_not_finish_within_the_drain_time_is_cut_without_a_2xx() {
    let limits = Limits { drain_timeout: Duration::from_millis(50), ..Limits::default() };
    let door = Door::with(limits, FakeStore::scripted(|_, _| Verdict::Hang)).await;
    let mut stuck = door.connect().await;
    stuck.write_all(&delivery("whe_1")).await.unwrap();
    door.store.entered().await;

    door.stop.cancel();

    assert!(!door.running.await.unwrap(), "cut");
    assert_eq!(read_to_end(&mut stuck).await, "");
}

#[tokio::test]
async fn an_event_is_stored_though_its_sender_hangs_up_before_the_answer() {
    let door = Door::with(Limits::default(), FakeStore::scripted(|_, _| Verdict::Hold)).await;
    let mut sender = door.connect().await;
    sender.write_all(&delivery("whe_1")).await.unwrap();
    door.store.entered().await;

    drop(sender);
    door.store.release();
    door.stop.cancel();

    assert!(door.running.await.unwrap());
    assert_eq!(door.store.stored().len(), 1);
}

#[tokio::test]
async fn refusals_are_logged_and_counted_by_their_reason_and_reveal_nothing() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    let _logging = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    let door = Door::open().await;
    let forged = String::from_utf8(delivery("whe_1")).unwrap().replace("v1,", "v1,canary");

    for _ in 0..3 {
        assert_eq!(statuses(&door.send(&forged).await), [401]);
    }
    assert_eq!(statuses(&door.send(delivery("whe_1")).await), [204]);

    let rendered = metrics.render();
    for counted in [
        r#"restante_deliveries_total{answer="401",reason="mismatch"} 3"#,
        r#"restante_deliveries_total{answer="204",reason="stored"} 1"#,
        "restante_ack_seconds_count 1",
    ] {
        assert!(rendered.contains(counted), "{counted}: {rendered}");
    }
    let logged = lines.text();
    assert_eq!(logged.matches("refused a delivery").count(), 1, "{logged}");
    assert!(logged.contains("mismatch"), "{logged}");
    for secret in ["canary", "sesn_1", "webhook-signature", "24-byte key", "whe_header"] {
        assert!(!logged.contains(secret), "{secret}: {logged}");
    }
}

/// What is logged.
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
