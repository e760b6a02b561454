//! When an event is retried after a failed attempt: exponential backoff with full jitter, and a cap.

use std::time::Duration;

/// The longest wait and the longest timeout, so that the wait of a handler can always be added to a time.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How often, and how far apart, attempts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many attempts are made before the event is a dead letter.
    pub max_attempts: u32,
    /// The longest wait after the first failure. It doubles with each further failure.
    pub first: Duration,
    /// No wait is longer than this, except one that the other side asked for.
    pub cap: Duration,
}

impl Policy {
    /// Twenty attempts, up to an hour apart. From the first to the last these are four and a half hours on average:
    /// longer than an outage of the API that an operator does not hear of by other means.
    pub const DEFAULT: Self =
        Self { max_attempts: 20, first: Duration::from_secs(2), cap: Duration::from_secs(60 * 60) };

    /// The longest wait after failure number `attempt`, counted from 1.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.cap).min(LONGEST)
    }

    /// The wait after failure number `attempt`: from zero up to the [ceiling](Self::ceiling), so that events which
    /// failed together do not come back together. `chance` is uniform in `0.0..1.0`.
    ///
    /// The wait is never shorter than `retry_after`, which the other side asked for; the jitter comes on top, and at
    /// most doubles it.
    pub fn wait(&self, attempt: u32, retry_after: Option<Duration>, chance: f64) -> Duration {
        let jitter = self.ceiling(attempt).mul_f64(chance.clamp(0.0, 1.0));
        match retry_after {
            Some(least) => {
                let least = least.min(LONGEST);
                least + jitter.min(least)
            }
            None => jitter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let policy = Policy::DEFAULT;
        let seconds: Vec<u64> = (1..=13).map(|attempt| policy.ceiling(attempt).as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]);
        assert_eq!(policy.ceiling(u32::MAX), policy.cap);
    }

    #[test]
    fn the_wait_is_anything_up_to_the_ceiling() {
        let policy = Policy::DEFAULT;
        assert_eq!(policy.wait(3, None, 0.0), Duration::ZERO);
        assert_eq!(policy.wait(3, None, 0.5), Duration::from_secs(4));
        assert_eq!(policy.wait(3, None, 1.0), policy.ceiling(3));
    }

    #[test]
    fn what_the_other_side_asks_for_is_the_least() {
        let policy = Policy::DEFAULT;
        let asked = Duration::from_secs(30);
        assert_eq!(policy.wait(1, Some(asked), 0.0), asked);
        assert_eq!(policy.wait(1, Some(asked), 1.0), Duration::from_secs(32));
        assert_eq!(policy.wait(12, Some(asked), 1.0), 2 * asked, "the jitter never more than doubles it");
    }

    #[test]
    fn no_duration_is_too_long_to_be_waited_for() {
        let endless = Policy { max_attempts: 1, first: Duration::MAX, cap: Duration::MAX };
        for chance in [0.5, 1.0, f64::INFINITY] {
            assert!(endless.wait(1, None, chance) <= LONGEST);
            assert!(endless.wait(u32::MAX, Some(Duration::MAX), chance) <= 2 * LONGEST);
        }
    }
}
