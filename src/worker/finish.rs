//! Settles one attempt that has no open transaction. The statement is fenced, and retried while the database is away.
//! It says so when it is unknown whether the event was settled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backoff::{ExponentialBuilder, Retryable};
use sqlx::PgConnection;

use crate::database::{self, Connections};
use crate::outbox::outcome::Verdict;
use crate::outbox::settle::{self, Finished, is_ours, was_finished};
use crate::outbox::{Lease, Outcome};

/// What is known after settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    /// The event is settled as intended.
    Made {
        /// Successors may be claimed.
        unblocked: bool,
    },
    /// The event was not this attempt's any more: nothing was written.
    LeaseLost,
    /// The database did not answer. If nothing was written, the lease runs out, and the event is claimed again.
    Unknown,
}

impl Settlement {
    /// The outcome of an attempt whose intended outcome is `intended`.
    pub(super) fn outcome(self, intended: Outcome) -> Outcome {
        match self {
            Self::Made { .. } => intended,
            Self::LeaseLost => Outcome::LeaseLost,
            Self::Unknown => Outcome::Unknown,
        }
    }

    /// Has it made another event claimable?
    pub(super) fn has_unblocked(self) -> bool {
        matches!(self, Self::Made { unblocked: true })
    }
}

/// How long a worker retries to settle an attempt while the database is away, or while a person has locked the event in an open
/// transaction. An attempt that is not settled runs again, so this is longer than most outages and most such transactions.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The row cannot be written at this moment.
#[derive(Debug, thiserror::Error)]
enum Busy {
    #[error("another session has locked the event")]
    Locked,
    #[error("{}", database::told(.0))]
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

/// Finishes one event whose handler took no transaction.
pub(super) async fn finish(connections: &Connections, finished: Finished) -> Settlement {
    let lease = finished.lease;
    let attempts = [finished];
    let settled = (|| async {
        let completed =
            connections.run(async |connection| settle::finish(connection, &attempts, None).await).await?;
        if !completed.finished.is_empty() {
            return Ok(Settlement::Made { unblocked: completed.unblocked > 0 });
        }
        // Another session has locked the row, an earlier try finished it and its answer was lost, or the lease is lost.
        if connections.run(async |connection| is_ours(connection, lease).await).await? {
            Err(Busy::Locked)
        } else if connections.run(async |connection| was_finished(connection, lease).await).await? {
            Ok(Settlement::Made { unblocked: true })
        } else {
            Ok(Settlement::LeaseLost)
        }
    })
    .retry(patient(PATIENCE))
    .when(Busy::is_passing)
    .await;
    settled.unwrap_or_else(unknown)
}

/// Ends an attempt that did not succeed.
pub(super) async fn fail(connections: &Connections, lease: Lease, verdict: &Verdict) -> Settlement {
    let is_answer_lost = AtomicBool::new(false);
    let settled = (|| async {
        if connections.run(async |connection| settle::fail(connection, lease, verdict).await).await? {
            // A successor may be claimable now; a claim that finds nothing costs little.
            return Ok(Settlement::Made { unblocked: matches!(verdict, Verdict::Dead { .. }) });
        }
        if connections.run(async |connection| is_ours(connection, lease).await).await? {
            Err(Busy::Locked)
        } else if is_answer_lost.load(Ordering::Relaxed) {
            // An earlier try of ours ended the lease, or another session did: the row does not say which.
            Ok(Settlement::Unknown)
        } else {
            Ok(Settlement::LeaseLost)
        }
    })
    .retry(patient(PATIENCE))
    .when(Busy::is_passing)
    .notify(|busy, _| {
        if matches!(busy, Busy::Database(error) if database::is_parting(error)) {
            is_answer_lost.store(true, Ordering::Relaxed);
        }
    })
    .await;
    settled.unwrap_or_else(unknown)
}

/// Hands back an event whose lease may have run out, unless it was claimed again since. The attempt does not count.
pub(super) async fn hand_back(connections: &Connections, lease: Lease) {
    let handed_back = (|| async {
        let hand_back = async |connection: &mut PgConnection| {
            let is_back = settle::hand_back(&mut *connection, &[lease]).await? > 0;
            Ok(is_back || !is_ours(connection, lease).await?)
        };
        if connections.run(hand_back).await? { Ok(()) } else { Err(Busy::Locked) }
    })
    .retry(patient(PATIENCE))
    .when(Busy::is_passing)
    .await;
    if let Err(error) = handed_back {
        tracing::debug!(
            outbox.id = lease.id,
            %error,
            "could not hand an event back; it is claimed when its lease has run out"
        );
    }
}

fn unknown(error: Busy) -> Settlement {
    tracing::warn!(
        %error,
        "the attempt could not be settled; the lease runs out and the event is claimed again"
    );
    Settlement::Unknown
}

/// Retries with waits from 5 ms to 1 s, for `patience` in all.
pub(super) fn patient(patience: Duration) -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
        .with_total_delay(Some(patience))
}
