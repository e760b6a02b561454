//! The pace: how much was done per second, from looks that follow each other.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use super::snapshot::{Batch, Snapshot};

/// What a rate is taken over, unless the looks are further apart. Results are committed in parts and statistics lag, so
/// a shorter time would show their rhythm and not the pace.
const WINDOW: TimeDelta = TimeDelta::seconds(10);

/// The looks that rates are taken over.
#[derive(Debug, Default)]
pub(super) struct Pace {
    looks: VecDeque<Look>,
}

#[derive(Debug)]
struct Look {
    at: DateTime<Utc>,
    finished_total: i64,
    results_stored: BTreeMap<String, i64>,
}

impl Pace {
    /// Fills in the rates of a snapshot, as far as earlier looks allow, and remembers it.
    pub(super) fn measure(&mut self, snapshot: &mut Snapshot) {
        while self.looks.get(1).is_some_and(|next| snapshot.looked_at - next.at >= WINDOW) {
            self.looks.pop_front();
        }
        if let Some(first) = self.looks.front() {
            snapshot.finished_per_second =
                per_second(snapshot.finished_total - first.finished_total, snapshot.looked_at - first.at);
        }
        for batch in snapshot.batches.iter_mut().filter(|batch| batch.progress == "downloading") {
            let first =
                self.looks.iter().find_map(|look| Some((look.at, *look.results_stored.get(&batch.id)?)));
            let Some((at, results_stored)) = first else { continue };
            batch.results_per_second =
                per_second(batch.results_stored - results_stored, snapshot.looked_at - at);
            batch.seconds_left = seconds_left(batch);
        }
        let results_stored = snapshot.batches.iter().map(|batch| (batch.id.clone(), batch.results_stored));
        self.looks.push_back(Look {
            at: snapshot.looked_at,
            finished_total: snapshot.finished_total,
            results_stored: results_stored.collect(),
        });
    }
}

/// None where nothing can be said: no time has passed, or what was counted began anew.
fn per_second(done: i64, within: TimeDelta) -> Option<f64> {
    let seconds = within.as_seconds_f64();
    (done >= 0 && seconds > 0.0).then(|| done as f64 / seconds)
}

fn seconds_left(batch: &Batch) -> Option<f64> {
    let pace = batch.results_per_second.filter(|pace| *pace > 0.0)?;
    Some((batch.requests - batch.results_stored).max(0) as f64 / pace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(second: i64, finished_total: i64, results_stored: i64) -> Snapshot {
        let batch = Batch {
            id: "msgbatch_1".to_owned(),
            progress: "downloading".to_owned(),
            requests: 100,
            results_stored,
            bytes_stored: 0,
            results_deadline: None,
            results_vanish_in_seconds: None,
            results_per_second: None,
            seconds_left: None,
        };
        let looked_at = DateTime::UNIX_EPOCH + TimeDelta::seconds(second);
        Snapshot { finished_total, batches: vec![batch], ..Snapshot::empty(looked_at) }
    }

    fn measured(pace: &mut Pace, mut snapshot: Snapshot) -> (Option<f64>, Option<f64>, Option<f64>) {
        pace.measure(&mut snapshot);
        let batch = &snapshot.batches[0];
        (snapshot.finished_per_second, batch.results_per_second, batch.seconds_left)
    }

    #[test]
    fn one_look_has_no_pace_and_the_next_one_has() {
        let mut pace = Pace::default();

        assert_eq!(measured(&mut pace, snapshot(0, 1_000, 10)), (None, None, None));
        assert_eq!(measured(&mut pace, snapshot(2, 1_200, 30)), (Some(100.0), Some(10.0), Some(7.0)));
    }

    #[test]
    fn the_pace_is_that_of_the_last_ten_seconds() {
        let mut pace = Pace::default();
        for second in [0, 2, 4, 6, 8, 10] {
            measured(&mut pace, snapshot(second, 0, 0));
        }

        assert_eq!(measured(&mut pace, snapshot(12, 50, 50)), (Some(5.0), Some(5.0), Some(10.0)));
    }

    #[test]
    fn looks_far_apart_are_compared_with_the_last_one() {
        let mut pace = Pace::default();
        for second in [0, 60, 120] {
            measured(&mut pace, snapshot(second, second, 0));
        }

        assert_eq!(measured(&mut pace, snapshot(180, 720, 60)), (Some(10.0), Some(1.0), Some(40.0)));
    }

    #[test]
    fn nothing_is_said_where_counting_began_anew_or_nothing_moves() {
        let mut pace = Pace::default();
        measured(&mut pace, snapshot(0, 1_000, 10));

        assert_eq!(measured(&mut pace, snapshot(2, 3, 10)), (None, Some(0.0), None));
    }
}
