//! Tells the database of the journal, whenever the database is there: how much waits, and that the ingest is alive.
//!
//! An ingest whose journal is empty tells that too. So an operator learns of a journal that nobody replays, because its ingest has
//! fallen silent. A report that fails is no loss: the next one says all.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use super::{Store, reports};
use crate::outbox::JournalReport;

/// Reports every so often until `stop`, and then that this ingest has ended. `machine` is where it runs, for people.
pub(super) async fn report_until(
    journal: Journal,
    machine: String,
    stop: CancellationToken,
    every: Duration,
    store: impl Store,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => report(&journal.report(&machine, false), &store).await,
            () = stop.cancelled() => break,
        };
    }
    while !report(&journal.report(&machine, true), &store).await {
        sleep(reports::LAST_AGAIN_AFTER).await;
    }
}

async fn report(report: &JournalReport, store: &impl Store) -> bool {
    reports::arrives("journal", store.note_journal(report)).await
}
