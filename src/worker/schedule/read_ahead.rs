//! Read-ahead: how quick the handlers are, and therefore how many events are claimed beyond the free places.

use std::time::Duration;

/// Events that are claimed ahead start within about this time.
const AHEAD: Duration = Duration::from_millis(20);
/// The most events ahead, however quick the handlers are: enough for some commits of completions. With 400 a worker did
/// a fifth less, with 1000 a twentieth less.
const AHEAD_MAX: u64 = 2000;

/// A moving average of how long handlers take.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// In nanoseconds; 0 before the first handler has ended.
    average: u64,
}

impl ReadAhead {
    /// Notes how long one handler took. The average rises sooner than it falls: claiming too few events costs a round
    /// trip, but claiming too many keeps events waiting that another worker might have started.
    pub(super) fn note(&mut self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.average = match self.average {
            0 => took,
            average if took > average => average + (took - average) / 4,
            average => average - (average - took) / 16,
        };
    }

    /// How many events may be claimed beyond those that can start now.
    pub(super) fn events(&self, concurrency: usize) -> usize {
        if self.average == 0 {
            return 0;
        }
        let ahead = u64::try_from(AHEAD.as_nanos()).unwrap_or(u64::MAX);
        let places = concurrency as u64;
        let within = (ahead / self.average).saturating_mul(places);
        usize::try_from(within.saturating_sub(places).min(AHEAD_MAX)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_ahead_before_anything_is_known_or_while_handlers_are_slow() {
        let mut read_ahead = ReadAhead::default();
        assert_eq!(read_ahead.events(64), 0);
        for _ in 0..100 {
            read_ahead.note(Duration::from_millis(50));
        }
        assert_eq!(read_ahead.events(64), 0);
    }

    #[test]
    fn as_much_is_read_ahead_as_starts_within_20_ms() {
        let mut read_ahead = ReadAhead::default();
        for _ in 0..100 {
            read_ahead.note(Duration::from_millis(5));
        }
        assert_eq!(read_ahead.events(24), 3 * 24);
        for _ in 0..1000 {
            read_ahead.note(Duration::from_micros(10));
        }
        assert_eq!(read_ahead.events(24), 2000);
    }
}
