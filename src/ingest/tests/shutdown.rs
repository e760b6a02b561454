//! What becomes of a delivery under way when ingest stops, or when its sender hangs up.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::Limits;
use super::super::fake::{FakeStore, Verdict};
use super::deliveries::delivery;
use super::door::{Door, read_head, read_to_end, statuses};

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
