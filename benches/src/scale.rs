//! How long and how large the measurements are.

use std::time::Duration;

/// Sizes of every measurement.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// The name of this scale in the report.
    pub name: &'static str,
    /// How often product and peers take turns.
    pub rounds: usize,
    /// How long one point of ingest is measured, after a warm-up of a quarter of it.
    pub ingest: Duration,
    /// How many events wait in one point of a drain. Slow peers get a share of them, which their row says.
    pub jobs: usize,
    /// How many events come at a steady pace to measure how soon they are picked up.
    pub picked_up: usize,
    /// How many lines the results of a batch have.
    pub result_lines: usize,
    /// The lines of the large batch that shows that memory does not grow, if it is measured.
    pub many_result_lines: Option<usize>,
    /// How many requests are submitted as one batch: as many as the API takes at most.
    pub submitted: usize,
    /// How many are submitted from a table that was analyzed before, if that is measured.
    pub submitted_analyzed: Option<usize>,
    /// How many messages each of the streams that run at once answers, one after the other.
    pub message_rounds: usize,
    /// How many notifications go out in one point.
    pub notified: usize,
    /// How many messages are sent under a limit.
    pub governed: usize,
    /// How many events pass while buffers and WAL are counted.
    pub counted: usize,
    /// How many finished rows the history has.
    pub history: usize,
    /// How many events wait, or are in retry.
    pub backlog: usize,
    /// How many events wait behind one key.
    pub one_key: usize,
    /// How many events pass while a snapshot is held: more than are counted at its start and its end together.
    pub snapshot: usize,
    /// How long the idle programs are measured.
    pub idle: Duration,
}

impl Scale {
    pub(crate) fn new(quick: bool, full: bool) -> Self {
        let usual = Self {
            name: "usual",
            rounds: 2,
            ingest: Duration::from_secs(4),
            jobs: 100_000,
            picked_up: 400,
            result_lines: 100_000,
            many_result_lines: Some(800_000),
            submitted: 100_000,
            submitted_analyzed: Some(20_000),
            message_rounds: 4,
            notified: 20_000,
            governed: 3_000,
            counted: 20_000,
            history: 1_000_000,
            backlog: 1_000_000,
            one_key: 100_000,
            snapshot: 50_000,
            idle: Duration::from_secs(60),
        };
        if quick {
            Self {
                name: "quick",
                rounds: 1,
                ingest: Duration::from_secs(1),
                jobs: 10_000,
                picked_up: 60,
                result_lines: 10_000,
                many_result_lines: None,
                submitted: 20_000,
                submitted_analyzed: None,
                message_rounds: 1,
                notified: 4_000,
                governed: 1_000,
                counted: 5_000,
                history: 20_000,
                backlog: 20_000,
                one_key: 5_000,
                snapshot: 15_000,
                idle: Duration::from_secs(5),
            }
        } else if full {
            Self { name: "full", history: 10_000_000, snapshot: 500_000, ..usual }
        } else {
            usual
        }
    }
}
