//! Where a request ends: many on one connection, and those whose lengths, chunks or heads are ambiguous or malformed.

use super::deliveries::{body, delivery, framed, signature};
use super::door::{Door, statuses};
use crate::event::Body;

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
        // Framing that every parser reads alike.
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
        // Invalid lengths.
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
        // Invalid chunks.
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
        // Invalid heads.
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
