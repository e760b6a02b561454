//! Tells the database of the journal, whenever the database is there: how much waits, and that the ingest is alive.
//!
//! An ingest whose journal is empty tells that too. So an operator learns of a journal that nobody replays, because its ingest has
//! fallen silent. A report that fails is no loss: the next one says all.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Store;
use super::journal::Journal;
use crate::database;

/// How long a report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Reports every so often until `stop`, and once more then. `machine` is where the ingest runs, for people.
pub(super) async fn report_until(
    journal: Journal,
    machine: String,
    stop: CancellationToken,
    every: Duration,
    store: impl Store,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => {}
        }
        let report = journal.report(&machine, stop.is_cancelled());
        let problem = match timeout(REPORT_TIMEOUT, store.note_journal(&report)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => database::told(&error),
            Err(elapsed) => elapsed.to_string(),
        };
        tracing::debug!(error = problem, "cannot tell the database of the journal; it is told later");
    }
}
