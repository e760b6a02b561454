//! An event that is leased to this worker and has not started.

use std::time::{self, Duration};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::handler::Deadline;
use crate::outbox::Claimed;
use crate::worker::judge::CRASHES_MAX;
use crate::worker::lease_renewer::{LeaseGuard, LeaseRenewer};
use crate::worker::schedule::Item;

/// An event that is leased to this worker and has not started.
pub(super) struct Leased {
    pub(super) claimed: Claimed,
    /// A moment before the statement that leased it.
    at: Instant,
    until: Instant,
    /// While it is there, the lease is renewed.
    lease_guard: Option<LeaseGuard>,
}

impl Leased {
    /// For an event that a statement leased for `lease`; the statement began at `at`.
    pub(super) fn new(claimed: Claimed, at: Instant, lease: Duration) -> Self {
        Self { claimed, at, until: at + lease, lease_guard: None }
    }

    /// Has the lease renewed if the event is a suspect: it may wait for long until nothing else runs.
    pub(super) fn keep_if_suspect(&mut self, lease_renewer: &LeaseRenewer) {
        if self.is_suspect() {
            let deadline = Deadline::new(Duration::MAX);
            self.lease_guard = Some(lease_renewer.keep(self.claimed.lease, self.until, deadline));
        }
    }

    /// Until when the lease is surely ours.
    fn until(&self) -> Instant {
        self.lease_guard.as_ref().map_or(self.until, LeaseGuard::until)
    }

    /// The event, and until when the lease is surely ours. From now on only the attempt has it renewed.
    pub(super) fn into_parts(self) -> (Claimed, Instant) {
        let until = self.until();
        (self.claimed, until)
    }
}

impl Item for Leased {
    fn created_at(&self) -> DateTime<Utc> {
        self.claimed.event.created_at
    }

    fn claimed_at(&self) -> time::Instant {
        self.at.into_std()
    }

    fn leased_until(&self) -> time::Instant {
        self.until().into_std()
    }

    fn is_suspect(&self) -> bool {
        self.claimed.crashes == CRASHES_MAX - 1
    }
}
