//! The watch over one connection: how long it may wait for a request, take over a head, and leave an answer unread.
//!
//! hyper has one deadline for everything before a request, and none for a sender that does not read. Here a connection
//! may be idle for longer than a head may take: proxies keep connections for a minute and more, and a connection that
//! is closed just when its proxy uses it again costs a delivery.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Limits;

/// Whether a new connection waits for the place of an open one.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    is_waiting: AtomicBool,
    /// Notified when a connection becomes idle while another waits for a place.
    pub(super) idle: Notify,
}

impl Crowd {
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::SeqCst);
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::SeqCst)
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Idle: nothing of the next request has arrived.
    Waiting,
    /// The head of a request has begun.
    Head,
    /// A request is being answered. Its body has a deadline of its own.
    Answering,
    /// The answer is ready and about to be written.
    Answered,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
}

/// The state of one connection. Its stream, its requests and the accept loop, which may need its place, share it.
#[derive(Debug)]
pub(super) struct Watch {
    state: Mutex<State>,
    crowd: Arc<Crowd>,
    /// Ends the connection.
    pub(super) cut: CancellationToken,
}

impl Watch {
    pub(super) fn new(crowd: Arc<Crowd>, cut: CancellationToken) -> Self {
        Self { state: Mutex::new(State { phase: Phase::Waiting, since: Instant::now() }), crowd, cut }
    }

    /// Notes that the head of a request is complete.
    pub(super) fn answering(&self) {
        self.lock().phase = Phase::Answering;
    }

    /// Notes that the answer is ready.
    pub(super) fn answered(&self) {
        self.lock().phase = Phase::Answered;
    }

    /// Since when the connection has been idle, if it is.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.phase == Phase::Waiting).then_some(state.since)
    }

    /// Ends the connection if it is still idle.
    pub(super) fn close_if_waiting(&self) {
        let state = self.lock();
        if state.phase == Phase::Waiting {
            self.cut.cancel();
        }
    }

    /// Notes that bytes have been read.
    fn read(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Waiting {
            *state = State { phase: Phase::Head, since: Instant::now() };
        }
    }

    /// Notes that bytes have been written.
    fn written(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Answered {
            *state = State { phase: Phase::Waiting, since: Instant::now() };
            drop(state);
            if self.crowd.is_waiting() {
                self.crowd.idle.notify_one();
            }
        }
    }

    /// When the current phase times out, and which phase it is. `None` where it has no deadline here.
    fn due(&self, limits: &Limits) -> Option<(Instant, Phase)> {
        let state = self.lock();
        let patience = match state.phase {
            Phase::Waiting => limits.idle,
            Phase::Head => limits.head_timeout,
            Phase::Answering | Phase::Answered => return None,
        };
        Some((state.since + patience, state.phase))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No holder can panic between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream under watch.
pub(super) struct Watched {
    stream: TcpStream,
    watch: Arc<Watch>,
    limits: Limits,
    /// Set to a time that is never later than the deadline, so that it need not be reset for every request.
    read_timer: Pin<Box<Sleep>>,
    /// Runs while the sender reads nothing. hyper writes again when this timer or the stream wakes it.
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, watch: Arc<Watch>, limits: Limits) -> Self {
        let read_timer = Box::pin(sleep(limits.head_timeout.min(limits.idle)));
        Self { stream, watch, limits, read_timer, write_timer: None }
    }

    /// Waits until the current phase has taken too long, and returns that phase.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<Phase> {
        loop {
            let Some((due, phase)) = self.watch.due(&self.limits) else { return Poll::Pending };
            if self.read_timer.deadline() > due {
                self.read_timer.as_mut().reset(due);
            }
            ready!(self.read_timer.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(phase);
            }
            self.read_timer.as_mut().reset(due);
        }
    }

    /// Passes on the result of a write, or an error if the sender has read nothing for too long.
    fn poll_taken<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            self.watch.written();
            return written;
        }
        let unread_until = Instant::now() + self.limits.unread_timeout;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep_until(unread_until)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // No requests are read from a sender that reads no answers: hyper would keep all the answers in memory.
        if self.write_timer.is_some() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            if buffer.filled().len() > before {
                self.watch.read();
            }
            return Poll::Ready(read);
        }
        match ready!(self.poll_due(cx)) {
            // As if the sender had closed the connection: there is nothing to answer.
            Phase::Waiting => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_taken(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.poll_taken(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
