//! Settling an attempt while the database may be away: fenced, repeated while that is safe, and honest about what it knows.

use std::time::Duration;

use backoff::{ExponentialBuilder, Retryable};
use sqlx::{PgPool, Postgres, Transaction};

use crate::database;
use crate::outbox::settle::{self, Finished, Verdict};
use crate::outbox::{Lease, settle::is_ours};

/// What is known after settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is settled, and so many successors may be claimed.
    Done {
        /// How many.
        unblocked: i32,
    },
    /// The event was not this attempt's any more: nothing was written.
    LeaseLost,
    /// The database could not be asked. The lease runs out, and the event is claimed again.
    Unknown,
}

/// The row can not be written at this moment: somebody else has locked it.
#[derive(Debug, thiserror::Error)]
enum Busy {
    #[error("the row is locked")]
    Locked,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Busy {
    fn is_passing(&self) -> bool {
        match self {
            Busy::Locked => true,
            Busy::Database(error) => database::is_unavailable(error),
        }
    }
}

/// Commits what the handler wrote together with the completion of its event, or neither.
pub(super) async fn finish_with(
    pool: &PgPool,
    mut tx: Transaction<'static, Postgres>,
    finished: Finished,
) -> Settled {
    let lease = finished.lease;
    let settled = async {
        let settled = settle::finish(&mut *tx, &[finished]).await?;
        if settled.finished.is_empty() {
            tx.rollback().await?;
            return Ok(Settled::LeaseLost);
        }
        tx.commit().await?;
        Ok::<_, sqlx::Error>(Settled::Done { unblocked: settled.unblocked })
    };
    match settled.await {
        Ok(settled) => settled,
        Err(error) => {
            // The commit may have arrived although its answer did not. Either way nothing is half done.
            tracing::warn!(%error, "the database did not answer a commit; asking what became of it");
            match is_ours(pool, lease).await {
                Ok(false) => Settled::Done { unblocked: 1 },
                Ok(true) => again_soon(pool, lease, &error).await,
                Err(_) => Settled::Unknown,
            }
        }
    }
}

/// The commit did not happen through no fault of the event: it runs again, and this attempt does not count.
async fn again_soon(pool: &PgPool, lease: Lease, error: &sqlx::Error) -> Settled {
    let verdict = Verdict::Snooze { wait: Duration::from_millis(100) };
    fail(pool, lease, &verdict, Some(&format!("not committed: {error}")), Duration::from_secs(5)).await
}

/// Finishes an event whose handler took no transaction.
pub(super) async fn finish(pool: &PgPool, finished: Finished, patience: Duration) -> Settled {
    let lease = finished.lease;
    let attempts = [finished];
    let settled = (|| async {
        let settled = settle::finish(pool, &attempts).await?;
        if !settled.finished.is_empty() {
            return Ok(Settled::Done { unblocked: settled.unblocked });
        }
        // Not finished: lost, or locked by somebody for a moment.
        if is_ours(pool, lease).await? { Err(Busy::Locked) } else { Ok(Settled::LeaseLost) }
    })
    .retry(patient(patience))
    .when(Busy::is_passing)
    .await;
    settled.unwrap_or_else(unknown)
}

/// Ends an attempt that did not succeed.
pub(super) async fn fail(
    pool: &PgPool,
    lease: Lease,
    verdict: &Verdict,
    reason: Option<&str>,
    patience: Duration,
) -> Settled {
    let settled = (|| async { Ok::<_, Busy>(settle::fail(pool, lease, verdict, reason).await?) })
        .retry(patient(patience))
        .when(Busy::is_passing)
        .await;
    match settled {
        // A dead letter may have let a successor go; a claim that finds nothing costs little.
        Ok(true) => Settled::Done { unblocked: i32::from(matches!(verdict, Verdict::Dead { .. })) },
        Ok(false) => Settled::LeaseLost,
        Err(error) => unknown(error),
    }
}

fn unknown(error: Busy) -> Settled {
    tracing::warn!(%error, "could not settle; the lease runs out and the event is claimed again");
    Settled::Unknown
}

/// From 5 ms to 1 s apart, for as long as it makes sense to wait.
fn patient(patience: Duration) -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
        .with_total_delay(Some(patience))
}
