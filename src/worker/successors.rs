//! Same-key runs: when an event is finished, the next one of its key is leased with the same statement and run at once.
//!
//! That spares a key the way over `pending` and a claim. The order among the keys stays as it is: a successor is leased
//! only where its turn has come, because every older event has been claimed already, or because nothing else waits. What was
//! leased by a statement whose answer got lost is handed back, as after a claim.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::outbox::Claimed;
use crate::outbox::settle::Next;

/// A claimed event that is about to start, and when it was claimed.
pub(super) struct Ready {
    pub(super) claimed: Claimed,
    pub(super) at: Instant,
}

/// Leases successors to this worker, and passes them on to be started.
pub(super) struct Successors {
    owner: String,
    lease: Duration,
    /// In microseconds since 1970: the youngest event that has its turn.
    until: AtomicI64,
    leased: mpsc::UnboundedSender<Ready>,
    /// Was an answer lost that may have had leases in it?
    is_answer_lost: AtomicBool,
}

const NOBODY: i64 = i64::MIN;
const EVERYBODY: i64 = i64::MAX;

impl Successors {
    /// For a worker called `owner`, whose leases last for `lease`. What is leased arrives at the second answer. Nobody has a
    /// turn yet.
    pub(super) fn new(owner: String, lease: Duration) -> (Self, mpsc::UnboundedReceiver<Ready>) {
        let (leased, ready) = mpsc::unbounded_channel();
        (Self { owner, lease, until: NOBODY.into(), leased, is_answer_lost: AtomicBool::new(false) }, ready)
    }

    /// Everything that was created before `until` has been claimed.
    pub(super) fn have_turn_until(&self, until: Option<DateTime<Utc>>) {
        self.until.store(until.map_or(NOBODY, |until| until.timestamp_micros()), Ordering::Relaxed);
    }

    /// Nothing else waits.
    pub(super) fn all_have_turn(&self) {
        self.until.store(EVERYBODY, Ordering::Relaxed);
    }

    /// Nothing is leased from now on: the worker stops.
    pub(super) fn none_has_turn(&self) {
        self.until.store(NOBODY, Ordering::Relaxed);
    }

    /// What to lease along with a completion.
    pub(super) fn next(&self) -> Option<Next<'_>> {
        let until = match self.until.load(Ordering::Relaxed) {
            NOBODY => return None,
            EVERYBODY => DateTime::<Utc>::MAX_UTC,
            until => DateTime::from_timestamp_micros(until)?,
        };
        Some(Next { owner: &self.owner, lease: self.lease, until })
    }

    /// An answer was lost that may have had leases in it.
    pub(super) fn note_lost_answer(&self) {
        self.is_answer_lost.store(true, Ordering::Relaxed);
    }

    /// Was such an answer lost since this was asked last?
    pub(super) fn take_lost_answer(&self) -> bool {
        self.is_answer_lost.swap(false, Ordering::Relaxed)
    }

    /// Has what was leased started. `at` is a moment before it was.
    pub(super) fn start(&self, next: Vec<Claimed>, at: Instant) {
        for claimed in next {
            // Where nobody receives any more, the worker has gone, and the lease runs out.
            let _sent = self.leased.send(Ready { claimed, at });
        }
    }
}
