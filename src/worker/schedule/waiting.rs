//! Claimed events that have not started: the ready ones, and the suspects, which run alone.
//!
//! A ready event waits for half a second at most. If it could not start by then, it is handed back so that another
//! worker can run it: the handlers have become slow, or a suspect has this worker for itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Item;

/// An event that has not started this long after its claim is handed back.
pub(in crate::worker) const READY_WAIT: Duration = Duration::from_millis(500);

/// Claimed events that have not started.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    ready: VecDeque<T>,
    suspects: VecDeque<T>,
}

impl<T: Item> Waiting<T> {
    pub(super) fn new() -> Self {
        Self { ready: VecDeque::new(), suspects: VecDeque::new() }
    }

    pub(super) fn push(&mut self, item: T) {
        if item.is_suspect() {
            self.suspects.push_back(item);
        } else {
            self.ready.push_back(item);
        }
    }

    /// How many events are ready.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.suspects.is_empty()
    }

    pub(super) fn has_suspect(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Takes the next event to start. An event that came with a late answer may have lost its lease already, and
    /// another worker may run it; that one does not start.
    pub(super) fn next_ready(&mut self, now: Instant) -> Option<T> {
        self.ready.pop_front_if(|item| now < item.leased_until())
    }

    /// Takes the next event that runs alone, unless its lease may have run out.
    pub(super) fn next_suspect(&mut self, now: Instant) -> Option<T> {
        self.suspects.pop_front_if(|item| now < item.leased_until())
    }

    /// When to hand back all ready events: when the first one, which has waited longest, has waited for too long. While
    /// there is a suspect nothing else starts, so they are handed back at once.
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        let wait = if self.has_suspect() { Duration::ZERO } else { READY_WAIT };
        self.ready.front().map(|item| item.leased_until().min(item.claimed_at() + wait))
    }

    /// Takes the events to hand back at `now`. Mostly there are none.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<T> {
        let is_overdue = self.overdue_at().is_some_and(|at| at <= now);
        let ready = if is_overdue { self.ready.len() } else { 0 };
        let lost = self.suspects.pop_front_if(|item| item.leased_until() <= now);
        self.ready.drain(..ready).chain(lost).collect()
    }

    /// Takes everything.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        self.ready.drain(..).chain(self.suspects.drain(..)).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.ready.iter().chain(&self.suspects)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Event {
        claimed_at: Instant,
        leased_until: Instant,
        is_suspect: bool,
    }

    impl Item for Event {
        fn created_at(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }
        fn claimed_at(&self) -> Instant {
            self.claimed_at
        }
        fn leased_until(&self) -> Instant {
            self.leased_until
        }
        fn is_suspect(&self) -> bool {
            self.is_suspect
        }
    }

    fn event(claimed_at: Instant, is_suspect: bool) -> Event {
        Event { claimed_at, leased_until: claimed_at + 1000 * MS, is_suspect }
    }

    #[test]
    fn ready_events_are_handed_back_when_the_first_has_waited_for_half_a_second() {
        let (mut waiting, start) = (Waiting::new(), Instant::now());
        assert_eq!(waiting.overdue_at(), None);
        for late in 0..3 {
            waiting.push(event(start + late * MS, false));
        }
        assert_eq!(waiting.overdue_at(), Some(start + READY_WAIT));
        assert!(waiting.next_ready(start + READY_WAIT).is_some(), "a place that comes free is in time");
        assert_eq!(waiting.take_overdue(start + READY_WAIT).len(), 0);
        assert_eq!(waiting.take_overdue(start + MS + READY_WAIT).len(), 2);
        assert!(waiting.is_empty());
    }

    #[test]
    fn beside_a_suspect_ready_events_are_handed_back_at_once() {
        let (mut waiting, start) = (Waiting::new(), Instant::now());
        waiting.push(event(start, false));
        waiting.push(event(start, true));
        assert_eq!(waiting.take_overdue(start).len(), 1);
        assert!(waiting.next_suspect(start).is_some());
    }

    #[test]
    fn what_may_have_lost_its_lease_does_not_start_and_is_handed_back() {
        for is_suspect in [false, true] {
            let (mut waiting, start) = (Waiting::new(), Instant::now());
            waiting.push(event(start, is_suspect));
            let end = start + 1000 * MS;
            assert!(waiting.next_ready(end).is_none() && waiting.next_suspect(end).is_none());
            assert_eq!(waiting.take_overdue(end).len(), 1);
        }
    }
}
