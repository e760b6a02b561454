//! The lanes: how many commits are under way at a time, and when the next one begins.
//!
//! While no commit is under way, the next one begins with the first event, so that a lone event waits for nothing. While a commit
//! is under way, the next one begins once the queue holds half of all events on their way: one half is flushed while the other
//! half queues up. To begin earlier would spend a flush of the disk on the few requests that arrive right after an answer. A second
//! commit begins only where Postgres mostly waits, for its disk or the network, while it commits: where Postgres mostly works,
//! a second commit would take the processor from the first. A commit that stands still, because another session holds a lock,
//! keeps the others waiting for a moment only.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::Limits;

/// A commit that takes longer counts as standing still. The usual ones take milliseconds.
const STANDSTILL: Duration = Duration::from_millis(100);

/// Wakes the lanes when enough events wait for another commit.
#[derive(Debug)]
pub(super) struct BatchThreshold {
    /// How many events are enough now.
    events: AtomicUsize,
    reached: Notify,
}

impl BatchThreshold {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { events: usize::MAX.into(), reached: Notify::new() })
    }

    /// Notes that `waiting` events are in the queue now.
    pub(super) fn note_waiting(&self, waiting: usize) {
        if waiting >= self.events.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }
}

/// The commits under way. Dropping them, when the drain is cut, ends them.
pub(super) struct Lanes {
    commits: JoinSet<Option<Took>>,
    begun: HashMap<task::Id, Begun>,
    lanes_max: usize,
    batch_events_max: usize,
    batch_threshold: Arc<BatchThreshold>,
    /// The most events that were committing or waiting at one time recently.
    peak_in_flight: usize,
    times: Times,
}

/// A commit under way.
struct Begun {
    events: usize,
    at: Instant,
}

impl Lanes {
    pub(super) fn new(limits: &Limits, batch_threshold: Arc<BatchThreshold>) -> Self {
        Self {
            commits: JoinSet::new(),
            begun: HashMap::new(),
            lanes_max: limits.lanes_max,
            batch_events_max: limits.batch_events_max,
            batch_threshold,
            peak_in_flight: 0,
            times: Times::default(),
        }
    }

    /// Starts a commit of `events` events.
    pub(super) fn start(
        &mut self,
        events: usize,
        commit: impl Future<Output = Option<Took>> + Send + 'static,
    ) {
        let id = self.commits.spawn(commit).id();
        self.begun.insert(id, Begun { events, at: Instant::now() });
    }

    /// Waits until another commit may begin. Returns false once no commit is under way.
    pub(super) async fn have_room<T>(&mut self, queue: &mpsc::Receiver<T>) -> bool {
        while let Some(last) = self.begun.values().map(|begun| begun.at).max() {
            let under_way: usize = self.begun.values().map(|begun| begun.events).sum();
            self.peak_in_flight = self.peak_in_flight.max(under_way + queue.len());
            let threshold = self.threshold(last.elapsed() >= STANDSTILL);
            // The threshold is stored before the queue is read, so that an event which arrives in between wakes us.
            self.batch_threshold.events.store(threshold, Ordering::SeqCst);
            if queue.len() >= threshold {
                return true;
            }
            tokio::select! {
                () = self.batch_threshold.reached.notified() => {}
                Some(ended) = self.commits.join_next_with_id() => self.note(ended),
                () = sleep_until(last + STANDSTILL), if last.elapsed() < STANDSTILL => {}
            }
        }
        self.batch_threshold.events.store(usize::MAX, Ordering::SeqCst);
        false
    }

    /// How many events must wait in the queue before another commit begins.
    fn threshold(&self, all_stand_still: bool) -> usize {
        let (lanes, threshold) = if all_stand_still {
            (self.lanes_max, 1)
        } else {
            (self.times.lanes(self.lanes_max), self.peak_in_flight.div_ceil(2).min(self.batch_events_max))
        };
        if self.begun.len() < lanes { threshold } else { usize::MAX }
    }

    fn note(&mut self, ended: Result<(task::Id, Option<Took>), JoinError>) {
        let (id, took) = ended.unwrap_or_else(|panicked| (panicked.id(), None));
        self.begun.remove(&id);
        // A peak is forgotten after about thirty commits.
        self.peak_in_flight -= self.peak_in_flight.div_ceil(32);
        if let Some(took) = took {
            self.times.note(took);
        }
    }
}

/// How a store spent the time of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// Working on the events.
    pub worked: Duration,
    /// Waiting for its disk, and for the network.
    pub waited: Duration,
}

/// How long recent commits worked and waited.
#[derive(Debug, Default)]
struct Times {
    /// The average.
    worked: Duration,
    /// The recent minimum: a busy processor adds the rest.
    waited: Duration,
}

impl Times {
    /// The last commit makes up an eighth of the average; a minimum is forgotten after about fifty commits.
    fn note(&mut self, Took { worked, waited }: Took) {
        self.worked = if self.worked.is_zero() { worked } else { (self.worked * 7 + worked) / 8 };
        let least = if self.waited.is_zero() { waited } else { self.waited + self.waited / 32 };
        self.waited = waited.min(least);
    }

    /// How many commits at a time keep one processor of the database busy: one, and one more for each time that the
    /// work fits whole into the waiting. A half does not count: on a quick disk, the flush and the network take half as
    /// long as the work, and a second commit would halve the batches and gain little.
    fn lanes(&self, most: usize) -> usize {
        let fits = self.waited.as_secs_f64() / self.worked.as_secs_f64().max(1e-6);
        // The cast saturates where the work takes next to no time.
        (1 + fits as usize).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn after(worked: Duration, waited: Duration) -> Times {
        let mut times = Times::default();
        for _ in 0..100 {
            times.note(Took { worked, waited });
        }
        times
    }

    #[test]
    fn where_the_database_works_there_is_one_lane_and_where_it_waits_there_are_more() {
        assert_eq!(Times::default().lanes(4), 1);
        assert_eq!(after(MS, MS / 5).lanes(4), 1);
        assert_eq!(after(MS, MS * 3 / 4).lanes(4), 1);
        assert_eq!(after(MS, MS).lanes(4), 2);
        assert_eq!(after(MS, 2 * MS).lanes(4), 3);
        assert_eq!(after(MS, 20 * MS).lanes(4), 4);
        assert_eq!(after(Duration::ZERO, 20 * MS).lanes(4), 4);
    }

    #[test]
    fn what_a_busy_processor_adds_to_the_waiting_is_not_counted() {
        let mut times = after(MS, MS / 5);
        for _ in 0..10 {
            times.note(Took { worked: MS, waited: 5 * MS });
        }
        assert_eq!(times.lanes(4), 1);
        // A disk that has become slower is another matter.
        for _ in 0..100 {
            times.note(Took { worked: MS, waited: 5 * MS });
        }
        assert_eq!(times.lanes(4), 4);
    }
}
