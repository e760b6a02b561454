//! The load generator: one thread, keep-alive connections, each with one request in flight.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::events::Request;

/// What the receiver did.
pub(crate) struct Load {
    /// Requests answered 2xx, including the warm-up. The table has to have this many events.
    pub accepted: usize,
    /// Accepted requests a second during the measurement.
    pub per_second: f64,
    /// How long each measured request waited for its answer, in milliseconds, sorted.
    pub latencies_ms: Vec<f64>,
}

/// Sends `requests` over `connections` until they are used up or `warm_up` and then `measured` have passed. With `again`, it
/// starts over when they are used up.
///
/// # Errors
/// If an answer is not a 2xx, or a connection fails.
pub(crate) fn run(
    address: SocketAddr,
    connections: usize,
    requests: Vec<Request>,
    again: bool,
    warm_up: Duration,
    measured: Duration,
) -> anyhow::Result<Load> {
    // A separate thread, because the caller is inside a runtime.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let start = Instant::now() + warm_up;
        let shared = Rc::new(Shared {
            address,
            requests,
            again,
            start,
            end: start + measured,
            next: Cell::new(0),
            accepted: Cell::new(0),
            last_answer: Cell::new(start),
            latencies_ms: RefCell::new(Vec::new()),
        });
        let senders = LocalSet::new();
        runtime.block_on(senders.run_until(async {
            let tasks: Vec<_> =
                (0..connections).map(|_| tokio::task::spawn_local(send(Rc::clone(&shared)))).collect();
            for task in tasks {
                task.await??;
            }
            anyhow::Ok(())
        }))?;
        drop(senders);
        let shared = Rc::into_inner(shared).context("a connection is still at work")?;
        let mut latencies_ms = shared.latencies_ms.into_inner();
        latencies_ms.sort_by(f64::total_cmp);
        let seconds = shared.last_answer.get().saturating_duration_since(start).as_secs_f64();
        Ok(Load {
            accepted: shared.accepted.get(),
            per_second: latencies_ms.len() as f64 / seconds,
            latencies_ms,
        })
    })
    .join()
    .map_err(|_| anyhow::anyhow!("the load generator panicked"))?
}

struct Shared {
    address: SocketAddr,
    requests: Vec<Request>,
    again: bool,
    start: Instant,
    end: Instant,
    next: Cell<usize>,
    accepted: Cell<usize>,
    last_answer: Cell<Instant>,
    latencies_ms: RefCell<Vec<f64>>,
}

impl Shared {
    fn take(&self) -> Option<&Request> {
        let next = self.next.replace(self.next.get() + 1);
        let next = if self.again { next % self.requests.len() } else { next };
        self.requests.get(next)
    }
}

/// Sends requests over one connection, one after the other. If the receiver closes it, opens a new one.
async fn send(shared: Rc<Shared>) -> anyhow::Result<()> {
    let mut connection: Option<TcpStream> = None;
    let mut answer = Vec::with_capacity(1024);
    while Instant::now() < shared.end {
        let Some(request) = shared.take() else { break };
        let sent = Instant::now();
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => connect(shared.address).await?,
        };
        stream.write_all(&request.bytes).await?;
        let kept = read_answer(&mut stream, &mut answer).await?;
        let answered = Instant::now();
        shared.accepted.set(shared.accepted.get() + 1);
        if sent >= shared.start {
            let latency = answered.duration_since(sent).as_secs_f64() * 1000.0;
            shared.latencies_ms.borrow_mut().push(latency);
            shared.last_answer.set(answered);
        }
        connection = kept.then_some(stream);
    }
    Ok(())
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one answer, which has to be a 2xx. Returns whether the connection stays open.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<bool> {
    answer.clear();
    loop {
        let read = stream.read_buf(answer).await?;
        anyhow::ensure!(read > 0, "the receiver closed the connection instead of answering");
        let Some(head_end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&answer[..head_end])?.to_ascii_lowercase();
        anyhow::ensure!(head.starts_with("http/1.1 2"), "the receiver answered {head}");
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length: usize = value("content-length:").map_or(Ok(0), str::parse)?;
        if answer.len() >= head_end + 4 + length {
            return Ok(value("connection:") != Some("close"));
        }
    }
}
