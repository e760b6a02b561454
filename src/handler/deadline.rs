//! How long an attempt may take, and whether a transaction of its own holds its event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// As good as none, and not beyond what a clock can count.
const TIMEOUT_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// When an attempt must have finished, or have reported progress.
#[derive(Clone, Debug)]
pub(crate) struct Deadline {
    timeout: Duration,
    at: Arc<watch::Sender<Instant>>,
    /// How many transactions of the attempt hold its event.
    holds: Arc<AtomicUsize>,
}

impl Deadline {
    pub(crate) fn new(timeout: Duration) -> Self {
        let timeout = timeout.min(TIMEOUT_MAX);
        let at = Instant::now() + timeout;
        Self { timeout, at: Arc::new(watch::Sender::new(at)), holds: Arc::default() }
    }

    /// The time by which the attempt must have finished.
    pub(crate) fn at(&self) -> Instant {
        *self.at.borrow()
    }

    /// How long an attempt has, from its last sign of progress.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn restart(&self) {
        self.at.send_replace(Instant::now() + self.timeout);
    }

    /// Does a transaction of the attempt hold the event?
    pub(crate) fn is_held(&self) -> bool {
        self.holds.load(Ordering::Relaxed) > 0
    }

    pub(super) fn hold(&self) -> Hold {
        self.holds.fetch_add(1, Ordering::Relaxed);
        Hold(Arc::clone(&self.holds))
    }
}

/// A transaction of the attempt holds its event until this is dropped: nobody else can have locked the event.
#[derive(Debug)]
pub(super) struct Hold(Arc<AtomicUsize>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
