//! What happens to a delivery under way when ingest stops, or when its sender hangs up.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::Limits;
use super::super::fake::{FakeStore, Verdict};
use super::deliveries::delivery;
use super::door::{Door, read_head, read_to_end, statuses};

/// Limits for a stop without a delay.
fn at_once() -> Limits {
    Limits { linger: Duration::ZERO, ..Limits::default() }
}

#[tokio::test]
async fn after_the_stop_deliveries_are_taken_for_a_while_and_each_answer_sends_its_sender_away() {
    const LONG: Duration = Duration::from_secs(3600);
    let limits = Limits { linger: LONG, drain: 2 * LONG, ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;
    let mut idle = door.connect().await;
    idle.write_all(&delivery("whe_1")).await.unwrap();
    assert!(!read_head(&mut idle).await.contains("close"));

    door.stop.cancel();

    // The connection that was open already, and new ones.
    idle.write_all(&delivery("whe_2")).await.unwrap();
    for (answer, status) in [
        (read_to_end(&mut idle).await, 204),
        (door.send(delivery("whe_3")).await, 204),
        (door.send(b"POST /webhook HTTP/1.1\r\nhost: a\r\n\r\n").await, 401),
        (door.send(b"GET /webhook HTTP/1.1\r\nhost: a\r\n\r\n").await, 503),
    ] {
        assert_eq!(statuses(&answer), [status]);
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(door.stored(), ["whe_1", "whe_2", "whe_3"]);
    door.running.abort();
}

#[tokio::test]
async fn the_time_after_the_stop_ends_with_half_of_the_drain_time() {
    let limits =
        Limits { linger: Duration::from_secs(3600), drain: Duration::from_millis(100), ..Limits::default() };
    let door = Door::with(limits, FakeStore::new()).await;

    door.stop.cancel();

    assert!(door.running.await.unwrap(), "drained");
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_closes_the_rest() {
    let door = Door::with(at_once(), FakeStore::scripted(|_, _| Verdict::Hold)).await;
    let mut idle = door.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_eq!(statuses(&read_head(&mut idle).await), [200]);
    let mut busy = door.connect().await;
    busy.write_all(&delivery("whe_1")).await.unwrap();
    door.store.entered().await;

    door.stop.cancel();
    assert_eq!(read_to_end(&mut idle).await, "", "closed without waiting");
    assert!(TcpStream::connect(door.address).await.is_err(), "nothing is accepted any more");
    door.store.release();

    let last = read_to_end(&mut busy).await;
    assert_eq!(statuses(&last), [204]);
    assert!(last.contains("connection: close"), "{last}");
    assert!(door.running.await.unwrap(), "drained");
    assert_eq!(door.store.stored().len(), 1);
}

#[tokio::test]
async fn what_does_not_finish_within_the_drain_time_is_cut_without_a_2xx() {
    let limits = Limits { drain: Duration::from_millis(50), ..at_once() };
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
    let door = Door::with(at_once(), FakeStore::scripted(|_, _| Verdict::Hold)).await;
    let mut sender = door.connect().await;
    sender.write_all(&delivery("whe_1")).await.unwrap();
    door.store.entered().await;

    drop(sender);
    door.store.release();
    door.stop.cancel();

    assert!(door.running.await.unwrap());
    assert_eq!(door.store.stored().len(), 1);
}
