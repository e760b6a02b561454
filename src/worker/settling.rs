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
    /// Says what others should know of it. Returns whether something may be claimed now that could not be before.
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

    /// What it is called in the metrics, where that is not what the attempt itself came to.
    pub(super) fn label(self) -> Option<&'static str> {
        match self {
            Settled::Done { .. } => None,
            Settled::LeaseLost => Some("lease_lost"),
            Settled::Unknown => Some("unknown"),
        }
    }
}

/// For how long settling is tried while the database is away, or while a person has the event locked in a transaction that is
/// open. An attempt that is not settled runs again, so this is longer than most of either.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// For how long a handler's commit is tried while somebody else has locked its event. Meanwhile it has a connection, which
/// others wait for: a lease is renewed in less, and a person may take an hour. Then it is rolled back, and the event runs again.
const COMMIT_PATIENCE: Duration = Duration::from_millis(250);

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

/// What became of the commit of what a handler wrote.
#[derive(Debug)]
pub(super) enum Committed {
    /// It is committed together with the completion of its event.
    Done {
        /// Successors may be claimed.
        unblocked: bool,
    },
    /// Nothing of it is: the event was not this attempt's any more.
    LeaseLost,
    /// Nothing of it is: somebody else has locked the event. It is this attempt's still.
    Locked,
    /// Nothing of it is: the database says why. The event is this attempt's still.
    Refused(sqlx::Error),
    /// The database could not be asked. The lease runs out, and the event is claimed again.
    Unknown,
}

/// Commits what the handler wrote together with the completion of its event, or neither. What was leased along with it is
/// started.
///
/// # Errors
/// What the database says; then [`find_out`] has to tell what became of it.
pub(super) async fn commit(
    mut written: Transaction<'_, Postgres>,
    finished: &Finished,
    successors: &Successors,
) -> sqlx::Result<Committed> {
    let mut waits = patient(COMMIT_PATIENCE).build();
    loop {
        let at = Instant::now();
        let settled =
            settle::finish(&mut *written, std::slice::from_ref(finished), successors.next()).await?;
        if !settled.finished.is_empty() {
            written.commit().await?;
            successors.start(settled.next, at);
            return Ok(Committed::Done { unblocked: settled.unblocked > 0 });
        }
        if !is_ours(&mut *written, finished.lease).await? {
            written.rollback().await?;
            return Ok(Committed::LeaseLost);
        }
        // Locked by somebody: its lease is being renewed, or a person changes it.
        let Some(wait) = waits.next() else {
            written.rollback().await?;
            return Ok(Committed::Locked);
        };
        sleep(wait).await;
    }
}

/// Finds out what became of a commit that ended with an error: it may have arrived although its answer did not. Either way
/// nothing is half done.
pub(super) async fn find_out(pool: &PgPool, lease: Lease, error: sqlx::Error) -> Committed {
    match (was_finished(pool, lease).await, is_ours(pool, lease).await) {
        (Ok(true), _) => Committed::Done { unblocked: true },
        (Ok(false), Ok(true)) => Committed::Refused(error),
        (Ok(false), Ok(false)) => Committed::LeaseLost,
        _ => {
            tracing::warn!(%error, "the database did not answer a commit; the lease runs out and the event is claimed again");
            Committed::Unknown
        }
    }
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
        // Not finished: locked by somebody, finished by a try of which nothing was heard, or lost.
        if is_ours(pool, lease).await? {
            Err(Busy::Locked)
        } else if was_finished(pool, lease).await? {
            Ok(Settled::Done { unblocked: true })
        } else {
            Ok(Settled::LeaseLost)
        }
    })
    .retry(patient(PATIENCE))
    .when(Busy::is_passing)
    .await;
    settled.unwrap_or_else(unknown)
}

/// Ends an attempt that did not succeed.
pub(super) async fn fail(pool: &PgPool, lease: Lease, verdict: &Verdict, reason: &str) -> Settled {
    let settled = (|| async {
        if settle::fail(pool, lease, verdict, reason).await? {
            // A successor may have been let go; a claim that finds nothing costs little.
            return Ok(Settled::Done { unblocked: matches!(verdict, Verdict::Dead { .. }) });
        }
        if is_ours(pool, lease).await? { Err(Busy::Locked) } else { Ok(Settled::LeaseLost) }
    })
    .retry(patient(PATIENCE))
    .when(Busy::is_passing)
    .await;
    settled.unwrap_or_else(unknown)
}

/// Gives an event back whose lease may have run out, if nobody has claimed it since. The attempt does not count.
pub(super) async fn hand_back(pool: &PgPool, lease: Lease) {
    let handed_back = (|| async {
        let is_back = settle::hand_back(pool, &[lease]).await? > 0;
        if !is_back && is_ours(pool, lease).await? { Err(Busy::Locked) } else { Ok(()) }
    })
    .retry(patient(PATIENCE))
    .when(Busy::is_passing)
    .await;
    if let Err(error) = handed_back {
        tracing::debug!(outbox.id = lease.id, %error, "could not hand an event back; it is claimed when its lease has run out");
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
