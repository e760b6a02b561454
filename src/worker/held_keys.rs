//! When to look again at keys whose lock somebody held: soon after it may have been for a moment only, and less and less often
//! where somebody has left a transaction open.

use std::time::Duration;

use tokio::time::Instant;

const SOONEST: Duration = Duration::from_millis(5);
/// What waits for a key is let go within a second of its lock.
const LATEST: Duration = Duration::from_millis(400);
/// So many are settled in one claim. Where there were as many, there may be more.
const PORTION: i64 = 500;

/// The keys that were left over by the last claim that looked at them.
#[derive(Debug)]
pub(super) struct HeldKeys {
    look_at: Option<Instant>,
    pause: Duration,
}

impl HeldKeys {
    pub(super) fn new() -> Self {
        Self { look_at: None, pause: SOONEST }
    }

    /// Shall a claim at `now` look at the keys that are noted? Where none were left over, each claim does.
    pub(super) fn is_time(&self, now: Instant) -> bool {
        self.look_at.is_none_or(|at| at <= now)
    }

    /// When a claim shall be begun for the keys' sake.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// May they be free in a moment? Somebody who has held them for long has left a transaction open.
    pub(super) fn may_be_free_soon(&self) -> bool {
        self.look_at.is_some() && self.pause < LATEST
    }

    /// The next claim looks at them.
    pub(super) fn look(&mut self) {
        self.look_at = self.look_at.filter(|at| *at > Instant::now());
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
        let (mut keys, now) = (HeldKeys::new(), Instant::now());
        assert!(keys.is_time(now));
        keys.note(now, 3, 0);
        assert!(keys.is_time(now));
        assert_eq!(keys.look_at(), None);
    }

    #[test]
    fn keys_that_stay_held_are_looked_at_less_and_less_often_but_within_a_second() {
        let (mut keys, now) = (HeldKeys::new(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..10 {
            keys.note(now, 0, 7);
            assert!(!keys.is_time(now));
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
        let (mut keys, now) = (HeldKeys::new(), Instant::now());
        keys.note(now, PORTION, 0);
        assert_eq!(keys.look_at(), Some(now));
        assert!(keys.is_time(now));
    }
}
