//! The store of events: the outbox in Postgres.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Store, StoreError};
use crate::event::NewEvent;
use crate::{database, outbox};

/// At most twenty hints a second: each is a commit that holds a lock of the whole server for a moment.
const HINT_EVERY: Duration = Duration::from_millis(50);

/// Commits events to the outbox, and gives workers a hint afterwards.
pub struct OutboxStore {
    pool: PgPool,
    new: Arc<Notify>,
}

impl OutboxStore {
    /// Uses `pool`. Hints are given until `stop`.
    pub fn new(pool: PgPool, stop: CancellationToken) -> Self {
        let new = Arc::new(Notify::new());
        tokio::spawn(hint(pool.clone(), Arc::clone(&new), stop));
        Self { pool, new }
    }
}

impl Store for OutboxStore {
    async fn insert(&self, events: &[NewEvent]) -> Result<(), StoreError> {
        let insert = outbox::insert_events(&self.pool, outbox::Source::Webhook, events);
        match database::answered(insert).await {
            Ok(0) => Ok(()),
            Ok(_) => {
                self.new.notify_one();
                Ok(())
            }
            Err(error) if database::is_refusal(&error) => Err(StoreError::Refused(error.into())),
            // Also what is wrong with us, such as a missing grant: it is no reason to give up a verified event.
            Err(error) => Err(StoreError::Unavailable(error.into())),
        }
    }
}

/// Tells workers that there is something new: outside the commits, and once for all of a moment.
async fn hint(pool: PgPool, new: Arc<Notify>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = new.notified() => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = database::answered(outbox::upkeep::notify(&pool)).await {
            tracing::debug!(%error, "no hint was given; workers poll");
        }
        sleep(HINT_EVERY).await;
    }
}
