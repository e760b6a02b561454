//! Commits what a handler wrote together with the completion of its event: both or neither.

use std::time::Duration;

use anyhow::anyhow;
use backoff::BackoffBuilder;
use tokio::time::{Instant, sleep};

use crate::database::{self, Connections};
use crate::handler::{AttemptTx, Error};
use crate::outbox::Lease;
use crate::outbox::settle::{self, Finished, is_ours, was_finished};
use crate::worker::finish::{Settlement, patient};
use crate::worker::successors::Successors;

/// How long a handler's commit is retried while another session has locked its event. Then it is rolled back, and the
/// event runs again. Short, because the attempt holds a connection that others wait for. A renewal of the lease takes
/// less; a person may take an hour.
const COMMIT_PATIENCE: Duration = Duration::from_millis(250);

/// How long an event waits after its commit was given up because another session had locked it.
const LOCKED_WAIT: Duration = Duration::from_millis(100);

/// The result of the commit.
#[derive(Debug)]
pub(super) enum Committed {
    /// The event is settled, or it is unknown whether it is.
    Settled(Settlement),
    /// Nothing was committed, for this reason, which decides what happens to the event.
    Not(Error),
}

/// Commits, and starts the successor that was leased with the completion. After an error it finds out whether the
/// commit arrived.
pub(super) async fn commit(
    tx: AttemptTx,
    finished: &Finished,
    connections: &Connections,
    successors: &Successors,
) -> Committed {
    match try_to_commit(tx, finished, successors).await {
        Ok(committed) => committed,
        Err(error) => {
            successors.note_lost_answer();
            find_out(connections, finished.lease, error).await
        }
    }
}

async fn try_to_commit(
    mut tx: AttemptTx,
    finished: &Finished,
    successors: &Successors,
) -> sqlx::Result<Committed> {
    let mut waits = patient(COMMIT_PATIENCE).build();
    loop {
        let at = Instant::now();
        let completed = settle::finish(&mut *tx, std::slice::from_ref(finished), successors.next()).await?;
        if !completed.finished.is_empty() {
            tx.commit().await?.keep();
            successors.start(completed.next, at);
            return Ok(Committed::Settled(Settlement::Made { unblocked: completed.unblocked > 0 }));
        }
        if !is_ours(&mut *tx, finished.lease).await? {
            tx.roll_back().await?.keep();
            return Ok(Committed::Not(Error::LeaseLost));
        }
        // Another session has locked the event: the lease renewer, or a person who changes it.
        let Some(wait) = waits.next() else {
            tx.roll_back().await?.keep();
            let reason = anyhow!("another session has locked the event; not committed");
            return Ok(Committed::Not(Error::Trouble(LOCKED_WAIT, reason)));
        };
        sleep(wait).await;
    }
}

/// Finds out whether a commit that returned an error was carried out: it may have reached Postgres although its answer
/// was lost. In both cases nothing is half done.
async fn find_out(connections: &Connections, lease: Lease, error: sqlx::Error) -> Committed {
    let was_finished = connections.run(async |connection| was_finished(connection, lease).await).await;
    let is_ours = connections.run(async |connection| is_ours(connection, lease).await).await;
    match (was_finished, is_ours) {
        (Ok(true), _) => Committed::Settled(Settlement::Made { unblocked: true }),
        // The database refused what the handler wrote, as if the statement itself had failed.
        (Ok(false), Ok(true)) => Committed::Not(Error::from(error).context("not committed")),
        (Ok(false), Ok(false)) => Committed::Not(Error::LeaseLost),
        _ => {
            let error = database::told(&error);
            tracing::warn!(
                error,
                "the database did not answer a commit; the lease runs out and the event is claimed again"
            );
            Committed::Settled(Settlement::Unknown)
        }
    }
}
