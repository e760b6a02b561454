//! How long an attempt may take, and whether one of its transactions has locked its event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The longest timeout: in effect none, and still small enough to add to a clock.
const TIMEOUT_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// When an attempt must have finished, or have reported progress.
#[derive(Clone, Debug)]
pub(crate) struct Deadline {
    timeout: Duration,
    at: Arc<watch::Sender<Instant>>,
    /// How many transactions of the attempt have locked its event.
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

    /// How long an attempt may take without reporting progress.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn restart(&self) {
        self.at.send_replace(Instant::now() + self.timeout);
    }

    /// Has a transaction of the attempt locked the event?
    pub(crate) fn is_held(&self) -> bool {
        self.holds.load(Ordering::Relaxed) > 0
    }

    pub(super) fn hold(&self) -> Hold {
        self.holds.fetch_add(1, Ordering::Relaxed);
        Hold(Arc::clone(&self.holds))
    }
}

/// While this lives, a transaction of the attempt has locked the event, so no other session can.
#[derive(Debug)]
pub(super) struct Hold(Arc<AtomicUsize>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
