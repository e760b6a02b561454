//! A proxy before an API that breaks off the exchange of a POST where it is told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Where the exchange of a POST breaks off.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// So many bytes of the request have passed.
    Request(usize),
    /// The request has passed, and so many bytes of its answer.
    Answer(usize),
}

/// The proxy. What is no POST passes.
pub struct Cutter {
    pub url: String,
    cuts: Arc<Mutex<VecDeque<Cut>>>,
    /// Told at each cut. The connections stay open until `go_on`, if the proxy holds.
    pub reached: Arc<Notify>,
    pub go_on: Arc<Notify>,
}

impl Cutter {
    /// A proxy before `api`, as `http://ADDRESS`. With `holds`, connections are not closed at a cut, but stand still.
    ///
    /// It counts a POST that begins its connection, and lets later ones of the same connection pass.
    pub async fn before(api: &str, holds: bool) -> Self {
        Self::start(api, holds, false).await
    }

    /// As [`Cutter::before`], but counts every POST, also one that follows other requests on its connection.
    pub async fn before_each(api: &str, holds: bool) -> Self {
        Self::start(api, holds, true).await
    }

    async fn start(api: &str, holds: bool, counts_each: bool) -> Self {
        let target: SocketAddr = api.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cuts = Arc::new(Mutex::new(VecDeque::new()));
        let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let cutter =
            Self { url, cuts: Arc::clone(&cuts), reached: Arc::clone(&reached), go_on: Arc::clone(&go_on) };
        tokio::spawn(async move {
            while let Ok((inward, _)) = listener.accept().await {
                let (cuts, reached, go_on) = (Arc::clone(&cuts), Arc::clone(&reached), Arc::clone(&go_on));
                tokio::spawn(async move {
                    if let Some(client) = pass(inward, target, &cuts, counts_each).await {
                        reached.notify_one();
                        if holds {
                            go_on.notified().await;
                        }
                        drop(client);
                    }
                });
            }
        });
        cutter
    }

    /// The next POSTs break off there.
    pub fn cut(&self, cuts: impl IntoIterator<Item = Cut>) {
        self.cuts.lock().unwrap().extend(cuts);
    }
}

/// Passes a connection on. Returns the client's side where it was cut.
async fn pass(
    inward: TcpStream,
    target: SocketAddr,
    cuts: &Mutex<VecDeque<Cut>>,
    counts_each: bool,
) -> Option<(OwnedReadHalf, OwnedWriteHalf)> {
    let outward = TcpStream::connect(target).await.ok()?;
    let (mut from_client, mut to_client) = inward.into_split();
    let (mut from_api, mut to_api) = outward.into_split();
    let (mut request_left, answer_left) = (usize::MAX, AtomicUsize::new(usize::MAX));
    let request = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut is_counted = true;
        loop {
            let read = match from_client.read(&mut buffer).await {
                Ok(read @ 1..) => read,
                _ => return false,
            };
            // A client that keeps its connection sends the POST after other requests.
            if std::mem::replace(&mut is_counted, counts_each) && buffer.starts_with(b"POST ") {
                match cuts.lock().unwrap().pop_front() {
                    Some(Cut::Request(bytes)) => request_left = bytes,
                    Some(Cut::Answer(bytes)) => answer_left.store(bytes, Ordering::SeqCst),
                    None => {}
                }
            }
            if pass_some(&mut to_api, &buffer[..read], &mut request_left).await != Some(false) {
                return request_left == 0;
            }
        }
    };
    let answer = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = match from_api.read(&mut buffer).await {
                Ok(read @ 1..) => read,
                _ => return false,
            };
            let mut left = answer_left.load(Ordering::SeqCst);
            let passed = pass_some(&mut to_client, &buffer[..read], &mut left).await;
            if left != usize::MAX {
                answer_left.store(left, Ordering::SeqCst);
            }
            if passed != Some(false) {
                return left == 0;
            }
        }
    };
    let is_cut = tokio::select! {
        cut = request => cut,
        cut = answer => cut,
    };
    // What the API had read by then is all that it gets.
    drop((to_api, from_api));
    is_cut.then_some((from_client, to_client))
}

/// Passes on as many bytes as are left. Returns whether that is where it is cut; `None` if nobody takes them.
async fn pass_some(to: &mut OwnedWriteHalf, bytes: &[u8], left: &mut usize) -> Option<bool> {
    let taken = bytes.len().min(*left);
    to.write_all(&bytes[..taken]).await.ok()?;
    if *left != usize::MAX {
        *left -= taken;
    }
    Some(*left == 0)
}
