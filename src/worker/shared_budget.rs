//! The budget of calls that all workers share, in Postgres: `restante.lease_calls` and `restante.note_limit`.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use crate::api::{Budget, Class, Learned, Leased};
use crate::database::Connections;
use crate::outbox;

/// Leases places for calls, and notes what the API's answers told. It needs no more than one connection at a time.
#[derive(Debug)]
pub(super) struct SharedBudget(pub(super) Connections);

impl Budget for SharedBudget {
    fn lease<'a>(
        &'a self,
        account: &'a str,
        class: Class,
        wanted: u32,
        ahead: Duration,
    ) -> BoxFuture<'a, Option<Leased>> {
        let lease = async move |connection: &mut PgConnection| {
            outbox::budget::lease(connection, account, class.as_str(), wanted, ahead).await
        };
        async move {
            let places = match self.0.run(lease).await {
                Ok(places) => places,
                Err(error) => {
                    tracing::debug!(%error, "no places for calls could be leased; this worker keeps to a share of the limit");
                    return None;
                }
            };
            Some(match places.per_second {
                _ if places.is_busy => Leased::Busy,
                None => Leased::Unlimited,
                Some(per_second) => {
                    Leased::Places { granted: places.granted, starts_in: places.starts_in, per_second }
                }
            })
        }
        .boxed()
    }

    fn note<'a>(&'a self, learned: Learned<'a>) -> BoxFuture<'a, bool> {
        let note = async move |connection: &mut PgConnection| {
            let Learned { account, class, limit_per_second, seen_per_second, .. } = learned;
            let told = outbox::budget::Told {
                limit_per_second,
                seen_per_second,
                is_limited: learned.is_limited,
                wait: learned.wait,
                is_recovered: learned.is_recovered,
                tokens: learned.tokens,
            };
            outbox::budget::note(connection, account, class.as_str(), told).await
        };
        async move {
            self.0.run(note).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "a limit of the API could not be noted; a later answer tells it again");
                // To try at once again would not help.
                true
            })
        }
        .boxed()
    }
}
