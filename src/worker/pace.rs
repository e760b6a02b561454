//! How quick the handlers are, and therefore how much may be claimed ahead of a free place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is claimed ahead starts within about this time.
const AHEAD: Duration = Duration::from_millis(20);
/// However quick the handlers are: enough for some commits of completions. With 400 a worker did a fifth less, with 1000 a
/// twentieth.
const AHEAD_MAX: u64 = 2000;

/// A moving average of how long handlers take.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// In nanoseconds; 0 until something is known.
    average: AtomicU64,
}

impl Pace {
    /// Notes how long one handler took. The average rises sooner than it falls: to claim too little costs a round trip, to
    /// claim too much keeps events waiting that another worker might have begun.
    pub(super) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let average = self.average.load(Ordering::Relaxed);
        let next = match average {
            0 => took,
            _ if took > average => average + (took - average) / 4,
            _ => average - (average - took) / 16,
        };
        self.average.store(next, Ordering::Relaxed);
    }

    /// How many events may be claimed beyond what can start this moment.
    pub(super) fn ahead(&self, concurrency: usize) -> usize {
        let average = self.average.load(Ordering::Relaxed);
        if average == 0 {
            return 0;
        }
        let ahead = u64::try_from(AHEAD.as_nanos()).unwrap_or(u64::MAX);
        let places = concurrency as u64;
        let within = (ahead / average).saturating_mul(places);
        usize::try_from(within.saturating_sub(places).min(AHEAD_MAX)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_claimed_ahead_before_anything_is_known_or_while_handlers_are_slow() {
        let pace = Pace::default();
        assert_eq!(pace.ahead(64), 0);
        for _ in 0..100 {
            pace.note(Duration::from_millis(50));
        }
        assert_eq!(pace.ahead(64), 0);
    }

    #[test]
    fn as_much_is_claimed_ahead_as_starts_within_20_ms() {
        let pace = Pace::default();
        for _ in 0..100 {
            pace.note(Duration::from_millis(5));
        }
        assert_eq!(pace.ahead(24), 3 * 24);
        for _ in 0..1000 {
            pace.note(Duration::from_micros(10));
        }
        assert_eq!(pace.ahead(24), 2000);
    }
}
