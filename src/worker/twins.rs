//! Webhooks whose change the reconciler has already put into the outbox: the event of the change stands for them.
//!
//! In nearly all cases there is no such change, and then this costs a look a second. That look cannot come too late: a change
//! waits for two seconds at least, once it was noticed, before its event is put into the outbox.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

use crate::database::Connections;
use crate::event::Event;
use crate::outbox::missed;

/// For how long it counts that no change was missed.
const FRESH: Duration = Duration::from_secs(1);

/// What is known of changes that were missed.
#[derive(Debug, Default)]
pub(super) struct Twins {
    /// When there was none.
    none_at: Mutex<Option<Instant>>,
}

impl Twins {
    /// The identifier of the event that stands for this one, if it is a webhook of a change whose event is in the outbox.
    pub(super) async fn stands_for(
        &self,
        connections: &Connections,
        event: &Event,
    ) -> sqlx::Result<Option<String>> {
        if event.source != "webhook" || event.account.is_none() || event.key.is_none() {
            return Ok(None);
        }
        let looked_at = Instant::now();
        if self.none_at().is_some_and(|at| looked_at - at < FRESH) {
            return Ok(None);
        }
        let any = async |connection: &mut PgConnection| missed::any(connection).await;
        if !connections.run_to_its_end(any).await? {
            *self.none_at() = Some(looked_at);
            return Ok(None);
        }
        let explain = async |connection: &mut PgConnection| missed::explain(connection, event).await;
        connections.run_to_its_end(explain).await
    }

    fn none_at(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.none_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
