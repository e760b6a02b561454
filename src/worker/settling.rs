//! Settling an attempt while the database may be away: fenced, repeated while that is safe, and honest about what it knows.

use std::time::Duration;

use backoff::{BackoffBuilder, ExponentialBuilder, Retryable};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::time::{Instant, sleep};

use crate::outbox::Lease;
use crate::outbox::settle::{self, Finished, Verdict, is_ours, was_finished};
use crate::worker::successors::Successors;
use crate::{database, telemetry};

/// What is known after settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is settled.
    Done {
        /// Successors may be claimed.
        unblocked: bool,
    },
    /// The event was not this attempt's any more: nothing was written.
    LeaseLost,
    /// The database could not be asked. The lease runs out, and the event is claimed again.
    Unknown,
}

impl Settled {
    /// Says what others should know of it. Answers whether something may be claimed now that could not be before.
    pub(super) fn tell(self) -> bool {
        match self {
            Settled::Done { unblocked } => unblocked,
            Settled::LeaseLost => {
                metrics::counter!(telemetry::metric::LOST_LEASES_TOTAL).increment(1);
                tracing::warn!("the lease was lost: nothing of this attempt counts");
                false
            }
            Settled::Unknown => false,
        }
    }
}

/// For how long settling is tried while the database is away. By then the lease has run out, or will be renewed for
/// nothing: the event is claimed again.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long a handler's commit is tried while somebody else has locked its event. Then it is rolled back, and the event
/// runs again.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// The row can not be written at this moment: somebody else has locked it.
#[derive(Debug, thiserror::Error)]
enum Busy {
    #[error("somebody else has locked the event")]
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

/// Commits what the handler wrote together with the completion of its event, or neither. What was leased along with it is
/// started.
///
/// # Errors
/// What the database says; then [`find_out`] has to tell what became of it.
pub(super) async fn commit(
    pool: &PgPool,
    mut written: Transaction<'_, Postgres>,
    finished: &Finished,
    successors: &Successors,
) -> sqlx::Result<Settled> {
    let mut waits = patient().with_total_delay(Some(COMMIT_PATIENCE)).build();
    loop {
        let at = Instant::now();
        let settled =
            settle::finish(&mut *written, std::slice::from_ref(finished), successors.next()).await?;
        if !settled.finished.is_empty() {
            written.commit().await?;
            successors.start(settled.next, at);
            return Ok(Settled::Done { unblocked: settled.unblocked > 0 });
        }
        if !is_ours(&mut *written, finished.lease).await? {
            written.rollback().await?;
            return Ok(Settled::LeaseLost);
        }
        // Locked by somebody: its lease is being renewed, or a person changes it. It is not waited for in the database,
        // because the handler may have locked keys, and who holds a key waits for no row.
        let Some(wait) = waits.next() else {
            written.rollback().await?;
            return Ok(again_soon(pool, finished.lease, &Busy::Locked).await);
        };
        sleep(wait).await;
    }
}

/// Finds out what became of a commit that ended with an error: it may have arrived although its answer did not. Either way
/// nothing is half done.
pub(super) async fn find_out(pool: &PgPool, lease: Lease, error: &sqlx::Error) -> Settled {
    tracing::warn!(%error, "the database did not answer a commit; asking what became of it");
    match (was_finished(pool, lease).await, is_ours(pool, lease).await) {
        (Ok(true), _) => Settled::Done { unblocked: true },
        (Ok(false), Ok(true)) => again_soon(pool, lease, error).await,
        (Ok(false), Ok(false)) => Settled::LeaseLost,
        _ => Settled::Unknown,
    }
}

/// The commit did not happen through no fault of the event: it runs again, and this attempt does not count.
async fn again_soon(pool: &PgPool, lease: Lease, error: &(dyn std::error::Error + Sync)) -> Settled {
    let verdict = Verdict::Snooze { wait: Duration::from_millis(100) };
    fail(pool, lease, &verdict, Some(&format!("not committed: {error}"))).await
}

/// Finishes one event whose handler took no transaction.
pub(super) async fn finish(pool: &PgPool, finished: Finished) -> Settled {
    let lease = finished.lease;
    let attempts = [finished];
    let settled = (|| async {
        let settled = settle::finish(pool, &attempts, None).await?;
        if !settled.finished.is_empty() {
            return Ok(Settled::Done { unblocked: settled.unblocked > 0 });
        }
        // Not finished: locked by somebody for a moment, finished by a try of which nothing was heard, or lost.
        if is_ours(pool, lease).await? {
            Err(Busy::Locked)
        } else if was_finished(pool, lease).await? {
            Ok(Settled::Done { unblocked: true })
        } else {
            Ok(Settled::LeaseLost)
        }
    })
    .retry(patient())
    .when(Busy::is_passing)
    .await;
    settled.unwrap_or_else(unknown)
}

/// Ends an attempt that did not succeed.
pub(super) async fn fail(pool: &PgPool, lease: Lease, verdict: &Verdict, reason: Option<&str>) -> Settled {
    let settled = (|| async { Ok::<_, Busy>(settle::fail(pool, lease, verdict, reason).await?) })
        .retry(patient())
        .when(Busy::is_passing)
        .await;
    match settled {
        // A dead letter may have let a successor go; a claim that finds nothing costs little.
        Ok(true) => Settled::Done { unblocked: matches!(verdict, Verdict::Dead { .. }) },
        Ok(false) => Settled::LeaseLost,
        Err(error) => unknown(error),
    }
}

fn unknown(error: Busy) -> Settled {
    tracing::warn!(%error, "could not settle; the lease runs out and the event is claimed again");
    Settled::Unknown
}

/// From 5 ms to 1 s apart, for as long as it makes sense to wait.
fn patient() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
        .with_total_delay(Some(PATIENCE))
}
