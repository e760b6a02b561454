//! The store of events: the outbox in Postgres.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, OnceCell};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Inserted, Store, StoreError, Took};
use crate::database::{self, Connections};
use crate::event::NewEvent;
use crate::key_use::Use;
use crate::outbox::{self, JournalReport, Refused, Stored};

/// At most fifty hints a second in the long run: each is a commit that holds a lock of the whole server for a moment.
const HINT_EVERY: Duration = Duration::from_millis(20);
/// How many hints may be sent without a pause after a quiet time, so that workers hear of a small burst at once.
const HINTS_SAVED_MAX: u32 = 10;

/// Commits events to the outbox, and afterwards sends workers a hint (NOTIFY). Clones share their connections.
#[derive(Clone)]
pub struct OutboxStore {
    pool: PgPool,
    connections: Connections,
    /// One connection for what is no delivery, so that no delivery waits for it.
    reports: Connections,
    new: Arc<Notify>,
    /// Whether the database was found to have the schema of this program. Before the first replay it may not have been asked.
    is_ready: Arc<OnceCell<()>>,
    /// What this process is called where it reports its keys.
    process: String,
}

impl OutboxStore {
    /// Uses `pool`, and sends hints until `stop`. The process is called `process`; a few random characters are added.
    pub fn new(pool: PgPool, process: &str, stop: CancellationToken) -> Self {
        let process = format!("{process}-{:08x}", rand::random::<u32>());
        let new = Arc::new(Notify::new());
        let reports = Connections::of(&pool, 1);
        tokio::spawn(hint(reports.clone(), Arc::clone(&new), stop));
        // One connection is kept for hints and reports.
        let share = pool.options().get_max_connections().saturating_sub(1).max(1);
        Self { connections: reports.beside(share), reports, pool, new, is_ready: Arc::default(), process }
    }
}

impl OutboxStore {
    async fn commit(
        &self,
        insert: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<Stored>,
    ) -> Result<Inserted, StoreError> {
        let timed = async |connection: &mut PgConnection| {
            let began = Instant::now();
            Ok((insert(connection).await?, began.elapsed()))
        };
        match self.connections.run(timed).await {
            Ok((stored, elapsed)) => {
                if stored.new > 0 {
                    self.new.notify_one();
                }
                let took = Took { worked: stored.worked, waited: elapsed.saturating_sub(stored.worked) };
                Ok(Inserted { duplicates: stored.duplicates, took })
            }
            Err(error) if database::is_refusal(&error) => Err(StoreError::Refused(error.into())),
            Err(error) if database::is_locked(&error) => Err(StoreError::Locked(error.into())),
            // This includes faults of our own, such as a missing grant: the sender should send the event again.
            Err(error) => Err(StoreError::Unavailable(error.into())),
        }
    }
}

impl Store for OutboxStore {
    async fn insert(&self, events: &[NewEvent]) -> Result<Inserted, StoreError> {
        self.commit(async |connection| {
            outbox::insert_events(connection, outbox::Source::Webhook, events).await
        })
        .await
    }

    async fn insert_journaled(
        &self,
        events: &[NewEvent],
        received_ats: &[DateTime<Utc>],
    ) -> Result<Inserted, StoreError> {
        // Ingest may have started while the database was away.
        self.is_ready
            .get_or_try_init(|| database::ready(&self.pool, Duration::ZERO))
            .await
            .map_err(|error| StoreError::Unavailable(error.into()))?;
        self.commit(async |connection| outbox::insert_journaled(connection, events, received_ats).await).await
    }

    async fn note_refusals(&self, refused: &[Refused]) -> Result<(), StoreError> {
        let note = async |connection: &mut PgConnection| outbox::note_refusals(connection, refused).await;
        self.reports.run(note).await.map_err(|error| StoreError::Unavailable(error.into()))
    }

    async fn note_key_use(&self, uses: &[Use]) -> Result<(), StoreError> {
        let note = async |connection: &mut PgConnection| {
            outbox::note_key_use(connection, &self.process, "restante-ingest", uses).await
        };
        self.reports.run(note).await.map_err(|error| StoreError::Unavailable(error.into()))
    }

    async fn note_journal(&self, report: &JournalReport) -> Result<(), StoreError> {
        let note = async |connection: &mut PgConnection| outbox::note_journal(connection, report).await;
        self.reports.run(note).await.map_err(|error| StoreError::Unavailable(error.into()))
    }
}

/// Wakes workers when events are new: outside the commits, and once for all events of the same moment.
async fn hint(connections: Connections, new: Arc<Notify>, stop: CancellationToken) {
    let mut saved = HINTS_SAVED_MAX;
    let mut since = Instant::now();
    loop {
        tokio::select! {
            () = new.notified() => {}
            () = stop.cancelled() => return,
        }
        let earned = u32::try_from(since.elapsed().as_millis() / HINT_EVERY.as_millis()).unwrap_or(u32::MAX);
        if earned > 0 {
            saved = saved.saturating_add(earned).min(HINTS_SAVED_MAX);
            since = Instant::now();
        }
        match saved.checked_sub(1) {
            Some(rest) => saved = rest,
            None => sleep(HINT_EVERY).await,
        }
        let notify = async |connection: &mut PgConnection| outbox::upkeep::notify(connection).await;
        if let Err(error) = connections.run(notify).await {
            let error = database::told(&error);
            tracing::debug!(error, "cannot send a hint of new events; workers find them when they poll");
        }
    }
}
