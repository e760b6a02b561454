//! The statements with which the dispatcher takes events out of the outbox, and puts them back.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use crate::database::{self, Connections};
use crate::outbox::{Lease, claim, settle};
use crate::worker::leased::Leased;
use crate::worker::schedule::{Ask, Claimed, Input, STRAY_AGE};

/// Who claims, and for how long.
pub(super) struct Claimant {
    /// A name that no other worker has, nor this one after a restart.
    pub(super) owner: String,
    pub(super) subscribers: Vec<String>,
    pub(super) lease: Duration,
    pub(super) connections: Connections,
}

impl Claimant {
    /// Claims, and returns what came of it.
    pub(super) async fn claim(self: Arc<Self>, ask: Ask) -> Input<Leased> {
        // Taken before the statement, so that our own estimate of the lease's end is never too late.
        let began = Instant::now();
        let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
        let statement = async |connection: &mut PgConnection| {
            let Ask { cursor, settles, .. } = ask;
            let (owner, subscribers) = (self.owner.as_str(), self.subscribers.as_slice());
            let ask = claim::Ask { owner, subscribers, limit, lease: self.lease, floor: cursor, settles };
            claim(connection, ask).await
        };
        match self.connections.run(statement).await {
            Ok(claim::Claims { claimed, keys_settled, keys_left }) => Input::Claimed(Claimed {
                ask,
                items: claimed.into_iter().map(|claimed| Leased::new(claimed, began, self.lease)).collect(),
                keys_settled,
                keys_left,
                began: began.into_std(),
                ended: Instant::now().into_std(),
            }),
            Err(error) => {
                let error = database::told(&error);
                tracing::warn!(error, "could not claim; the next poll tries again");
                Input::ClaimFailed
            }
        }
    }
}

/// Gives events back to the outbox. Returns how many were this worker's still.
pub(super) async fn hand_back(pool: PgPool, leases: Vec<Lease>) -> u64 {
    if leases.is_empty() {
        return 0;
    }
    match database::answered(settle::hand_back(&pool, &leases)).await {
        Ok(count) => {
            tracing::info!(
                events = count,
                "returned events to the outbox that were not begun, or not finished in time"
            );
            u64::try_from(count).unwrap_or(0)
        }
        Err(error) => {
            let error = database::told(&error);
            tracing::warn!(error, "could not hand back; the leases run out by themselves");
            0
        }
    }
}

/// Gives back what the database says that `owner` has leased, and that is not among `known`.
pub(super) async fn hand_back_strays(pool: PgPool, owner: String, known: Vec<i64>) -> Input<Leased> {
    let strays = settle::hand_back_strays(&pool, &owner, &known, STRAY_AGE);
    match database::answered(strays).await {
        Ok(events) => {
            if events > 0 {
                tracing::warn!(events, "handed back what was claimed by a statement whose answer was lost");
            }
            Input::StraysHandedBack(Some(events.unsigned_abs()))
        }
        Err(error) => {
            let error = database::told(&error);
            tracing::warn!(
                error,
                "could not hand back what was claimed by a statement whose answer was lost"
            );
            Input::StraysHandedBack(None)
        }
    }
}
