//! Reports which keys ingest has, and when each was used last, to the database and to the metrics.
//!
//! It reports a few times a minute, and at once when the keys change, so that a person who rotates one sees it. A report that fails is
//! tried again with the next one; at the stop it says that this ingest has no keys any more.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Store;
use super::senders::{Senders, keys};
use crate::database;
use crate::key_use::Uses;
use crate::telemetry::KeyGauges;

/// How long a report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Reports until `stop`, and once more then.
pub(super) async fn run(
    mut senders: Senders,
    uses: Uses,
    every: Duration,
    store: impl Store,
    stop: CancellationToken,
) {
    let mut gauges = KeyGauges::default();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = senders.changed() => {}
            () = stop.cancelled() => break,
        }
        uses.hold(&keys(&senders.now()));
        report(&uses, &mut gauges, &store).await;
    }
    uses.hold(&BTreeSet::new());
    report(&uses, &mut gauges, &store).await;
}

async fn report(uses: &Uses, gauges: &mut KeyGauges, store: &impl Store) {
    let taken = uses.take();
    gauges.set(&taken);
    let problem = match timeout(REPORT_TIMEOUT, store.note_key_use(&taken)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => database::told(&error),
        Err(elapsed) => elapsed.to_string(),
    };
    tracing::debug!(error = problem, "cannot report the uses of keys; they are reported later");
    uses.give_back(taken);
}
