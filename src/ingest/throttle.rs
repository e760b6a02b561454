//! Limits on what senders that are refused can cause. The first is one on log lines: one per kind and interval, which says how many of its kind were left out.
//!
//! Anyone can send deliveries that are refused, at any rate; the exact numbers are in the metrics.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time within which a kind of line is written once.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long a [`Pace`] makes anyone wait at most.
const PACE_WAIT_MAX: Duration = Duration::from_millis(100);

/// Decides which log lines to write. Kinds are constants, so that the map does not grow with what senders invent.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    kinds: Mutex<HashMap<&'static str, Kind>>,
}

#[derive(Debug)]
struct Kind {
    written_at: Instant,
    left_out: u64,
}

impl Throttle {
    /// If a line of `kind` should be written at `now`, returns how many were left out since the last one.
    pub(super) fn admit(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(kind) {
            Some(known) if now.saturating_duration_since(known.written_at) < INTERVAL => {
                known.left_out += 1;
                None
            }
            known => {
                let left_out = known.map_or(0, |known| known.left_out);
                kinds.insert(kind, Kind { written_at: now, left_out: 0 });
                Some(left_out)
            }
        }
    }
}

/// An allowance of so many in a second.
#[derive(Debug)]
pub(super) struct Allowance {
    per_second: u32,
    spent: Mutex<(Option<Instant>, u32)>,
}

impl Allowance {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, spent: Mutex::default() }
    }

    /// Whether one more is allowed at `now`.
    pub(super) fn admit(&self, now: Instant) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = &mut *spent;
        if since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (*since, *count) = (Some(now), 0);
        }
        *count = count.saturating_add(1);
        *count <= self.per_second
    }
}

/// A pace of so many in a second, for answers that anyone can cause. Whoever waits for each answer sends no faster.
#[derive(Debug)]
pub(super) struct Pace {
    apart: Duration,
    /// When the next one may come.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        Self { apart: Duration::from_secs(1) / per_second, next: Mutex::default() }
    }

    /// How long the next one waits at `now`. That is a tenth of a second at most: each holds a connection meanwhile.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.unwrap_or(now).clamp(now, now + PACE_WAIT_MAX);
        *next = Some(at + self.apart);
        at - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_lets_one_come_at_once_and_makes_a_crowd_wait_for_a_bounded_time() {
        let pace = Pace::new(100);
        let start = Instant::now();
        let ms = Duration::from_millis;

        let waits: Vec<_> = (0..13).map(|_| pace.wait(start)).collect();
        let later = pace.wait(start + ms(60));
        let calm = pace.wait(start + ms(1000));

        assert_eq!(
            (waits[0], waits[1], waits[9], waits[10], waits[12]),
            (ms(0), ms(10), ms(90), ms(100), ms(100))
        );
        assert_eq!((later, calm), (ms(50), ms(0)));
    }

    #[test]
    fn an_allowance_is_spent_and_there_again_after_a_second() {
        let allowance = Allowance::new(2);
        let start = Instant::now();

        let admitted = [0, 1, 2, 999, 1000, 1001, 1002]
            .map(|after| allowance.admit(start + Duration::from_millis(after)));

        assert_eq!(admitted, [true, true, false, false, true, true, false]);
    }

    #[test]
    fn a_kind_of_line_is_written_once_per_interval_and_tells_what_was_left_out() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let almost = start + INTERVAL - Duration::from_millis(1);

        assert_eq!(throttle.admit("stale", start), Some(0));
        assert_eq!(throttle.admit("stale", start), None);
        assert_eq!(throttle.admit("stale", almost), None);
        assert_eq!(throttle.admit("mismatch", almost), Some(0));
        assert_eq!(throttle.admit("stale", start + INTERVAL), Some(2));
        assert_eq!(throttle.admit("stale", start + INTERVAL * 2), Some(0));
    }
}
