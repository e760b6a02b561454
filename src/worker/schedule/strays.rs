//! Strays: events that the database has leased to this worker without its knowledge, because the answer of the
//! statement was lost. The worker hands them back; otherwise they would wait until their leases run out.

use std::time::{Duration, Instant};

/// Twice the time after which a statement is given up: after that, no answer can be on its way any more. Younger strays
/// are not handed back.
pub(in crate::worker) const STRAY_AGE: Duration = Duration::from_secs(10);

/// When to hand strays back.
#[derive(Debug, Default)]
pub(super) struct Strays {
    due_at: Option<Instant>,
    /// When the last answer was lost.
    lost_at: Option<Instant>,
}

impl Strays {
    /// Notes at `now` that an answer was lost.
    pub(super) fn note_lost_answer(&mut self, now: Instant) {
        self.due_at.get_or_insert(now + STRAY_AGE);
        self.lost_at = Some(now);
    }

    /// When to hand strays back, if there may be any.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    /// Is it time to hand strays back? If so, sets the next time, if another answer was lost since the first one.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due_at.is_some_and(|at| at <= now);
        if is_due {
            self.due_at = self.lost_at.map(|at| at + STRAY_AGE).filter(|at| *at > now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn strays_are_handed_back_ten_seconds_after_an_answer_was_lost_and_once() {
        let (mut strays, start) = (Strays::default(), Instant::now());
        assert_eq!(strays.due_at(), None);
        strays.note_lost_answer(start);
        assert!(!strays.take_due(start + 9 * SECOND));
        assert!(strays.take_due(start + 10 * SECOND));
        assert_eq!(strays.due_at(), None);
    }

    #[test]
    fn those_of_an_answer_that_was_lost_later_have_their_own_time() {
        let (mut strays, start) = (Strays::default(), Instant::now());
        strays.note_lost_answer(start);
        strays.note_lost_answer(start + 4 * SECOND);
        assert!(strays.take_due(start + 10 * SECOND));
        assert_eq!(strays.due_at(), Some(start + 14 * SECOND));
        assert!(strays.take_due(start + 14 * SECOND));
        assert_eq!(strays.due_at(), None);
    }
}
