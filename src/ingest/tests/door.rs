//! Ingest on a port of its own with a store in memory, and helpers to read its answers.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretSlice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::fake::FakeStore;
use super::super::{Limits, Sender, Senders, Settings, run};
use super::deliveries::{KEY, NOW};
use crate::signature::Keys;

/// Ingest, running on a port of its own.
pub(super) struct Door {
    pub(super) address: SocketAddr,
    pub(super) store: FakeStore,
    pub(super) stop: CancellationToken,
    pub(super) running: JoinHandle<bool>,
}

impl Door {
    pub(super) async fn open() -> Door {
        Door::with(Limits::default(), FakeStore::new()).await
    }

    pub(super) async fn with(limits: Limits, store: FakeStore) -> Door {
        let keys = Keys { standard: vec![SecretSlice::from(KEY.to_vec())], ..Keys::default() };
        Door::of(Senders::new(vec![Sender::anthropic(keys)]).0, limits, store).await
    }

    pub(super) async fn of(senders: Senders, limits: Limits, store: FakeStore) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let settings = Settings { senders, now: || NOW, limits, journal: None, machine: String::new() };
        let running = tokio::spawn(run(settings, listener, store.clone(), stop.clone()));
        Door { address, store, stop, running }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Writes `request`, closes that direction, and reads all answers.
    pub(super) async fn send(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // A request that is refused early may not be read to its end.
        let _ = stream.write_all(request.as_ref()).await;
        let _ = stream.shutdown().await;
        read_to_end(&mut stream).await
    }

    pub(super) fn stored(&self) -> Vec<String> {
        self.store.stored().into_keys().collect()
    }
}

/// Everything that arrives until the connection ends, in whatever way. It must end before hyper's own deadline of 30 s.
pub(super) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection is still open");
    String::from_utf8(answer).unwrap()
}

/// The head of the next answer; the answers here have no bodies.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// The statuses of all answers in `text`.
pub(super) fn statuses(text: &str) -> Vec<u16> {
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}
