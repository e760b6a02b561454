//! Held keys: when to look again at keys that another session has locked. The first looks come soon, because most locks
//! last only a moment. While a session leaves its transaction open, they come less and less often.

use std::time::{Duration, Instant};

const SOONEST: Duration = Duration::from_millis(5);
/// The longest pause, so that an event which waits for a key runs within a second after the lock is released.
const LATEST: Duration = Duration::from_millis(400);
/// A claim stops once it has settled this many keys. If it settled as many, there may be more.
const PORTION: i64 = 500;

/// The keys that the last claim which looked at them had to leave.
#[derive(Debug)]
pub(super) struct HeldKeys {
    look_at: Option<Instant>,
    pause: Duration,
}

impl Default for HeldKeys {
    fn default() -> Self {
        Self { look_at: None, pause: SOONEST }
    }
}

impl HeldKeys {
    /// Should the claim that begins at `now` look at the noted keys? If none were left over, each claim does.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let is_time = self.look_at.is_none_or(|at| at <= now);
        if is_time {
            self.look_at = None;
        }
        is_time
    }

    /// When a claim is due to look at the keys.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// May the keys be free in a moment? A session that has held them for long has left its transaction open.
    pub(super) fn may_be_free_soon(&self) -> bool {
        self.look_at.is_some() && self.pause < LATEST
    }

    /// Notes how many keys a claim settled, and how many it had to leave.
    pub(super) fn note(&mut self, now: Instant, settled: i64, left: i64) {
        self.pause = if settled > 0 { SOONEST } else { (self.pause * 2).min(LATEST) };
        self.look_at = if settled >= PORTION {
            Some(now)
        } else if left > 0 {
            Some(now + self.pause)
        } else {
            self.pause = SOONEST;
            None
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_claim_looks_at_the_keys_while_none_are_held() {
        let (mut keys, now) = (HeldKeys::default(), Instant::now());
        assert!(keys.begin(now));
        keys.note(now, 3, 0);
        assert!(keys.begin(now));
        assert_eq!(keys.look_at(), None);
    }

    #[test]
    fn keys_that_stay_held_are_looked_at_less_and_less_often_but_within_a_second() {
        let (mut keys, now) = (HeldKeys::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..10 {
            keys.note(now, 0, 7);
            assert!(!keys.begin(now));
            pauses.push(keys.look_at().unwrap() - now);
        }
        assert!(!keys.may_be_free_soon());
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&LATEST));
        keys.note(now, 1, 6);
        assert_eq!(keys.look_at(), Some(now + SOONEST));
    }

    #[test]
    fn a_portion_that_was_full_is_followed_by_the_next_at_once() {
        let (mut keys, now) = (HeldKeys::default(), Instant::now());
        keys.note(now, PORTION, 0);
        assert_eq!(keys.look_at(), Some(now));
        assert!(keys.begin(now));
    }
}
