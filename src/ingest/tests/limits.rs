//! Bounds on what senders can use up: the size of bodies, the memory of all, time, and connections.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::super::Limits;
use super::super::fake::{FakeStore, Verdict};
use super::deliveries::{body, delivery, delivery_with};
use super::door::{Door, read_head, read_to_end, statuses};

#[tokio::test]
async fn a_body_of_the_largest_size_is_stored_and_a_larger_one_refused_before_it_is_read() {
    let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;
    let padded = |length: usize| format!("{}{}", body("whe_1"), " ".repeat(length - body("whe_1").len()));

    assert_eq!(statuses(&door.send(delivery_with("/webhook", padded(1000).as_bytes(), "")).await), [204]);

    // Nothing of the body is sent, so ingest refuses it by its length alone.
    for length in ["1001", "10000000000"] {
        let mut stream = door.connect().await;
        let head = format!("POST /webhook HTTP/1.1\r\nhost: restante\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_head(&mut stream).await;
        assert_eq!(statuses(&answer), [413]);
        assert!(answer.contains("connection: close"), "{answer}");
    }

    // The sender never ends its body, so the limit ends the request.
    let mut stream = door.connect().await;
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500)).repeat(3);
    let head = "POST /webhook HTTP/1.1\r\nhost: restante\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{chunk}").as_bytes()).await.unwrap();
    assert_eq!(statuses(&read_head(&mut stream).await), [413]);
}

#[tokio::test]
async fn a_sender_that_reads_nothing_before_all_is_sent_still_gets_its_refusal() {
    let limits = Limits { body_bytes_max: 1000, large_bodies_bytes_max: 0, ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;
    // More than the buffers in between hold.
    const BYTES: usize = 20_000_000;
    let length = format!("content-length: {BYTES}\r\n\r\n");
    let chunks = format!("transfer-encoding: chunked\r\n\r\n{BYTES:x}\r\n");
    for (line, framing, status) in [
        ("POST /webhook", &length, 413),
        ("POST /webhook", &chunks, 413),
        ("POST /elsewhere", &length, 404),
        ("PUT /webhook", &chunks, 405),
    ] {
        let mut stream = door.connect().await;
        stream.write_all(format!("{line} HTTP/1.1\r\nhost: a\r\n{framing}").as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; BYTES]).await.unwrap();
        stream.write_all(if framing == &chunks { b"\r\n0\r\n\r\n" } else { b"" }).await.unwrap();
        assert_eq!(statuses(&read_head(&mut stream).await), [status], "{line} {framing}");
    }
}

#[tokio::test]
async fn large_bodies_share_a_bounded_memory_and_small_ones_do_not_need_it() {
    let limits = Limits { large_bodies_bytes_max: 50_000, lanes_max: 1, ..Limits::default() };
    let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Hold } else { Verdict::Take });
    let door = Door::with(limits, store).await;
    let large = |id: &str, length: usize| {
        delivery_with("/webhook", format!("{}{}", body(id), " ".repeat(length)).as_bytes(), "")
    };

    let mut first = door.connect().await;
    first.write_all(&large("whe_1", 40_000)).await.unwrap();
    door.store.entered().await;
    let refused = door.send(large("whe_2", 20_000)).await;
    let mut small = door.connect().await;
    small.write_all(&delivery("whe_3")).await.unwrap();
    door.store.release();

    assert_eq!(statuses(&refused), [503]);
    assert!(refused.contains("retry-after: 5"), "{refused}");
    assert_eq!(statuses(&read_head(&mut small).await), [204]);
    // The memory is free again before the first sender gets its answer.
    assert_eq!(statuses(&read_head(&mut first).await), [204]);
    assert_eq!(statuses(&door.send(large("whe_2", 20_000)).await), [204]);
    assert_eq!(statuses(&door.send(large("whe_4", 50_000)).await), [503], "alone it is too large as well");
}

#[tokio::test]
async fn bodies_that_never_come_take_no_memory_from_those_that_do() {
    let limits = Limits { large_bodies_bytes_max: 1 << 20, ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;
    let mut waiting = Vec::new();
    for number in 0..256 {
        let framing = if number % 2 == 0 { "transfer-encoding: chunked" } else { "content-length: 1048576" };
        let mut stream = door.connect().await;
        let head = format!("POST /webhook HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(statuses(&read_head(&mut stream).await), [100], "its body is being read");
        waiting.push(stream);
    }

    let large = delivery_with("/webhook", format!("{}{}", body("whe_1"), " ".repeat(900_000)).as_bytes(), "");
    assert_eq!(statuses(&door.send(&large).await), [204]);
}

#[tokio::test]
async fn a_slow_or_silent_connection_is_closed_and_others_are_served_meanwhile() {
    let short = Duration::from_millis(500);
    let limits = Limits { head_timeout: short, idle: short, body_timeout: short, ..Limits::default() };
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
async fn an_idle_connection_outlives_the_time_that_a_head_may_take() {
    let limits = Limits { head_timeout: Duration::from_millis(50), ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;
    let mut idle = door.connect().await;
    idle.write_all(&delivery("whe_1")).await.unwrap();
    assert_eq!(statuses(&read_head(&mut idle).await), [204]);
    let mut unused = door.connect().await;

    let mut slow = door.connect().await;
    slow.write_all(b"POST /webhook HTTP/1.1\r\nhost: ").await.unwrap();
    read_to_end(&mut slow).await;
    // A head that begins along with the request before it also has its deadline, and so has the second of a connection.
    let mut second = door.connect().await;
    second.write_all(&delivery("whe_2")).await.unwrap();
    assert_eq!(statuses(&read_head(&mut second).await), [204]);
    second.write_all(b"POST /webhook HTTP/1.1\r\n").await.unwrap();
    read_to_end(&mut second).await;

    for (stream, id) in [(&mut idle, "whe_3"), (&mut unused, "whe_4")] {
        stream.write_all(&delivery(id)).await.unwrap();
        assert_eq!(statuses(&read_head(stream).await), [204], "{id}");
    }
}

#[tokio::test]
async fn a_sender_that_never_reads_its_answers_is_cut_and_others_are_served_meanwhile() {
    let limits = Limits { unread_timeout: Duration::from_millis(100), ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;
    let deaf = door.connect().await;
    let (_unread, mut writer) = deaf.into_split();
    let requests = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);

    // Answers fill the buffers in between, then ingest reads no more requests, and then it ends the connection.
    while writer.write_all(&requests).await.is_ok() {
        assert_eq!(statuses(&door.send(delivery("whe_1")).await), [204]);
    }

    assert_eq!(statuses(&door.send(delivery("whe_2")).await), [204]);
}

#[tokio::test]
async fn where_all_places_are_taken_the_connection_that_is_idle_for_longest_makes_room() {
    let limits = Limits { max_connections: 2, ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;
    let mut silent = door.connect().await;
    let mut used = door.connect().await;
    used.write_all(&delivery("whe_1")).await.unwrap();
    assert_eq!(statuses(&read_head(&mut used).await), [204]);

    let mut third = door.connect().await;
    third.write_all(&delivery("whe_2")).await.unwrap();
    assert_eq!(statuses(&read_head(&mut third).await), [204]);
    assert_eq!(read_to_end(&mut silent).await, "", "it was idle for longer than the other one");

    used.write_all(&delivery("whe_3")).await.unwrap();
    assert_eq!(statuses(&read_head(&mut used).await), [204]);
}

#[tokio::test]
async fn where_all_connections_are_busy_the_first_answer_says_that_its_connection_makes_room() {
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Hold } else { Verdict::Take });
    let door = Door::with(limits, store).await;
    let mut busy = door.connect().await;
    busy.write_all(&delivery("whe_1")).await.unwrap();
    door.store.entered().await;
    let mut waiting = door.connect().await;
    waiting.write_all(&delivery("whe_2")).await.unwrap();
    door.store.release();

    assert_eq!(statuses(&read_head(&mut waiting).await), [204]);
    assert_eq!(statuses(&read_to_end(&mut busy).await), [204]);
}
