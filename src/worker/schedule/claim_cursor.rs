//! The claim cursor: where a claim begins to look, which is at the oldest event or where the last claim ended.
//!
//! A claim scans an index from the oldest event on. Finished events stay in that index until vacuum removes them, and
//! vacuum cannot while any session keeps an old snapshot open. So a claim begins where the last one ended, and full
//! scans take only a small part of the time. A full scan finds events that arrived late, that an operator replayed, or
//! that another worker handed back.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// While claims come back full, or leave something out, full scans take about a twentieth of the time.
const SHARE_WHILE_FULL: u32 = 20;
/// The longest time between two full scans.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Where the next claim begins to look.
#[derive(Debug)]
pub(super) struct ClaimCursor {
    /// Everything older had been claimed at the last look.
    reached: Option<DateTime<Utc>>,
    /// When the last full scan ended, and how long it took.
    scanned_at: Instant,
    scan: Duration,
    /// Did the last claim return as many events as it asked for?
    was_full: bool,
    /// When to look below the cursor, if the last claim may have missed an event there.
    look_again_at: Option<Instant>,
}

/// A claim, and how far it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    /// Where it began; `None` for a full scan.
    pub(super) from: Option<DateTime<Utc>>,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// When the youngest event that it returned was created.
    pub(super) youngest: Option<DateTime<Utc>>,
    /// Did it return as many events as it asked for?
    pub(super) is_full: bool,
    /// The scan passed events that it left out, and began at this time.
    pub(super) left_out_at: Option<DateTime<Utc>>,
}

impl ClaimCursor {
    /// At the oldest event.
    pub(super) fn new(now: Instant) -> Self {
        Self { reached: None, scanned_at: now, scan: Duration::ZERO, was_full: false, look_again_at: None }
    }

    /// Where a claim at `now` begins; `None` for a full scan.
    pub(super) fn begin(&mut self, now: Instant) -> Option<DateTime<Utc>> {
        self.look_again_at = None;
        if now >= self.next_full_scan() { None } else { self.reached }
    }

    /// From this time on a claim is a full scan.
    fn next_full_scan(&self) -> Instant {
        let share = if self.was_full { SHARE_WHILE_FULL } else { 1 };
        self.scanned_at + (self.scan * share).min(WAIT_MAX)
    }

    /// When a claim is due to look below the cursor.
    pub(super) fn look_again_at(&self) -> Option<Instant> {
        self.look_again_at
    }

    /// Every event that was created before this had been claimed at the last look.
    pub(super) fn reached(&self) -> Option<DateTime<Utc>> {
        self.reached
    }

    /// Goes back to the oldest event.
    pub(super) fn forget(&mut self) {
        self.reached = None;
    }

    /// Notes how far a claim came.
    pub(super) fn note(&mut self, scan: Scan) {
        let Scan { from, began, ended, youngest, is_full, left_out_at } = scan;
        let is_full_scan = from.is_none();
        if is_full_scan {
            (self.scanned_at, self.scan) = (ended, ended - began);
        }
        // A full scan that returned as many events as it asked for stopped there. Otherwise nothing older is left.
        self.reached = if is_full_scan && is_full { youngest } else { self.reached.max(youngest) };
        // What is left out stays where it is, and would be passed by every scan. So the next ones begin behind it as well.
        if is_full_scan && !is_full {
            self.reached = self.reached.max(left_out_at);
        }
        self.was_full = is_full || left_out_at.is_some();
        self.look_again_at = (!is_full_scan && !is_full).then(|| self.next_full_scan());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn created(second: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(second, 0)
    }

    fn full(from: Option<DateTime<Utc>>, (began, ended): (Instant, Instant), second: i64) -> Scan {
        Scan { from, began, ended, youngest: created(second), is_full: true, left_out_at: None }
    }

    #[test]
    fn a_claim_begins_where_the_last_one_ended_until_it_is_time_for_a_full_scan() {
        let start = Instant::now();
        let mut cursor = ClaimCursor::new(start);
        assert_eq!(cursor.begin(start), None);

        cursor.note(full(None, (start, start + MS), 7));
        assert_eq!(cursor.begin(start + 20 * MS), created(7));
        cursor.note(full(created(7), (start + 2 * MS, start + 3 * MS), 9));
        assert_eq!(cursor.begin(start + 20 * MS), created(9));
        assert_eq!(cursor.begin(start + 21 * MS), None);
    }

    #[test]
    fn what_is_retried_does_not_lower_it() {
        let start = Instant::now();
        let mut cursor = ClaimCursor::new(start);
        cursor.note(full(None, (start, start + MS), 7));
        cursor.note(full(created(7), (start + MS, start + MS), 3));
        assert_eq!(cursor.begin(start + 2 * MS), created(7));
    }

    #[test]
    fn after_a_claim_that_came_back_short_half_of_the_time_is_for_full_scans() {
        let start = Instant::now();
        let mut cursor = ClaimCursor::new(start);
        cursor.note(Scan { is_full: false, ..full(None, (start, start + 50 * MS), 7) });
        assert_eq!(cursor.begin(start + 99 * MS), created(7));
        assert_eq!(cursor.begin(start + 100 * MS), None);
    }

    #[test]
    fn what_is_left_out_is_passed_by_few_scans() {
        let start = Instant::now();
        let mut cursor = ClaimCursor::new(start);
        let left_out_at = created(9);
        let scan =
            Scan { is_full: false, youngest: None, left_out_at, ..full(None, (start, start + 10 * MS), 0) };
        cursor.note(scan);
        assert_eq!(cursor.begin(start + 209 * MS), created(9));
        cursor.note(Scan { from: created(9), ..scan });
        assert_eq!(cursor.look_again_at(), Some(start + 210 * MS), "what is older comes a little later");
        assert_eq!(cursor.begin(start + 210 * MS), None);
    }

    #[test]
    fn a_full_scan_is_never_put_off_for_long() {
        let start = Instant::now();
        let mut cursor = ClaimCursor::new(start);
        cursor.note(full(None, (start, start + 5000 * MS), 7));
        assert_eq!(cursor.next_full_scan(), start + 5000 * MS + WAIT_MAX);
    }

    #[test]
    fn a_claim_that_came_back_short_above_the_cursor_is_followed_by_a_full_scan() {
        let start = Instant::now();
        let mut cursor = ClaimCursor::new(start);
        cursor.note(full(None, (start, start + 30 * MS), 7));
        assert_eq!(cursor.look_again_at(), None);
        cursor.note(Scan { is_full: false, ..full(created(7), (start + 31 * MS, start + 32 * MS), 8) });
        let again = cursor.look_again_at().unwrap();
        assert_eq!(again, start + 60 * MS);
        assert_eq!(cursor.begin(again), None);
        assert_eq!(cursor.look_again_at(), None);
    }
}
