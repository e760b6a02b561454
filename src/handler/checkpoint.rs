//! Transactions that commit before their attempt ends, and stay committed if it fails. They need the lease to commit.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::PgConnection;

use super::deadline::{Deadline, Hold};
use super::error::AGAIN_SOON;
use super::{Error, Result};
use crate::database::{Loan, OwnedTransaction, answered};
use crate::outbox;
use crate::outbox::Lease;
use crate::outbox::lease::Held;

/// What a commit of an attempt depends on.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    /// The lease of the attempt; without it nothing may be committed.
    pub(crate) lease: Lease,
    /// How long a lease lasts.
    pub(crate) lease_time: Duration,
    /// How long the attempt may take.
    pub(crate) deadline: Deadline,
}

/// A transaction whose commit stays even if its attempt fails. Dropped without a commit, it rolls back.
#[derive(Debug)]
pub struct Checkpoint {
    tx: OwnedTransaction<Loan>,
    fence: Fence,
    _hold: Hold,
}

impl Checkpoint {
    /// Commits, and renews the lease with the same commit: while the checkpoint is open, the worker cannot renew it.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], and nothing was committed. [`Error::Trouble`] if the database is away: then the commit may
    /// have been carried out although its answer was lost.
    pub async fn commit(mut self) -> Result {
        let Fence { lease, lease_time, .. } = self.fence;
        let ours = outbox::lease::renew(&mut *self.tx, &[lease], lease_time).await?;
        if ours.renewed.is_empty() {
            roll_back(self.tx).await;
            return Err(Error::LeaseLost);
        }
        self.tx.commit().await?.give_back();
        Ok(())
    }
}

impl Deref for Checkpoint {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.tx
    }
}

impl DerefMut for Checkpoint {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.tx
    }
}

/// A checkpoint that locks its event only at the commit, so that several can be open at once.
#[derive(Debug)]
pub(crate) struct Draft {
    tx: OwnedTransaction<Loan>,
    fence: Fence,
}

impl Draft {
    pub(super) fn new(tx: OwnedTransaction<Loan>, fence: Fence) -> Self {
        Self { tx, fence }
    }

    /// Locks the event until the transaction ends.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Trouble`] if the database is away or another session has locked the event.
    pub(super) async fn held(mut self) -> std::result::Result<Checkpoint, Error> {
        let error = match outbox::lease::hold(&mut self.tx, self.fence.lease).await? {
            Held::Yes => {
                let hold = self.fence.deadline.hold();
                return Ok(Checkpoint { tx: self.tx, fence: self.fence, _hold: hold });
            }
            Held::Lost => Error::LeaseLost,
            Held::Locked => {
                Error::Trouble(AGAIN_SOON, anyhow::anyhow!("another session has locked the event"))
            }
        };
        roll_back(self.tx).await;
        Err(error)
    }

    /// Commits if the attempt still has its lease. The event stays locked from that check to the commit.
    ///
    /// # Errors
    /// As for [`Context::checkpoint`](super::Context::checkpoint) and [`Checkpoint::commit`].
    pub(crate) async fn commit(self) -> Result {
        self.held().await?.commit().await
    }
}

impl Deref for Draft {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.tx
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.tx
    }
}

/// Every statement on the connection has been answered, so it can be used again.
async fn roll_back(tx: OwnedTransaction<Loan>) {
    if let Ok(loan) = answered(tx.roll_back()).await {
        loan.give_back();
    }
}
