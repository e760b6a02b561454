//! Same-key runs: when an event is finished, the next one of its key is leased with the same statement and run at once.
//!
//! The schedule decides whose turn it is (`schedule/turn.rs`). Statements that settle an event read the decision here,
//! and pass on the events that they leased. If the answer of such a statement is lost, its events are handed back, as
//! after a claim.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::outbox::Claimed;
use crate::outbox::settle::Next;
use crate::worker::leased::Leased;
use crate::worker::schedule::Turn;

/// Leases successors to this worker, and passes them on to be started.
pub(super) struct Successors {
    owner: String,
    lease: Duration,
    /// In microseconds since 1970: the youngest event that has its turn.
    until: AtomicI64,
    leased: mpsc::UnboundedSender<Leased>,
    /// Was an answer lost that may have had leases in it?
    is_answer_lost: AtomicBool,
}

const NOBODY: i64 = i64::MIN;
const EVERYBODY: i64 = i64::MAX;

impl Successors {
    /// For a worker called `owner`, whose leases last for `lease`. Leased events arrive at the returned receiver. No
    /// successor has its turn yet.
    pub(super) fn new(owner: String, lease: Duration) -> (Self, mpsc::UnboundedReceiver<Leased>) {
        let (leased, ready) = mpsc::unbounded_channel();
        (Self { owner, lease, until: NOBODY.into(), leased, is_answer_lost: AtomicBool::new(false) }, ready)
    }

    /// From now on, completions lease the successors whose turn it is.
    pub(super) fn set_turn(&self, turn: Turn) {
        let until = match turn {
            Turn::Nobody => NOBODY,
            Turn::Until(until) => until.timestamp_micros(),
            Turn::Everybody => EVERYBODY,
        };
        self.until.store(until, Ordering::Relaxed);
    }

    /// Which successors a completion leases.
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

    /// Was such an answer lost since the last call?
    pub(super) fn take_lost_answer(&self) -> bool {
        self.is_answer_lost.swap(false, Ordering::Relaxed)
    }

    /// Passes leased events on to be started. `at` is a moment before the statement that leased them.
    pub(super) fn start(&self, next: Vec<Claimed>, at: Instant) {
        for claimed in next {
            // Without a receiver the worker has stopped, and the lease runs out.
            let _sent = self.leased.send(Leased::new(claimed, at, self.lease));
        }
    }
}
