//! The statements with which the dispatcher claims events and hands them back.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use sqlx::PgConnection;
use tokio::time::Instant;

use crate::database::{self, Connections};
use crate::outbox::claim::{self, claim_except};
use crate::outbox::{Lease, settle};
use crate::worker::breaker::LeftOut;
use crate::worker::leased::Leased;
use crate::worker::schedule::{Ask, Claimed, Input, STRAY_AGE};

/// The worker as a claim names it.
pub(super) struct Claimant {
    /// A name that no other worker has, and that this one does not have again after a restart.
    pub(super) owner: String,
    pub(super) subscribers: Vec<String>,
    pub(super) lease: Duration,
    pub(super) connections: Connections,
    pub(super) left_out: Arc<LeftOut>,
}

impl Claimant {
    /// Claims, and returns the input for the schedule.
    pub(super) async fn claim(self: Arc<Self>, ask: Ask) -> Input<Leased> {
        // Taken before the statement, so that the worker never believes in a lease for too long.
        let began = Instant::now();
        let (began_at, except) = (Utc::now(), self.left_out.except());
        let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
        let statement = async |connection: &mut PgConnection| {
            let Ask { cursor, settles, .. } = ask;
            let (owner, subscribers) = (self.owner.as_str(), self.subscribers.as_slice());
            let ask = claim::Ask { owner, subscribers, limit, lease: self.lease, cursor, settles };
            let (pattern, but_for) = match &except {
                Some(except) => (Some(except.pattern.as_str()), except.but_for.as_slice()),
                None => (None, &[][..]),
            };
            claim_except(connection, ask, pattern, but_for).await
        };
        match self.connections.run(statement).await {
            Ok(claim::Claims { claimed, keys_settled, keys_left }) => Input::Claimed(Claimed {
                ask,
                items: claimed.into_iter().map(|claimed| Leased::new(claimed, began, self.lease)).collect(),
                keys_settled,
                keys_left,
                left_out_at: except.map(|_| began_at),
                began: began.into_std(),
                ended: Instant::now().into_std(),
            }),
            Err(error) => {
                let error = database::told(&error);
                tracing::warn!(error, "the claim failed; the next poll tries again");
                Input::ClaimFailed
            }
        }
    }
}

/// Hands events back to the outbox. Returns how many this worker still had leased.
pub(super) async fn hand_back(connections: Connections, leases: Vec<Lease>) -> u64 {
    if leases.is_empty() {
        return 0;
    }
    match connections.run(async |connection| settle::hand_back(connection, &leases).await).await {
        Ok(count) => {
            tracing::info!(
                events = count,
                "handed events back to the outbox that had not started, or not ended in time"
            );
            u64::try_from(count).unwrap_or(0)
        }
        Err(error) => {
            let error = database::told(&error);
            tracing::warn!(
                error,
                "could not hand events back; they are claimed again when their leases run out"
            );
            0
        }
    }
}

/// Hands back the events that the database has leased to `owner` and that are not among `known`.
pub(super) async fn hand_back_strays(
    connections: Connections,
    owner: String,
    known: Vec<i64>,
) -> Input<Leased> {
    let strays = async |connection: &mut PgConnection| {
        settle::hand_back_strays(connection, &owner, &known, STRAY_AGE).await
    };
    match connections.run(strays).await {
        Ok(events) => {
            if events > 0 {
                tracing::warn!(events, "handed back events of a claim or a completion whose answer was lost");
            }
            Input::StraysHandedBack(Some(events.unsigned_abs()))
        }
        Err(error) => {
            let error = database::told(&error);
            tracing::warn!(
                error,
                "could not hand back the events of a claim or a completion whose answer was lost"
            );
            Input::StraysHandedBack(None)
        }
    }
}
