//! A receiver of notifications that answers 204 on connections that stay open, or one that never answers.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// It listens until the process ends.
pub(crate) struct Receiver {
    pub address: SocketAddr,
    /// What it got, by the path and the header `webhook-id`, or its place in a loop without one.
    got: Arc<Mutex<HashSet<String>>>,
}

impl Receiver {
    /// One that answers, whatever the path is.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let got = Arc::new(Mutex::default());
        let ours = Arc::clone(&got);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, Arc::clone(&ours)));
            }
        });
        Ok(Self { address, got })
    }

    /// One that takes connections and requests, and never answers.
    pub(crate) async fn hanging() -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                silent.push(connection);
            }
        });
        Ok(address)
    }

    /// How many notifications it got, each counted once.
    pub(crate) fn got(&self) -> usize {
        self.got.lock().map_or(0, |got| got.len())
    }
}

async fn answer(mut connection: TcpStream, got: Arc<Mutex<HashSet<String>>>) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut bytes = Vec::new();
    loop {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            if connection.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let length = header("content-length: ").and_then(|length| length.parse().ok()).unwrap_or(0);
        while bytes.len() < end + 4 + length {
            connection.read_buf(&mut bytes).await?;
        }
        bytes.drain(..end + 4 + length);
        let path = head.split(' ').nth(1).unwrap_or_default();
        if let (Some(id), Ok(mut got)) = (header("webhook-id: "), got.lock()) {
            got.insert(format!("{path} {id}"));
        }
        connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
}
