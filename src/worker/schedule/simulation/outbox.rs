//! A model of the outbox, small enough to check by reading: what may be claimed, leases, and one head for each key.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::super::Turn;

/// What orders events: when the sender created them, then their number.
pub(super) type Place = (DateTime<Utc>, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Blocked,
    Pending,
    Retry(Instant),
    Running,
    Done,
}

#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) created_at: DateTime<Utc>,
    pub(super) key: Option<u32>,
    pub(super) state: State,
    pub(super) token: u64,
    pub(super) owner: usize,
    leased_at: Instant,
    leased_until: Instant,
    pub(super) crashes: u32,
    /// Since when it may be claimed.
    pub(super) claimable_at: Instant,
}

/// One event that was leased by a statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) id: usize,
    pub(super) token: u64,
    pub(super) created_at: DateTime<Utc>,
    pub(super) crashes: u32,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    lease: Duration,
    pub(super) events: Vec<Event>,
    /// Pending and running events, as in the index that the claim scans.
    ready: BTreeSet<Place>,
    retries: BTreeSet<(Instant, usize)>,
    /// The events of each key that wait behind its head.
    blocked: HashMap<u32, BTreeSet<Place>>,
    heads: HashMap<u32, usize>,
    /// Until when each worker's sign of life counts.
    pub(super) alive_until: HashMap<usize, Instant>,
    pub(super) done: usize,
    /// The events of each key in the order in which they were finished.
    pub(super) ledger: HashMap<u32, Vec<DateTime<Utc>>>,
}

impl Outbox {
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, ..Self::default() }
    }

    fn place(&self, id: usize) -> Place {
        (self.events[id].created_at, id)
    }

    pub(super) fn insert(&mut self, now: Instant, created_at: DateTime<Utc>, key: Option<u32>) -> usize {
        let id = self.events.len();
        self.events.push(Event {
            created_at,
            key,
            state: State::Blocked,
            token: 0,
            owner: usize::MAX,
            leased_at: now,
            leased_until: now,
            crashes: 0,
            claimable_at: now,
        });
        match key {
            Some(key) if self.heads.contains_key(&key) => {
                self.blocked.entry(key).or_default().insert((created_at, id));
            }
            _ => {
                if let Some(key) = key {
                    self.heads.insert(key, id);
                }
                self.make_pending(now, id);
            }
        }
        id
    }

    fn make_pending(&mut self, now: Instant, id: usize) {
        let place = self.place(id);
        let event = &mut self.events[id];
        event.state = State::Pending;
        event.claimable_at = now;
        self.ready.insert(place);
    }

    fn lease(&mut self, now: Instant, id: usize, owner: usize) -> Lease {
        let place = self.place(id);
        self.ready.insert(place);
        let event = &mut self.events[id];
        let has_crashed = event.state == State::Running
            && event.owner != owner
            && self.alive_until.get(&event.owner).is_none_or(|until| *until <= now);
        event.crashes += u32::from(has_crashed);
        event.state = State::Running;
        event.token += 1;
        event.owner = owner;
        (event.leased_at, event.leased_until, event.claimable_at) = (now, now + self.lease, now + self.lease);
        Lease { id, token: event.token, created_at: event.created_at, crashes: event.crashes }
    }

    /// Claims up to `limit` events, the oldest first: from the cursor on those that are pending or whose lease ran out,
    /// and retries that are due.
    pub(super) fn claim(
        &mut self,
        now: Instant,
        owner: usize,
        limit: usize,
        cursor: Option<DateTime<Utc>>,
    ) -> Vec<Lease> {
        let from = (cursor.unwrap_or(DateTime::<Utc>::MIN_UTC), 0);
        let may_be_claimed = |id: usize| {
            let event = &self.events[id];
            event.state == State::Pending || event.leased_until <= now
        };
        let ready = self.ready.range(from..).filter(|(_, id)| may_be_claimed(*id)).take(limit).copied();
        let due = self.retries.range(..=(now, usize::MAX)).take(limit).map(|(_, id)| self.place(*id));
        let mut picked: Vec<Place> = ready.chain(due).collect();
        picked.sort_unstable();
        picked.truncate(limit);
        let lease = |(_, id): Place| {
            if let State::Retry(at) = self.events[id].state {
                self.retries.remove(&(at, id));
            }
            self.lease(now, id, owner)
        };
        picked.into_iter().map(lease).collect()
    }

    pub(super) fn is_held_by(&self, id: usize, token: u64) -> bool {
        self.events[id].state == State::Running && self.events[id].token == token
    }

    /// Finishes an event if the attempt has its lease. Returns the successor, leased if it has its turn.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        (id, token): (usize, u64),
        owner: usize,
        turn: Turn,
    ) -> Option<Finished> {
        if !self.is_held_by(id, token) {
            return None;
        }
        self.ready.remove(&self.place(id));
        self.events[id].state = State::Done;
        self.events[id].token += 1;
        self.done += 1;
        let Some(key) = self.events[id].key else { return Some(Finished::default()) };
        self.ledger.entry(key).or_default().push(self.events[id].created_at);
        let Some((created_at, next)) = self.blocked.get_mut(&key).and_then(BTreeSet::pop_first) else {
            self.heads.remove(&key);
            return Some(Finished::default());
        };
        self.heads.insert(key, next);
        let has_turn = match turn {
            Turn::Nobody => false,
            Turn::Until(until) => created_at <= until,
            Turn::Everybody => true,
        };
        Some(if has_turn {
            Finished { next: Some(self.lease(now, next, owner)), is_unblocked: false }
        } else {
            self.make_pending(now, next);
            Finished { next: None, is_unblocked: true }
        })
    }

    /// Lets an event run again at `at`, if the attempt has its lease.
    pub(super) fn retry(&mut self, id: usize, token: u64, at: Instant) {
        if self.is_held_by(id, token) {
            self.ready.remove(&self.place(id));
            let event = &mut self.events[id];
            (event.state, event.claimable_at) = (State::Retry(at), at);
            event.token += 1;
            self.retries.insert((at, id));
        }
    }

    pub(super) fn hand_back(&mut self, now: Instant, leases: &[(usize, u64)]) -> u64 {
        let held: Vec<usize> =
            leases.iter().filter(|(id, token)| self.is_held_by(*id, *token)).map(|(id, _)| *id).collect();
        for id in &held {
            self.events[*id].token += 1;
            self.make_pending(now, *id);
        }
        held.len() as u64
    }

    pub(super) fn hand_back_strays(
        &mut self,
        now: Instant,
        owner: usize,
        known: &HashSet<usize>,
        age: Duration,
    ) -> u64 {
        let is_stray = |id: usize| {
            let event = &self.events[id];
            event.state == State::Running
                && event.owner == owner
                && event.leased_at + age < now
                && !known.contains(&id)
        };
        let strays = self.ready.iter().map(|(_, id)| *id).filter(|id| is_stray(*id));
        let leases: Vec<(usize, u64)> = strays.map(|id| (id, self.events[id].token)).collect();
        self.hand_back(now, &leases)
    }

    pub(super) fn renew(&mut self, now: Instant, id: usize, token: u64) -> bool {
        let is_held = self.is_held_by(id, token);
        if is_held {
            let event = &mut self.events[id];
            (event.leased_until, event.claimable_at) = (now + self.lease, now + self.lease);
        }
        is_held
    }

    /// The event that may be claimed and has waited for longest, and since when.
    pub(super) fn longest_claimable(&self) -> Option<(Instant, usize)> {
        let ready = self.ready.iter().map(|(_, id)| *id);
        ready.chain(self.retries.iter().map(|(_, id)| *id)).map(|id| (self.events[id].claimable_at, id)).min()
    }
}

/// The result of a completion.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Finished {
    pub(super) next: Option<Lease>,
    pub(super) is_unblocked: bool,
}
