//! The accept loop: connections, their deadlines and their end.
//!
//! `axum::serve` sets no timer, so that a silent connection would be kept for ever and hold up the shutdown. Here
//! every head has a deadline, which an idle connection runs into as well, and a connection needs a slot before it
//! is accepted. HTTP/1 only: senders and proxies speak it to an origin, and telling HTTP/2 apart would need a
//! deadline of its own.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::throttle::Throttle;

/// How much of a request's head is read at most. A longer one is answered with 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long to wait after a failed accept. When file descriptors have run out, the next accept would fail as well
/// until some connection is closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections on `listener` and serves them with `router` until `stop`. Both are dropped then; the
/// connections live on in what is returned.
pub(super) async fn until(
    stop: &CancellationToken,
    listener: TcpListener,
    router: Router,
    limits: &Limits,
) -> Connections {
    let connections = Connections { graceful: GracefulShutdown::new(), cut: CancellationToken::new() };
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let throttle = Throttle::default();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        // A sender that closes its side after the request still gets its answer.
        .half_close(true);

    loop {
        let next = async {
            // First the slot: a connection that nobody can serve is better left in the backlog.
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = stop.cancelled() => return connections,
            (slot, accepted) = next => (slot, accepted),
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connections.serve(&http, stream, router.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if let Some(left_out) = throttle.admit("accept", Instant::now()) {
                    tracing::warn!(%error, left_out, "cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections that are open.
pub(super) struct Connections {
    graceful: GracefulShutdown,
    /// Ends what the graceful shutdown could not. Without it, stuck connections would keep the router, and with it
    /// the queue of the commits, open after the drain.
    cut: CancellationToken,
}

impl Connections {
    fn serve(
        &self,
        http: &http1::Builder,
        stream: TcpStream,
        router: Router,
    ) -> impl Future<Output = ()> + Send + 'static {
        // Answers are a single small write; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        let connection = self.graceful.watch(connection);
        let cut = self.cut.clone();
        async move {
            tokio::select! {
                // The cut first: what it ends is not answered any more, whatever becomes of its commit.
                biased;
                () = cut.cancelled() => {}
                // Broken, slow and malformed requests end here as errors. hyper has answered those that it could.
                _ = connection => {}
            }
        }
    }

    /// Closes idle connections now, the others after their answer, and cuts what is left at `cut_at`. Returns
    /// whether nothing had to be cut.
    pub(super) async fn close(self, cut_at: tokio::time::Instant) -> bool {
        let drained = timeout_at(cut_at, self.graceful.shutdown()).await.is_ok();
        self.cut.cancel();
        drained
    }
}

/// Whether a failed accept says something of one connection only, so that the next one may be tried at once.
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
