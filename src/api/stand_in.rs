//! An API for tests: it answers every request with the same bytes, and remembers what was asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;

use super::{Client, Settings};

pub(super) struct StandIn {
    pub(super) base_url: Url,
    requests: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    /// Answers with this status, these further headers, each with its line end, and this body.
    pub(super) async fn answering(status: u16, headers: &str, body: &str) -> StandIn {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
        );
        StandIn::sending(answer.as_bytes()).await
    }

    /// Answers with these bytes, and closes.
    pub(super) async fn sending(answer: &[u8]) -> StandIn {
        StandIn::new(answer, false).await
    }

    /// Answers with these bytes, and is silent from there on.
    pub(super) async fn hanging_after(answer: &[u8]) -> StandIn {
        StandIn::new(answer, true).await
    }

    async fn new(answer: &[u8], hangs: bool) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (asked, answer) = (Arc::clone(&requests), answer.to_vec());
        tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(connection.read_u8().await.unwrap());
                }
                asked.lock().unwrap().push(String::from_utf8(request).unwrap());
                connection.write_all(&answer).await.unwrap();
                if hangs {
                    held.push(connection);
                }
            }
        });
        StandIn { base_url, requests }
    }

    pub(super) fn client(&self) -> Client {
        self.client_with(|_| ())
    }

    /// A client of it, after a change of the usual settings.
    pub(super) fn client_with(&self, change: impl FnOnce(&mut Settings)) -> Client {
        let mut settings = Settings::new(self.base_url.clone(), "sk-secret".into());
        change(&mut settings);
        Client::new(settings).unwrap()
    }

    /// The requests so far, each with its headers.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}
