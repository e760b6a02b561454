//! Bad requests beside the measured load: a thread that sends them until it is told to stop.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::Utc;
use restante_simulator::hostile::{BadRequest, Hostile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::events::{key_of_another, signing_key};

/// How many connections send bad requests, each one after the other.
const CONNECTIONS: usize = 64;
/// How many different ones there are: some hundreds of each kind, with 8 MB of large bodies among them.
const DIFFERENT: u64 = 18 * 128;
/// The pause between two portions of a rate.
const PORTION: Duration = Duration::from_millis(10);

/// A flood that runs. It ends when it is stopped.
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<f64>>,
}

impl Flood {
    /// Sends so many in a second; with `None` as many as get an answer.
    ///
    /// # Errors
    /// If a request cannot be made.
    pub(crate) fn start(address: SocketAddr, per_second: Option<usize>) -> anyhow::Result<Self> {
        let hostile = Hostile::new(rand::random(), signing_key().into(), key_of_another().into());
        let now = Utc::now().timestamp();
        let requests =
            (0..DIFFERENT).map(|number| Ok(hostile.request(number, now)?)).collect::<anyhow::Result<_>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || run(address, requests, per_second, &stopped));
        Ok(Self { stop, thread })
    }

    /// Returns how many were answered in a second.
    ///
    /// # Errors
    /// If one got another answer than it should.
    pub(crate) fn stop(self) -> anyhow::Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the flood panicked"))?
    }
}

fn run(
    address: SocketAddr,
    requests: Vec<BadRequest>,
    per_second: Option<usize>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    let requests = Rc::new(requests);
    let room = Rc::new(Semaphore::new(0));
    let senders = LocalSet::new();
    let answered = runtime.block_on(senders.run_until(async {
        let tasks: Vec<_> = (0..CONNECTIONS)
            .map(|first| {
                let turn = per_second.map(|_| Rc::clone(&room));
                tokio::task::spawn_local(send(address, Rc::clone(&requests), first, turn, Arc::clone(stop)))
            })
            .collect();
        if let Some(per_second) = per_second {
            let mut given = 0;
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(PORTION).await;
                let due = (start.elapsed().as_secs_f64() * per_second as f64) as usize;
                room.add_permits(due - given);
                given = due;
            }
            // Those that wait for their turn end with it.
            room.close();
        }
        let mut answered = 0;
        for task in tasks {
            answered += task.await??;
        }
        anyhow::Ok(answered)
    }))?;
    Ok(answered as f64 / start.elapsed().as_secs_f64())
}

/// Sends over one connection, and opens a new one where the receiver closes it. Returns how many were answered.
async fn send(
    address: SocketAddr,
    requests: Rc<Vec<BadRequest>>,
    first: usize,
    turn: Option<Rc<Semaphore>>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<usize> {
    let mut connection: Option<TcpStream> = None;
    let mut answered = 0;
    for request in requests.iter().cycle().skip(first * requests.len() / CONNECTIONS) {
        if let Some(turn) = &turn {
            let Ok(permit) = turn.acquire().await else { break };
            permit.forget();
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => TcpStream::connect(address).await?,
        };
        stream.write_all(&request.bytes).await?;
        let head = head_of_answer(&mut stream).await?;
        anyhow::ensure!(
            head.starts_with(&format!("http/1.1 {}", request.status)),
            "{:?}: {head}",
            request.reasons
        );
        answered += 1;
        connection = (!head.contains("connection: close")).then_some(stream);
    }
    Ok(answered)
}

/// Refusals have no body.
async fn head_of_answer(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut answer = Vec::with_capacity(512);
    while !answer.ends_with(b"\r\n\r\n") {
        let read = stream.read_buf(&mut answer).await?;
        anyhow::ensure!(read > 0, "the receiver closed the connection instead of answering");
    }
    Ok(String::from_utf8(answer).context("an answer is text")?.to_ascii_lowercase())
}
