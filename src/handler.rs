//! The contract of a handler: what it answers, what it may use, and what its result means.
//!
//! | a handler returns | means | the event then | counts as an attempt |
//! |---|---|---|---|
//! | `Ok(())` | dealt with | is `done`, in one commit with what was written through [`Context::tx`] | yes |
//! | [`Error::Retryable`], [`Error::RetryAfter`] | may work later | runs again after a growing wait; `dead` when its policy is spent | yes |
//! | [`Error::Permanent`] | will never work: something is wrong with *the event* | is `dead` now | yes |
//! | [`Error::Snooze`] | too early: all is well | runs again after that wait, with earlier failures forgiven | no |
//! | [`Error::Defer`] | not now: it has not had its turn | runs again after that wait | no |
//! | [`Error::Trouble`] | something is wrong with *us*, or with the other side | runs again after that wait | no, within [`Handler::PATIENCE`] |
//! | a panic, a timeout, a crash | unknown | as for `Retryable`; three crashes make it `dead` | yes |
//!
//! A wait that is not counted has a reason in the row, `last_error`, for whoever looks. No wait is longer than a year.
//!
//! `Err` rolls back what was written through [`Context::tx`]. Nothing turns an arbitrary error into one of these by itself:
//! an error is classified where it is understood, with [`Classify`], and only [`api::Error`] and [`sqlx::Error`] bring their
//! classification along:
//!
//! | error | is |
//! |---|---|
//! | the API refuses the key, the account or the request, answers with a redirect or not as an API does, or not at all | `Trouble` |
//! | the API does not find it | `Retryable` |
//! | the id cannot be part of a URL | `Permanent` |
//! | the database is away or read-only, ends a deadlock, has no room; a table, a column or a right is missing | `Trouble` |
//! | the database will never take the value: SQLSTATE 22xxx, 54xxx | `Permanent` |
//! | any other of the database | `Retryable` |

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::database::{Connections, Lent, Loan};
use crate::event::{Event, NewEvent};
use crate::outbox::lease::Held;
use crate::outbox::{self, Lease, Source};
use crate::{api, retry};

mod error;

use error::AGAIN_SOON;
pub use error::{Classify, Error};

/// What a handler answers with.
pub type Result = std::result::Result<(), Error>;

/// Answers one or more types of event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    note = "write `impl Handler for {Self}` with EVENT_TYPES, Payload and `async fn handle`; src/handlers shows how"
)]
pub trait Handler: Send + Sync + 'static {
    /// The types it answers, as the API spells them. A trailing `*` covers any ending: `session.*`.
    const EVENT_TYPES: &'static [&'static str];
    /// How often, and how far apart, attempts are made.
    const RETRY: retry::Policy = retry::Policy::DEFAULT;
    /// How long an attempt may take without reporting [progress](Context::progress).
    const TIMEOUT: Duration = Duration::from_secs(30);
    /// How long [trouble](Error::Trouble) is waited out, from when the event was received. From then on it counts as a failure.
    const PATIENCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    /// Whether a dead letter keeps later events of its key waiting until a person has looked at it.
    const DEAD_HOLDS_KEY: bool = false;
    /// What [`Event::data`] is read into. Where it does not fit, the event is a dead letter.
    type Payload: DeserializeOwned + Send;

    /// Deals with one event. It runs at least once for each: a worker may vanish at any point. What it writes through
    /// [`Context::tx`] is written exactly once; what it does elsewhere should be safe to do twice.
    fn handle(&self, cx: &mut Context<'_>, payload: Self::Payload) -> impl Future<Output = Result> + Send;
}

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
    connections: &'a Connections,
    /// Where the connection of the attempt's transaction will be; taken when it begins.
    place: Option<&'a mut Option<Lent>>,
    lease: Lease,
    /// How long a lease lasts.
    lease_time: Duration,
    tx: Option<Transaction<'a, Postgres>>,
    deadline: Deadline,
    result: Option<String>,
}

/// The ways of an attempt to the database.
pub(crate) struct Database<'a> {
    pub(crate) pool: &'a PgPool,
    /// For the attempt's transaction.
    pub(crate) connections: &'a Connections,
    /// Where the connection of that transaction is put.
    pub(crate) place: &'a mut Option<Lent>,
}

impl<'a> Context<'a> {
    /// For the worker: what an attempt under `lease` may use.
    pub(crate) fn new(
        event: &'a Event,
        api: &'a api::Client,
        database: Database<'a>,
        lease: Lease,
        lease_time: Duration,
        deadline: Deadline,
    ) -> Self {
        let Database { pool, connections, place } = database;
        let place = Some(place);
        Self { event, api, pool, connections, place, lease, lease_time, tx: None, deadline, result: None }
    }

    /// The attempt's transaction, opened at the first call. What is written through it commits together with the
    /// completion of the event, or not at all.
    ///
    /// While it is open, a connection is held: call the API before you open it, not after. The database ends it when it
    /// has heard nothing for longer than the handler's timeout, also where [progress](Context::progress) is reported.
    ///
    /// # Errors
    /// [`Error::Trouble`], where the database is away.
    pub async fn tx(&mut self) -> std::result::Result<&mut PgConnection, Error> {
        if self.tx.is_none() {
            let connection = self.connections.lend().await?;
            if let Some(place) = self.place.take() {
                // Not fenced here: its commit is. What the handler does may wait for locks for as long as its attempt lasts.
                let settings = format!("; set local lock_timeout = {}", self.patience_ms());
                self.tx = Some(place.insert(connection).begin_with(self.begin_statement(&settings)).await?);
            }
        }
        match &mut self.tx {
            Some(tx) => Ok(&mut *tx),
            None => Err(Error::Trouble(AGAIN_SOON, anyhow::anyhow!("the transaction could not be begun"))),
        }
    }

    /// A transaction of its own that commits now, whatever becomes of the attempt. It is fenced all the same: while it is
    /// open the lease is ours. For long work that is done in parts, each of which is safe to find done.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Trouble`] where the database is away or somebody has locked the event.
    pub async fn checkpoint(&self) -> std::result::Result<Checkpoint, Error> {
        let mut tx = self.begin().await?;
        self.hold(&mut tx).await?;
        Ok(Checkpoint { tx, lease: self.lease, lease_time: self.lease_time, _hold: self.deadline.hold() })
    }

    /// A connection for a [draft](Context::draft), which is closed unless it is given back after the draft's end.
    ///
    /// # Errors
    /// [`Error::Trouble`] where the database is away.
    pub(crate) async fn lend(&self) -> std::result::Result<Loan, Error> {
        Ok(Loan::of(self.pool).await?)
    }

    /// As [`Context::checkpoint`], but the lease is ours from its end on only: until [`Context::commit_draft`] the event is
    /// not locked, so that several can be under way at once. Its commit does not wait for the disk.
    ///
    /// # Errors
    /// [`Error::Trouble`] where the database is away.
    pub(crate) async fn draft<'c>(&self, loan: &'c mut Loan) -> std::result::Result<Draft<'c>, Error> {
        Ok(Draft(loan.begin_with(self.begin_statement("; set local synchronous_commit = off")).await?))
    }

    /// Commits a draft, if the lease is ours: the event is locked from the look at it to the commit.
    ///
    /// # Errors
    /// As for [`Context::checkpoint`] and [`Checkpoint::commit`].
    pub(crate) async fn commit_draft(&self, Draft(mut tx): Draft<'_>) -> Result {
        self.hold(&mut tx).await?;
        let _hold = self.deadline.hold();
        commit_with_lease(tx, self.lease, self.lease_time).await
    }

    /// For reading. What is written through it is not part of the attempt. A statement may take ten minutes, and waits for a
    /// lock for two seconds.
    pub fn pool(&self) -> &PgPool {
        self.pool
    }

    /// Says that the attempt is alive and getting on: its timeout starts anew.
    pub fn progress(&self) {
        self.deadline.restart();
    }

    /// Puts another event into the outbox, in the attempt's transaction.
    ///
    /// # Errors
    /// As for [`Context::tx`], and [`Error::Retryable`] where the database refuses the event.
    pub async fn enqueue(&mut self, source: Source, event: NewEvent) -> std::result::Result<(), Error> {
        outbox::insert_events(self.tx().await?, source, &[event]).await?;
        Ok(())
    }

    /// Has a younger event of the same key been handled already? Then this one came late, and what it says of a state
    /// may be out of date.
    ///
    /// # Errors
    /// [`Error::Trouble`] where the database is away.
    pub async fn is_late(&self) -> std::result::Result<bool, Error> {
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

    /// For the worker: what the handler leaves behind.
    pub(crate) fn into_parts(self) -> (Option<Transaction<'a, Postgres>>, Option<String>) {
        (self.tx, self.result)
    }

    /// Begins a transaction of its own.
    async fn begin(&self) -> std::result::Result<Transaction<'static, Postgres>, Error> {
        // In a task of its own, because an attempt may be cancelled at any await, and a `begin` that is cancelled half way
        // leaves a transaction open that sqlx 0.9 does not know of.
        let (pool, statement) = (self.pool.clone(), self.begin_statement(""));
        let begun = tokio::spawn(async move { pool.begin_with(statement).await }).await;
        Ok(begun.map_err(|error| Error::Trouble(AGAIN_SOON, error.into()))??)
    }

    fn begin_statement(&self, settings: &str) -> AssertSqlSafe<String> {
        let begin = outbox::lease::begin(self.deadline.timeout() + GRACE);
        AssertSqlSafe(begin + settings)
    }

    /// For how long a statement may keep its attempt waiting, as Postgres counts it.
    fn patience_ms(&self) -> i32 {
        i32::try_from((self.deadline.timeout() + GRACE).as_millis()).unwrap_or(i32::MAX)
    }

    /// Holds the event until the transaction ends.
    async fn hold(&self, transaction: &mut PgConnection) -> Result {
        match outbox::lease::hold(transaction, self.lease).await? {
            Held::Yes => Ok(()),
            Held::Lost => Err(Error::LeaseLost),
            Held::Locked => {
                Err(Error::Trouble(AGAIN_SOON, anyhow::anyhow!("somebody else has locked the event")))
            }
        }
    }
}

/// A transaction that commits whatever becomes of its attempt. Dropped, it rolls back.
#[derive(Debug)]
pub struct Checkpoint {
    tx: Transaction<'static, Postgres>,
    lease: Lease,
    lease_time: Duration,
    _hold: Hold,
}

impl Checkpoint {
    /// Commits it, and begins the lease anew with it: while it was open the lease could not be renewed, and may have run out.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Trouble`] where the database is away; then nothing was committed, as far as we know.
    pub async fn commit(self) -> Result {
        commit_with_lease(self.tx, self.lease, self.lease_time).await
    }
}

/// Commits a transaction that holds its event, and begins the lease anew with it.
async fn commit_with_lease(mut tx: Transaction<'_, Postgres>, lease: Lease, lease_time: Duration) -> Result {
    let ours = outbox::lease::renew(&mut *tx, &[lease], lease_time).await?;
    if ours.renewed.is_empty() {
        return Err(Error::LeaseLost);
    }
    tx.commit().await?;
    Ok(())
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

/// A transaction that has not been fenced yet; [`Context::commit_draft`] alone commits it. Dropped, it rolls back.
pub(crate) struct Draft<'c>(Transaction<'c, Postgres>);

impl Draft<'_> {
    /// To write through.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

/// As good as none, and not beyond what a clock can count.
const TIMEOUT_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// When an attempt must have finished, or have reported progress.
#[derive(Clone, Debug)]
pub(crate) struct Deadline {
    timeout: Duration,
    at: Arc<watch::Sender<Instant>>,
    /// How many transactions of the attempt hold its event.
    holds: Arc<AtomicUsize>,
}

/// A transaction of the attempt holds its event, until this is dropped: nobody else can have locked it.
#[derive(Debug)]
struct Hold(Arc<AtomicUsize>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deadline {
    pub(crate) fn new(timeout: Duration) -> Self {
        let timeout = timeout.min(TIMEOUT_MAX);
        let at = Instant::now() + timeout;
        Self { timeout, at: Arc::new(watch::Sender::new(at)), holds: Arc::default() }
    }

    /// Is the event held by a transaction of the attempt?
    pub(crate) fn is_held(&self) -> bool {
        self.holds.load(Ordering::Relaxed) > 0
    }

    fn hold(&self) -> Hold {
        self.holds.fetch_add(1, Ordering::Relaxed);
        Hold(Arc::clone(&self.holds))
    }

    /// The time by which it must have finished.
    pub(crate) fn at(&self) -> Instant {
        *self.at.borrow()
    }

    /// How long an attempt has, from its last sign of progress.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    fn restart(&self) {
        self.at.send_replace(Instant::now() + self.timeout);
    }
}
