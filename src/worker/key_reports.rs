//! Reports which keys a worker calls the API with, and when each was used last, to the database and to the metrics.
//!
//! It reports a few times a minute, and at once when the accounts change, so that a person who rotates a key sees it. A report that fails
//! is tried again with the next one; at the stop it says that this worker has no keys any more.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::database::Connections;
use crate::key_use::Uses;
use crate::telemetry::KeyGauges;
use crate::{api, database, outbox};

/// How often it reports.
const EVERY: Duration = Duration::from_secs(15);

/// How long a report may take, also the last one.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Reports until `stop`, and once more then. The worker is called `name`; a few random characters are added.
pub(super) async fn run(
    connections: Connections,
    name: String,
    accounts: api::Accounts,
    stop: CancellationToken,
) {
    let mut reporter = Reporter {
        connections,
        process: format!("{name}-{:08x}", rand::random::<u32>()),
        gauges: KeyGauges::default(),
    };
    let uses = accounts.key_uses();
    let mut changes = accounts.changes();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = changes.changed() => {}
            () = stop.cancelled() => break,
        }
        reporter.report(uses).await;
    }
    uses.hold(&BTreeSet::new());
    reporter.report(uses).await;
}

struct Reporter {
    connections: Connections,
    process: String,
    gauges: KeyGauges,
}

impl Reporter {
    async fn report(&mut self, uses: &Uses) {
        let taken = uses.take();
        self.gauges.set(&taken);
        let note = async |connection: &mut PgConnection| {
            outbox::note_key_use(connection, &self.process, "restante-worker", &taken).await
        };
        let problem = match timeout(REPORT_TIMEOUT, self.connections.run(note)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => database::told(&error),
            Err(elapsed) => elapsed.to_string(),
        };
        tracing::debug!(error = problem, "cannot report the uses of keys; they are reported later");
        uses.give_back(taken);
    }
}
