//! What one attempt may use.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use super::checkpoint::{Checkpoint, Draft, Fence};
use super::error::Error;
use crate::database::{Connections, Lent, Loan, OwnedTransaction};
use crate::event::{Event, NewEvent};
use crate::outbox::{self, Source};
use crate::{api, handler};

/// The transaction that commits together with the completion of its event.
pub(crate) type AttemptTx = OwnedTransaction<Lent>;

/// How much longer than its attempt a transaction may last: the attempt's own end, which says more, shall come first.
const GRACE: Duration = Duration::from_secs(1);

/// What one attempt may use.
#[derive(Debug)]
pub struct Context<'a> {
    /// The event.
    pub event: &'a Event,
    /// The API, with the key of this worker.
    pub api: &'a api::Client,
    pool: &'a PgPool,
    /// For the attempt's transaction.
    connections: &'a Connections,
    fence: Fence,
    tx: Option<AttemptTx>,
    result: Option<String>,
}

impl<'a> Context<'a> {
    /// For the worker: what an attempt may use whose commits are tied to `fence`.
    pub(crate) fn new(
        event: &'a Event,
        api: &'a api::Client,
        pool: &'a PgPool,
        connections: &'a Connections,
        fence: Fence,
    ) -> Self {
        Self { event, api, pool, connections, fence, tx: None, result: None }
    }

    /// The attempt's transaction, opened at the first call. What is written through it commits together with the
    /// completion of the event, or not at all.
    ///
    /// While it is open, a connection is held: call the API before you open it, not after. The database ends it when it
    /// has heard nothing for longer than the handler's timeout, also where [progress](Context::progress) is reported.
    ///
    /// # Errors
    /// [`Error::Trouble`], where the database is away.
    pub async fn tx(&mut self) -> Result<&mut PgConnection, Error> {
        let tx = match self.tx.take() {
            Some(tx) => tx,
            None => {
                // Not fenced here: its commit is. What the handler does may wait for locks for as long as its attempt lasts.
                let settings = format!("; set local lock_timeout = {}", self.patience_ms());
                let connection = self.connections.lend().await?;
                OwnedTransaction::begin(connection, self.begin_statement(&settings)).await?
            }
        };
        Ok(self.tx.insert(tx))
    }

    /// A transaction of its own that commits now, whatever becomes of the attempt. It is fenced all the same: while it is
    /// open the lease is ours. For long work that is done in parts, each of which is safe to find done.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Trouble`] where the database is away or somebody has locked the event.
    pub async fn checkpoint(&self) -> Result<Checkpoint, Error> {
        self.begin("").await?.held().await
    }

    /// As [`Context::checkpoint`], but the event is not locked before its commit, so that several can be under way at once.
    /// And its commit does not wait for the disk.
    ///
    /// # Errors
    /// [`Error::Trouble`] where the database is away.
    pub(crate) async fn draft(&self) -> Result<Draft, Error> {
        self.begin("; set local synchronous_commit = off").await
    }

    /// For reading. What is written through it is not part of the attempt. A statement may take ten minutes, and waits for a
    /// lock for two seconds.
    pub fn pool(&self) -> &PgPool {
        self.pool
    }

    /// Says that the attempt is alive and getting on: its timeout starts anew.
    pub fn progress(&self) {
        self.fence.deadline.restart();
    }

    /// Puts another event into the outbox, in the attempt's transaction.
    ///
    /// # Errors
    /// As for [`Context::tx`], and [`Error::Retryable`] where the database refuses the event.
    pub async fn enqueue(&mut self, source: Source, event: NewEvent) -> handler::Result {
        outbox::insert_events(self.tx().await?, source, &[event]).await?;
        Ok(())
    }

    /// Has a younger event of the same key been handled already? Then this one came late, and what it says of a state
    /// may be out of date.
    ///
    /// # Errors
    /// [`Error::Trouble`] where the database is away.
    pub async fn is_late(&self) -> Result<bool, Error> {
        Ok(outbox::claim::is_late(self.pool, self.event).await?)
    }

    /// Leaves something to read in the column `result` of the event, should the attempt succeed.
    pub fn set_result(&mut self, result: &serde_json::Value) {
        self.result = Some(result.to_string());
    }

    /// How long ago the event was received. By the clock of this machine, so it says something over days only.
    pub(crate) fn waited(&self) -> Duration {
        (chrono::Utc::now() - self.event.received_at).to_std().unwrap_or_default()
    }

    /// For the worker: what a handler that has returned leaves behind.
    pub(crate) fn into_parts(self) -> (Option<AttemptTx>, Option<String>) {
        (self.tx, self.result)
    }

    /// Begins a transaction with a connection of its own: the attempt's may be in use.
    async fn begin(&self, settings: &str) -> Result<Draft, Error> {
        let loan = Loan::of(self.pool).await?;
        let tx = OwnedTransaction::begin(loan, self.begin_statement(settings)).await?;
        Ok(Draft::new(tx, self.fence.clone()))
    }

    fn begin_statement(&self, settings: &str) -> String {
        outbox::lease::begin(self.fence.deadline.timeout() + GRACE) + settings
    }

    /// For how long a statement may keep its attempt waiting, as Postgres counts it.
    fn patience_ms(&self) -> i32 {
        i32::try_from((self.fence.deadline.timeout() + GRACE).as_millis()).unwrap_or(i32::MAX)
    }
}
