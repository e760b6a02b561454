//! The connections of the simulator, each with a switch by which an endpoint cuts its own.
//!
//! A cut below HTTP is the only one that can be anywhere: before the first byte of an answer, or in the middle of its head.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// No cut.
const NEVER: u64 = u64::MAX;

/// The switch of a connection: how many bytes of answers still go out.
#[derive(Clone, Debug)]
pub(super) struct Line(Arc<AtomicU64>);

impl Line {
    /// Cuts the connection after so many more bytes of answers.
    pub(super) fn cut_after(&self, bytes: u64) {
        self.0.store(bytes, Ordering::SeqCst);
    }

    /// A new request has come: what was to be cut was the answer before.
    pub(super) fn begin(&self) {
        self.0.store(NEVER, Ordering::SeqCst);
    }
}

impl Connected<IncomingStream<'_, Lines>> for Line {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        stream.io().line.clone()
    }
}

/// A listener whose connections have switches.
pub(super) struct Lines(pub(super) TcpListener);

impl Listener for Lines {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        // This one goes on after an error, such as too many open files.
        let (stream, address) = Listener::accept(&mut self.0).await;
        (Wire { stream, line: Line(Arc::new(AtomicU64::new(NEVER))) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection.
pub(super) struct Wire {
    stream: TcpStream,
    line: Line,
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut by a fault")
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.line.0.load(Ordering::SeqCst);
        if left == NEVER {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        if room == 0 {
            return Poll::Ready(Err(cut()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..room]);
        if let Poll::Ready(Ok(written)) = written {
            self.line.0.store(left - written as u64, Ordering::SeqCst);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.line.0.load(Ordering::SeqCst) {
            // An answer that is exactly as long does not leave the connection open.
            0 => Poll::Ready(Err(cut())),
            _ => Pin::new(&mut self.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
