//! An event that is leased to this worker and has not started.

use std::time::{self, Duration};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::handler::Deadline;
use crate::outbox::Claimed;
use crate::worker::judge::CRASHES_MAX;
use crate::worker::keeper::{Keeper, Kept};
use crate::worker::schedule::Item;

/// An event that is leased to this worker and has not started.
pub(super) struct Leased {
    pub(super) claimed: Claimed,
    /// A moment before the statement that leased it.
    at: Instant,
    until: Instant,
    /// The lease is renewed while this is there.
    kept: Option<Kept>,
}

impl Leased {
    /// What a statement leased for `lease` that began at `at`.
    pub(super) fn new(claimed: Claimed, at: Instant, lease: Duration) -> Self {
        Self { claimed, at, until: at + lease, kept: None }
    }

    /// Has the lease renewed where the event is a suspect, which may wait for long until nothing else runs.
    pub(super) fn keep_if_suspect(&mut self, keeper: &Keeper) {
        if self.is_suspect() {
            let deadline = Deadline::new(Duration::MAX);
            self.kept = Some(keeper.keep(self.claimed.lease, self.until, deadline));
        }
    }

    /// Until when the lease is surely ours.
    fn until(&self) -> Instant {
        self.kept.as_ref().map_or(self.until, Kept::until)
    }

    /// The event, and until when the lease is surely ours. It is not renewed any more, before the attempt has it renewed.
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
