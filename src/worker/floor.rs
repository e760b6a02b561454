//! Where a claim begins to look: at the first event, or where the last claim ended.
//!
//! A claim walks an index from the oldest event on. What was finished is still in that index until vacuum has been there, and
//! while somebody keeps an old snapshot open, vacuum leaves it. So a claim begins where the last one ended, and the whole
//! index is walked only for a small part of the time: what came late, what was replayed, and what another worker let go
//! is found then.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// While claims come back full, the whole index is walked for about a twentieth of the time.
const SHARE_WHILE_FULL: u32 = 20;
/// However long a walk took.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Where the next claim begins to look.
#[derive(Debug)]
pub(super) struct Floor {
    /// Everything older was claimed when we last looked.
    created_at: Option<DateTime<Utc>>,
    /// When the whole index was last walked, and how long that took.
    walked: Instant,
    walk: Duration,
    /// Did the last claim bring as much as it asked for?
    was_full: bool,
}

impl Floor {
    pub(super) fn new() -> Self {
        Self { created_at: None, walked: Instant::now(), walk: Duration::ZERO, was_full: false }
    }

    /// Where a claim at `now` begins; `None` for the whole index.
    pub(super) fn at(&self, now: Instant) -> Option<DateTime<Utc>> {
        if now >= self.next_walk() { None } else { self.created_at }
    }

    /// From when on the whole index is walked.
    pub(super) fn next_walk(&self) -> Instant {
        let share = if self.was_full { SHARE_WHILE_FULL } else { 1 };
        self.walked + (self.walk * share).min(WAIT_MAX)
    }

    /// Everything that was created before was claimed when we last looked.
    pub(super) fn reached(&self) -> Option<DateTime<Utc>> {
        self.created_at
    }

    /// Forgets where the last claim ended.
    pub(super) fn forget(&mut self) {
        self.created_at = None;
    }

    /// Notes a claim that began at `floor`, took from `began` to `ended`, and brought events of which the youngest was created
    /// at `youngest`.
    pub(super) fn note(
        &mut self,
        floor: Option<DateTime<Utc>>,
        (began, ended): (Instant, Instant),
        youngest: Option<DateTime<Utc>>,
        was_full: bool,
    ) {
        if floor.is_none() {
            (self.walked, self.walk) = (ended, ended - began);
        }
        // A walk that came back full ended where it ended; otherwise nothing older is left.
        let is_lower = floor.is_none() && was_full;
        self.created_at = if is_lower { youngest } else { self.created_at.max(youngest) };
        self.was_full = was_full;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn created(second: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(second, 0)
    }

    #[test]
    fn a_claim_begins_where_the_last_one_ended_until_it_is_time_for_a_walk() {
        let (mut floor, start) = (Floor::new(), Instant::now());
        assert_eq!(floor.at(start), None);

        floor.note(None, (start, start + MS), created(7), true);
        assert_eq!(floor.at(start + 20 * MS), created(7));
        floor.note(created(7), (start + 2 * MS, start + 3 * MS), created(9), true);
        assert_eq!(floor.at(start + 20 * MS), created(9));
        assert_eq!(floor.at(start + 21 * MS), None);
    }

    #[test]
    fn what_is_retried_does_not_lower_it() {
        let (mut floor, start) = (Floor::new(), Instant::now());
        floor.note(None, (start, start + MS), created(7), true);
        floor.note(created(7), (start + MS, start + MS), created(3), true);
        assert_eq!(floor.at(start + 2 * MS), created(7));
    }

    #[test]
    fn after_a_claim_that_came_back_short_half_of_the_time_is_for_walks() {
        let (mut floor, start) = (Floor::new(), Instant::now());
        floor.note(None, (start, start + 50 * MS), created(7), false);
        assert_eq!(floor.at(start + 99 * MS), created(7));
        assert_eq!(floor.at(start + 100 * MS), None);
    }

    #[test]
    fn a_walk_is_never_put_off_for_long() {
        let (mut floor, start) = (Floor::new(), Instant::now());
        floor.note(None, (start, start + 5000 * MS), created(7), true);
        assert_eq!(floor.next_walk(), start + 5000 * MS + WAIT_MAX);
    }
}
