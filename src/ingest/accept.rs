//! The accept loop: connections, their places and their end.
//!
//! `axum::serve` sets no timer: it would keep a silent connection forever, and the shutdown would wait for it. Here a
//! watch limits how long each connection may be silent, and each takes one of a limited number of places. When all
//! places are taken, the connection that has been idle for longest is closed. HTTP/1 only: senders and proxies speak it
//! to an origin, and to detect HTTP/2 would need a deadline of its own.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::throttle::Throttle;
use super::watch::{Crowd, Watch, Watched};

/// The longest head of a request, in bytes. A longer one is answered with 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long to wait after a failed accept. When file descriptors have run out, the next accept would fail as well
/// until some connection is closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Says that the connection ends with this answer, so that a proxy does not send its next delivery into it.
pub(super) const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Accepts connections on `listener` and serves them with `router` until `over`. From `stop` on, which may come earlier,
/// every answer ends its connection. At `over` the listener and the router are dropped; the caller gets the connections
/// that are still open.
pub(super) async fn accept_until(
    over: impl Future<Output = ()>,
    stop: CancellationToken,
    listener: TcpListener,
    router: Router,
    limits: &Limits,
) -> Connections {
    let connections = Connections::new(stop, limits);
    let throttle = Throttle::default();
    tokio::pin!(over);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut over => return connections,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let place = tokio::select! {
                    biased;
                    () = &mut over => return connections,
                    place = connections.place() => place,
                };
                let connection = connections.serve(stream, router.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if let Some(left_out) = throttle.admit("accept", Instant::now()) {
                    tracing::warn!(%error, left_out, "cannot accept connections; trying again");
                }
                connections.close_longest_idle();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections that are open.
pub(super) struct Connections {
    http: http1::Builder,
    limits: Limits,
    stop: CancellationToken,
    places: Arc<Semaphore>,
    crowd: Arc<Crowd>,
    open: Open,
    graceful: GracefulShutdown,
    /// Ends what the graceful shutdown could not. Without it, stuck connections would keep the router, and with it
    /// the queue of the commits, open after the drain.
    cut: CancellationToken,
}

impl Connections {
    fn new(stop: CancellationToken, limits: &Limits) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            // The watch is stricter, but does not see a head whose beginning came along with the request before it.
            .header_read_timeout(limits.idle + limits.head_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            // A sender that closes its side after the request still gets its answer.
            .half_close(true);
        Self {
            http,
            limits: limits.clone(),
            stop,
            places: Arc::new(Semaphore::new(limits.max_connections)),
            crowd: Arc::default(),
            open: Open::default(),
            graceful: GracefulShutdown::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Waits for a place for one more connection. While all are taken, it closes idle connections, and busy ones after
    /// their answer.
    async fn place(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        self.crowd.set_waiting(true);
        let place = Arc::clone(&self.places).acquire_owned();
        tokio::pin!(place);
        let place = loop {
            self.close_longest_idle();
            tokio::select! {
                place = &mut place => break place,
                () = self.crowd.idle.notified() => {}
            }
        };
        self.crowd.set_waiting(false);
        place
    }

    fn close_longest_idle(&self) {
        let watches = self.open.lock();
        let idle = watches.by_number.values().filter_map(|watch| Some((watch.waiting_since()?, watch)));
        if let Some((_, watch)) = idle.min_by_key(|(since, _)| *since) {
            watch.close_if_waiting();
        }
    }

    fn serve(&self, stream: TcpStream, router: Router) -> impl Future<Output = ()> + Send + 'static {
        // An answer is a single small write; waiting to fill a packet would only delay it.
        let _ = stream.set_nodelay(true);
        let cut = self.cut.child_token();
        let watch = Arc::new(Watch::new(Arc::clone(&self.crowd), cut.clone()));
        let entry = self.open.enter(Arc::clone(&watch));
        let stream = Watched::new(stream, Arc::clone(&watch), self.limits.clone());

        let answers = TowerToHyperService::new(router);
        let (stop, crowd) = (self.stop.clone(), Arc::clone(&self.crowd));
        let service = service_fn(move |request: Request<Incoming>| {
            watch.answering();
            let answer = answers.call(request);
            let (watch, stop, crowd) = (Arc::clone(&watch), stop.clone(), Arc::clone(&crowd));
            async move {
                let mut answer = answer.await;
                if let Ok(answer) = &mut answer
                    && (stop.is_cancelled() || crowd.is_waiting())
                {
                    answer.headers_mut().insert(CONNECTION, CLOSE);
                }
                watch.answered();
                answer
            }
        });
        let connection = self.graceful.watch(self.http.serve_connection(TokioIo::new(stream), service));
        async move {
            tokio::select! {
                // The cut first: a request that is cut gets no answer any more, whether or not its event is committed.
                biased;
                () = cut.cancelled() => {}
                // Broken, slow and malformed requests end here as errors. hyper has answered where it could.
                _ = connection => {}
            }
            drop(entry);
        }
    }

    /// Closes idle connections now, the others after their answer, and cuts those that are left at `cut_at`. Returns
    /// false if any was cut.
    pub(super) async fn close(self, cut_at: tokio::time::Instant) -> bool {
        let drained = timeout_at(cut_at, self.graceful.shutdown()).await.is_ok();
        self.cut.cancel();
        drained
    }
}

/// The watches of all open connections.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<Watches>>);

#[derive(Default)]
struct Watches {
    next: u64,
    by_number: HashMap<u64, Arc<Watch>>,
}

impl Open {
    /// Keeps `watch` until the returned entry is dropped.
    fn enter(&self, watch: Arc<Watch>) -> Entry {
        let mut watches = self.lock();
        let number = watches.next;
        watches.next += 1;
        watches.by_number.insert(number, watch);
        Entry { open: self.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Entry {
    open: Open,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.open.lock().by_number.remove(&self.number);
    }
}

/// Whether a failed accept concerns one connection only, so that the next one may be accepted at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_file_descriptors_is_not_the_fault_of_one_connection() {
        const EMFILE: i32 = 24;
        const ENFILE: i32 = 23;

        assert!(!is_of_one_connection(&io::Error::from_raw_os_error(EMFILE)));
        assert!(!is_of_one_connection(&io::Error::from_raw_os_error(ENFILE)));
        assert!(is_of_one_connection(&io::ErrorKind::ConnectionAborted.into()));
    }
}
