//! An event that is leased to a simulated worker.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::super::Item;
use super::outbox::Lease;

/// After this many crashes an event is given up; its last attempt runs alone.
const CRASHES_MAX: u32 = 3;

/// A leased event.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: usize,
    pub(super) token: u64,
    created_at: DateTime<Utc>,
    pub(super) crashes: u32,
    claimed_at: Instant,
    pub(super) arrived_at: Instant,
    /// Until when the lease is surely ours; it moves when the lease is renewed.
    until: Rc<Cell<Instant>>,
}

impl Job {
    pub(super) fn new(lease: Lease, claimed_at: Instant, arrived_at: Instant, lasts: Duration) -> Self {
        let Lease { id, token, created_at, crashes } = lease;
        let until = Rc::new(Cell::new(claimed_at + lasts));
        Self { id, token, created_at, crashes, claimed_at, arrived_at, until }
    }

    pub(super) fn renew(&self, until: Instant) {
        self.until.set(until);
    }
}

impl Item for Job {
    fn created_at(&self) -> DateTime<Utc> {
        self.created_at
    }
    fn claimed_at(&self) -> Instant {
        self.claimed_at
    }
    fn leased_until(&self) -> Instant {
        self.until.get()
    }
    fn is_suspect(&self) -> bool {
        self.crashes == CRASHES_MAX - 1
    }
}
