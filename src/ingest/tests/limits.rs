//! Bounds on what senders can use up: the size of bodies, the memory of all, time, and connections.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Limits;
use super::super::fake::FakeStore;
use super::deliveries::{body, delivery, delivery_with};
use super::door::{Door, read_head, read_to_end, statuses};

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
