//! A receiver of notifications on this machine that answers as a test says, and keeps what arrived, byte for byte.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What one request was.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Its first line and its headers, as they came.
    pub head: String,
    pub body: Vec<u8>,
}

impl Arrived {
    pub fn header(&self, name: &str) -> &str {
        let line = self.head.lines().skip(1).find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With this status, these headers (each with its line end) and this body.
    Status(u16, &'static str, &'static str),
    /// With 200 and a body that does not end, until a gigabyte was sent or the other side has hung up.
    Endless,
    /// Not at all: the connection stays open.
    Silence,
}

/// The receiver. Each request is answered by the next reply that was set, or else by the usual one, which is 204.
pub struct Receiver {
    pub origin: String,
    shared: Arc<Shared>,
}

struct Shared {
    arrived: Mutex<Vec<Arrived>>,
    replies: Mutex<VecDeque<Reply>>,
    usual: Mutex<Reply>,
    /// How many connections there were, whatever came on them.
    connections: AtomicUsize,
    /// How many bytes of endless bodies went out.
    endless_bytes: AtomicUsize,
    silent: Mutex<Vec<TcpStream>>,
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            arrived: Mutex::default(),
            replies: Mutex::default(),
            usual: Mutex::new(Reply::Status(204, "", "")),
            connections: AtomicUsize::new(0),
            endless_bytes: AtomicUsize::new(0),
            silent: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        });
        let ours = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                ours.connections.fetch_add(1, Ordering::SeqCst);
                // An error is a client that has hung up.
                tokio::spawn(serve(connection, Arc::clone(&ours)));
            }
        });
        Self { origin, shared }
    }

    /// The address of one path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// The next request is answered like this.
    pub fn reply(&self, reply: Reply) {
        self.shared.replies.lock().unwrap().push_back(reply);
    }

    /// Each request for which there is no other reply is answered like this.
    pub fn reply_always(&self, reply: Reply) {
        *self.shared.usual.lock().unwrap() = reply;
    }

    pub fn arrived(&self) -> Vec<Arrived> {
        self.shared.arrived.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn endless_bytes(&self) -> usize {
        self.shared.endless_bytes.load(Ordering::SeqCst)
    }

    /// How many requests were being answered at the same time at most.
    pub fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }
}

async fn serve(mut connection: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let arrived = read(&mut connection).await?;
    let now = shared.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most_at_once.fetch_max(now, Ordering::SeqCst);
    let next = shared.replies.lock().unwrap().pop_front();
    let reply = next.unwrap_or_else(|| shared.usual.lock().unwrap().clone());
    shared.arrived.lock().unwrap().push(arrived);
    // Others get their turn while this one is being answered.
    tokio::task::yield_now().await;
    let answered = answer(connection, reply, &shared).await;
    shared.under_way.fetch_sub(1, Ordering::SeqCst);
    answered
}

async fn read(connection: &mut TcpStream) -> io::Result<Arrived> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if connection.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.unwrap().parse().unwrap();
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        connection.read_buf(&mut body).await?;
    }
    Ok(Arrived { head, body })
}

async fn answer(mut connection: TcpStream, reply: Reply, shared: &Shared) -> io::Result<()> {
    match reply {
        Reply::Status(status, headers, body) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
            );
            // A 204 must not have the header, and clients do not mind.
            let head = if status == 204 { head.replace("content-length: 0\r\n", "") } else { head };
            connection.write_all(head.as_bytes()).await?;
            connection.write_all(body.as_bytes()).await?;
            connection.shutdown().await
        }
        Reply::Endless => {
            connection.write_all(b"HTTP/1.1 200 x\r\n\r\n").await?;
            let chunk = [b'x'; 65_536];
            for _ in 0..16_384 {
                connection.write_all(&chunk).await?;
                shared.endless_bytes.fetch_add(chunk.len(), Ordering::SeqCst);
            }
            Ok(())
        }
        Reply::Silence => {
            shared.silent.lock().unwrap().push(connection);
            Ok(())
        }
    }
}
