//! Transactions of an attempt that commit before it ends, whatever becomes of it: under its lease all the same.

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

/// What a commit of an attempt is tied to.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    /// The right of the attempt to commit anything.
    pub(crate) lease: Lease,
    /// How long a lease lasts.
    pub(crate) lease_time: Duration,
    /// How long the attempt may take.
    pub(crate) deadline: Deadline,
}

/// A transaction that commits whatever becomes of its attempt. Dropped, it rolls back.
#[derive(Debug)]
pub struct Checkpoint {
    tx: OwnedTransaction<Loan>,
    fence: Fence,
    _hold: Hold,
}

impl Checkpoint {
    /// Commits, and begins the lease anew with that: while this was open the lease could not be renewed, and may have run out.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Trouble`] where the database is away; then nothing was committed, as far as we know.
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

/// A checkpoint that does not hold its event yet, so that several can be under way at once. It commits as a checkpoint does.
#[derive(Debug)]
pub(crate) struct Draft {
    tx: OwnedTransaction<Loan>,
    fence: Fence,
}

impl Draft {
    pub(super) fn new(tx: OwnedTransaction<Loan>, fence: Fence) -> Self {
        Self { tx, fence }
    }

    /// Holds the event until the transaction ends.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Trouble`] where the database is away or somebody has locked the event.
    pub(super) async fn held(mut self) -> std::result::Result<Checkpoint, Error> {
        let error = match outbox::lease::hold(&mut self.tx, self.fence.lease).await? {
            Held::Yes => {
                let hold = self.fence.deadline.hold();
                return Ok(Checkpoint { tx: self.tx, fence: self.fence, _hold: hold });
            }
            Held::Lost => Error::LeaseLost,
            Held::Locked => Error::Trouble(AGAIN_SOON, anyhow::anyhow!("somebody else has locked the event")),
        };
        roll_back(self.tx).await;
        Err(error)
    }

    /// Commits, if the lease is ours: the event is locked from the look at it to the commit.
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

/// Everything on it was answered so far, so its connection can be used again.
async fn roll_back(tx: OwnedTransaction<Loan>) {
    if let Ok(loan) = answered(tx.roll_back()).await {
        loan.give_back();
    }
}
