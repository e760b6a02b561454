//! Reports which keys ingest has, and when each was used last, to the database and to the metrics.
//!
//! It reports a few times a minute, and at once when the keys change, so that a person who rotates one sees it. A report that fails is
//! tried again with the next one; at the stop it says that this ingest has no keys any more.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::senders::{Senders, keys};
use super::{Store, reports};
use crate::key_use::Uses;
use crate::telemetry::KeyGauges;

/// Reports until `stop`, and then what is left.
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
    while !report(&uses, &mut gauges, &store).await {
        sleep(reports::LAST_AGAIN_AFTER).await;
    }
}

/// Returns false if the database did not take the report.
async fn report(uses: &Uses, gauges: &mut KeyGauges, store: &impl Store) -> bool {
    let taken = uses.take();
    gauges.set(&taken);
    let is_taken = reports::arrives("keys", store.note_key_use(&taken)).await;
    if !is_taken {
        uses.give_back(taken);
    }
    is_taken
}
