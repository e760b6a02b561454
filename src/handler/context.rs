//! What one attempt may use.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};

use super::checkpoint::{Checkpoint, Draft, Fence};
use super::error::Error;
use crate::database::{Connections, Lent, OwnedTransaction};
use crate::event::{Event, NewEvent};
use crate::outbox::{self, Delivered, Source};
use crate::{api, handler, trace};

/// The transaction that commits together with the completion of its event.
pub(crate) type AttemptTx = OwnedTransaction<Lent>;

/// What a handler that has returned leaves behind.
pub(crate) struct Left {
    /// Its transaction, if it opened one.
    pub(crate) tx: Option<AttemptTx>,
    /// The result of the event.
    pub(crate) result: Option<String>,
    /// What it delivered to an endpoint.
    pub(crate) delivered: Option<Delivered>,
}

/// How much longer than its attempt a transaction may last, so that the attempt's own timeout comes first: its error
/// says more.
const GRACE: Duration = Duration::from_secs(1);

/// What one attempt may use.
#[derive(Debug)]
pub struct Context<'a> {
    /// The event.
    pub event: &'a Event,
    /// The Claude API, with the key of the event's account. For an event without an account, which is that of another
    /// sender, it is the client of the account `anthropic`, or of the only account.
    ///
    /// If the account is not configured, every call returns [`api::Error::NotConfigured`]. As an error of a handler that
    /// is [`Error::Trouble`]: the event waits, and goes on within seconds once a worker has the account. A handler that
    /// does not call the API does not notice.
    ///
    /// It reads with [`get_json`](api::Client::get_json), and writes with [`post_json`](api::Client::post_json), whose error says
    /// whether the API may have acted on the request all the same.
    pub api: &'a api::Client,
    pool: &'a PgPool,
    /// For the attempt's transaction.
    connections: &'a Connections,
    fence: Fence,
    tx: Option<AttemptTx>,
    result: Option<String>,
    delivered: Option<Delivered>,
    is_alone: bool,
    state_asked_at: Option<DateTime<Utc>>,
}

impl<'a> Context<'a> {
    /// For the worker: the context of an attempt whose commits depend on `fence`.
    pub(crate) fn new(
        event: &'a Event,
        api: &'a api::Client,
        pool: &'a PgPool,
        connections: &'a Connections,
        fence: Fence,
    ) -> Self {
        Self {
            event,
            api,
            pool,
            connections,
            fence,
            tx: None,
            result: None,
            delivered: None,
            is_alone: false,
            state_asked_at: None,
        }
    }

    /// The attempt's transaction, opened at the first call. What is written through it commits together with the
    /// completion of the event, or not at all.
    ///
    /// It holds a connection while it is open: call the API before you open it, not after. Postgres ends the
    /// transaction when it gets no statement for longer than the handler's timeout, even if the handler reports
    /// [progress](Context::progress).
    ///
    /// # Errors
    /// [`Error::Trouble`] if the database is away.
    pub async fn tx(&mut self) -> Result<&mut PgConnection, Error> {
        let tx = match self.tx.take() {
            Some(tx) => tx,
            None => {
                // Not fenced here, because its commit is. The handler's statements may wait for locks as long as the
                // attempt lasts.
                let settings = format!("; set local lock_timeout = {}", self.patience_ms());
                let connection = self.connections.lend().await?;
                OwnedTransaction::begin(connection, self.begin_statement(&settings)).await?
            }
        };
        Ok(self.tx.insert(tx))
    }

    /// Opens a separate transaction, whose commit stays even if the attempt fails. It is fenced: while it is open, no
    /// other worker can claim the event. For long work in parts: the next attempt must cope with parts that are done.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Trouble`] if the database is away or another session has locked the event.
    pub async fn checkpoint(&self) -> Result<Checkpoint, Error> {
        self.begin("").await?.held().await
    }

    /// As [`Context::checkpoint`], but locks the event only at the commit, so that several can be open at once. Its
    /// commit does not wait for the disk.
    ///
    /// # Errors
    /// [`Error::Trouble`] if the database is away.
    pub(crate) async fn draft(&self) -> Result<Draft, Error> {
        self.begin("; set local synchronous_commit = off").await
    }

    /// The pool, for reading. What is written through it is not part of the attempt's commit. A statement may take ten
    /// minutes, and waits two seconds for a lock.
    pub fn pool(&self) -> &PgPool {
        self.pool
    }

    /// A connection beside the attempt's transaction, for statements that commit by themselves, as with [`Context::pool`]. But one
    /// that becomes idle is found also while the server lets in no more. Drop it before you call the API.
    ///
    /// # Errors
    /// There is none within five seconds, or the database is away.
    pub async fn connection(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        self.connections.connection().await
    }

    /// Reports progress: the handler's timeout starts anew.
    pub fn progress(&self) {
        self.fence.deadline.restart();
    }

    /// Puts another event into the outbox, in the attempt's transaction.
    ///
    /// # Errors
    /// As for [`Context::tx`], and [`Error::Retryable`] or [`Error::Permanent`] if the database refuses the event.
    pub async fn enqueue(&mut self, source: Source, event: NewEvent) -> handler::Result {
        outbox::insert_events(self.tx().await?, source, &[event]).await?;
        Ok(())
    }

    /// Has a younger event of the same key been handled already? Then this one came late, and the state that it reports
    /// may be out of date.
    ///
    /// # Errors
    /// [`Error::Trouble`] if the database is away.
    pub async fn is_late(&self) -> Result<bool, Error> {
        Ok(outbox::claim::is_late(&mut *self.connection().await?, self.event).await?)
    }

    /// Stores a value in the column `result` of the event, if the attempt succeeds.
    pub fn set_result(&mut self, result: &serde_json::Value) {
        self.result = Some(result.to_string());
    }

    /// Notes what was delivered to an endpoint, if the attempt succeeds: in the commit that completes the event, which several
    /// attempts may share.
    pub(crate) fn set_delivered(&mut self, delivered: Delivered) {
        self.delivered = Some(delivered);
    }

    /// This attempt settles its own event only, whatever [`newest_state_of`](crate::Handler::newest_state_of) says: it has not got the
    /// state.
    pub fn settle_alone(&mut self) {
        self.is_alone = true;
    }

    /// When the handler begins to ask for the newest state, by the database's clock; until it says so, when the attempt began. Events
    /// that came before are settled with this one, if [`newest_state_of`](crate::Handler::newest_state_of) says so.
    pub fn asks_for_state_at(&mut self, at: DateTime<Utc>) {
        self.state_asked_at = Some(at);
    }

    /// For the worker: as the handler said.
    pub(crate) fn state_asked_at(&self) -> Option<DateTime<Utc>> {
        self.state_asked_at
    }

    /// For the worker: does the attempt settle its own event only?
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// How long ago the event was received. By this machine's clock, so it is good only for spans of days.
    pub(crate) fn waited(&self) -> Duration {
        (Utc::now() - self.event.received_at).to_std().unwrap_or_default()
    }

    /// For the worker: what a handler that has returned leaves behind.
    pub(crate) fn into_parts(self) -> Left {
        Left { tx: self.tx, result: self.result, delivered: self.delivered }
    }

    /// Begins a transaction on a connection of its own, because the attempt's own connection may be in use.
    async fn begin(&self, settings: &str) -> Result<Draft, Error> {
        let loan = self.connections.loan().await?;
        let tx = OwnedTransaction::begin(loan, self.begin_statement(settings)).await?;
        Ok(Draft::new(tx, self.fence.clone()))
    }

    fn begin_statement(&self, settings: &str) -> String {
        let trace = match trace::current() {
            // What is stored in the transaction belongs to the trace of the attempt.
            Some(traceparent) => format!("; set local restante.traceparent = '{traceparent}'"),
            None => String::new(),
        };
        outbox::lease::begin(self.fence.deadline.timeout() + GRACE) + settings + &trace
    }

    /// How long a statement may wait for a lock, in the milliseconds of a Postgres setting.
    fn patience_ms(&self) -> i32 {
        i32::try_from((self.fence.deadline.timeout() + GRACE).as_millis()).unwrap_or(i32::MAX)
    }
}
