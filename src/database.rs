//! The way to Postgres: pools that give back clean connections, and the schema's version.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backoff::{ExponentialBuilder, Retryable};
use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

mod why;

pub use why::{Why, told, why};

/// The schema's migrations, as this program knows them.
static MIGRATOR: std::sync::LazyLock<Migrator> = std::sync::LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.create_schema("restante");
    migrator.dangerous_set_table_name("restante.schema_migration");
    migrator
});

/// How long a pool waits for a connection before it says that the database is away.
const ACQUIRE_SECONDS: u64 = 5;

/// How long one statement may take before its connection counts as dead. Statements here take milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the database can not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is no address of a Postgres.
    #[error("DATABASE_URL cannot be read as postgres://user:password@host:port/database")]
    Url(#[source] sqlx::Error),
    /// It does not answer, or refuses us.
    #[error("the database cannot be reached: {0}")]
    Unreachable(Box<Why>),
    /// It has no schema, or an older one than this program needs.
    #[error(
        "the schema `restante` is at version {found}, this program needs {needed}: run `restante migrate`"
    )]
    SchemaOlder {
        /// The newest migration that was applied; 0 where there is none.
        found: i64,
        /// The newest migration that this program knows.
        needed: i64,
    },
    /// A newer program has been here.
    #[error(
        "the schema `restante` is at version {found}, this program knows only {known}: \
         run a release of Restante that is at least as new as the one that migrated it"
    )]
    SchemaNewer {
        /// The newest migration that was applied.
        found: i64,
        /// The newest migration that this program knows.
        known: i64,
    },
    /// A migration could not be applied; nothing of it remains.
    #[error("the schema could not be migrated")]
    Migration(#[from] MigrateError),
    /// A question about the schema failed.
    #[error("the schema could not be looked at")]
    Query(#[from] sqlx::Error),
}

/// Options for one connection. Statements are not logged, since they may carry what people wrote.
fn connect_options(url: &SecretString, application_name: &str) -> Result<PgConnectOptions, Error> {
    let options: PgConnectOptions = url.expose_secret().parse().map_err(Error::Url)?;
    Ok(options.application_name(application_name).disable_statement_logging())
}

/// A pool of at most `connections`, opened when they are needed.
///
/// # Errors
/// [`Error::Url`], where `url` is no address of a Postgres. Whether it answers shows only at the first use.
pub fn pool(url: &SecretString, application_name: &str, connections: u32) -> Result<PgPool, Error> {
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(ACQUIRE_SECONDS))
        // A ping before each use would double the round trips; a dead connection shows itself soon enough.
        .test_before_acquire(false)
        .after_release(|connection, _| {
            Box::pin(async move {
                // A `begin` that was cancelled half way leaves a transaction open that sqlx 0.9 does not know of. A lone
                // `rollback` would put a warning into the server's log wherever there is none. And a connection on which
                // nothing arrives any more is cut here, or it would be waited for until the kernel gives up.
                match timeout(ANSWER_TIMEOUT, connection.execute("begin; rollback")).await {
                    Ok(answer) => answer.map(|_| true),
                    Err(_) => Err(unanswered()),
                }
            })
        })
        .connect_lazy_with(connect_options(url, application_name)?))
}

/// A share of a pool, whose connections stay with their users from one statement to the next.
///
/// What goes back to a pool is looked at and cleaned up, which takes two more round trips than the statement itself. A
/// connection on which all went well needs neither. Users wait in the order in which they came.
#[derive(Clone, Debug)]
pub struct Connections {
    pool: PgPool,
    share: Arc<Semaphore>,
    spare: Arc<Mutex<Vec<Spare>>>,
    spare_max: usize,
}

#[derive(Debug)]
struct Spare {
    connection: PoolConnection<Postgres>,
    since: Instant,
}

/// How long a connection stays away from its pool, which in its turn closes those that have become old.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// So many connections of a share wait for their next use, and at most a quarter of the pool; the others go back to it, where
/// anybody may have them.
const SPARE_MAX: usize = 4;

impl Connections {
    /// At most `share` connections of `pool` at a time; all are given back when it is closed. To be called within a runtime.
    pub fn of(pool: &PgPool, share: u32) -> Self {
        let spare = Arc::<Mutex<Vec<Spare>>>::default();
        let (closed, still_spare) = (pool.close_event(), Arc::downgrade(&spare));
        tokio::spawn(async move {
            closed.await;
            if let Some(spare) = still_spare.upgrade() {
                lock(&spare).clear();
            }
        });
        let spare_max = SPARE_MAX.min(pool.options().get_max_connections() as usize / 4);
        Self { pool: pool.clone(), share: Arc::new(Semaphore::new(share as usize)), spare, spare_max }
    }

    /// Runs one statement that commits by itself, and waits for it as [`answered`] does.
    ///
    /// # Errors
    /// What the pool or the database says; an IO error, where it says nothing.
    pub async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        answered(async {
            let mut connection = self.lend().await?;
            let answer = statement(&mut connection).await?;
            connection.keep();
            Ok(answer)
        })
        .await
    }

    /// A connection that nobody else uses.
    ///
    /// # Errors
    /// What the pool says, where it has to be asked for one.
    pub async fn lend(&self) -> sqlx::Result<Lent> {
        let turn = Arc::clone(&self.share).acquire_owned();
        let turn = timeout(Duration::from_secs(ACQUIRE_SECONDS), turn).await;
        let Ok(Ok(turn)) = turn else { return Err(sqlx::Error::PoolTimedOut) };
        let spare = lock(&self.spare).pop();
        let lent = match spare {
            Some(spare) => spare,
            None => Spare { connection: self.pool.acquire().await?, since: Instant::now() },
        };
        Ok(Lent { lent: Some(lent), home: self.clone(), _turn: turn })
    }
}

/// A connection that was lent. Dropped, it goes back to its pool, which looks at it; and the spare ones with it, since what
/// went wrong here, such as a restart of the database, has happened to all of them.
#[derive(Debug)]
pub struct Lent {
    lent: Option<Spare>,
    home: Connections,
    /// Ends last, when the connection is back.
    _turn: OwnedSemaphorePermit,
}

impl Lent {
    /// Lets the next have it, because all went well: there is no transaction open, and nothing was given up half way.
    pub fn keep(mut self) {
        let mut spare = lock(&self.home.spare);
        if let Some(lent) = self.lent.take()
            && lent.since.elapsed() < AWAY_MAX
            && spare.len() < self.home.spare_max
            && !self.home.pool.is_closed()
        {
            spare.push(lent);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.lent.is_some() {
            lock(&self.home.spare).clear();
        }
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.lent.as_ref().expect("only `keep` takes it").connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.lent.as_mut().expect("only `keep` takes it").connection
    }
}

fn lock(spare: &Mutex<Vec<Spare>>) -> MutexGuard<'_, Vec<Spare>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection of its own, outside any pool.
///
/// # Errors
/// [`Error::Url`] or [`Error::Unreachable`].
pub async fn connect(url: &SecretString, application_name: &str) -> Result<PgConnection, Error> {
    let options = connect_options(url, application_name)?;
    options.connect().await.map_err(|error| Error::Unreachable(Box::new(Why::of(&error, &options))))
}

/// Waits up to `patience` for the database, then checks that its schema is the one this program knows.
///
/// # Errors
/// [`Error::Unreachable`] after `patience`; [`Error::SchemaOlder`] and [`Error::SchemaNewer`], which say what to run.
pub async fn ready(pool: &PgPool, patience: Duration) -> Result<(), Error> {
    // Not of the pool, which would only say that time ran out.
    let options = pool.connect_options();
    let one_try = || async { answered((*options).clone().connect()).await };
    let mut connection = one_try
        .retry(ExponentialBuilder::default().with_total_delay(Some(patience)).without_max_times())
        .when(is_unavailable)
        .notify(|error, wait| {
            let error = Why::of(error, &options);
            tracing::warn!(%error, retry_in_ms = wait.as_millis(), "the database does not answer yet");
        })
        .await
        .map_err(|error| Error::Unreachable(Box::new(Why::of(&error, &options))))?;
    check_schema(&mut connection).await?;
    // Nothing depends on a polite farewell.
    drop(answered(connection.close()).await);
    Ok(())
}

/// Where a pool's database is: host, port, database and login.
pub fn place(pool: &PgPool) -> String {
    why::place(&pool.connect_options())
}

/// The version of the schema that this program knows.
pub fn schema_version_known() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Checks that the schema is the one this program knows.
///
/// # Errors
/// [`Error::SchemaOlder`] and [`Error::SchemaNewer`], which say what to run; [`Error::Query`].
pub async fn check_schema(connection: &mut PgConnection) -> Result<(), Error> {
    let found = schema_version(connection).await?;
    let known = schema_version_known();
    match found.cmp(&known) {
        std::cmp::Ordering::Less => Err(Error::SchemaOlder { found, needed: known }),
        std::cmp::Ordering::Greater => Err(Error::SchemaNewer { found, known }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// Applies the migrations that are missing, and makes the first partitions. Several at once are safe: they take turns.
/// Answers the versions before and after.
///
/// # Errors
/// [`Error::SchemaNewer`], before anything was touched; [`Error::Migration`].
pub async fn migrate(url: &SecretString) -> Result<(i64, i64), Error> {
    let mut connection = connect(url, "restante migrate").await?;
    let before = schema_version(&mut connection).await?;
    let known = schema_version_known();
    if before > known {
        return Err(Error::SchemaNewer { found: before, known });
    }
    MIGRATOR.run_direct(None, &mut connection, false).await?;
    sqlx::query("select restante.make_partitions()").execute(&mut connection).await?;
    connection.close().await?;
    Ok((before, known))
}

/// The newest migration that was applied; 0 where the schema does not exist.
async fn schema_version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let there: bool = sqlx::query_scalar("select to_regclass('restante.schema_migration') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(0);
    }
    sqlx::query_scalar("select coalesce(max(version), 0) from restante.schema_migration where success")
        .fetch_one(connection)
        .await
}

/// Does the database refuse the values of a statement, so that it will always fail with them?
pub fn is_refusal(error: &sqlx::Error) -> bool {
    matches!(
        error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .as_deref()
            .and_then(|code| code.get(..2)),
        // cardinality, data exception, integrity constraint, program limit (a stack depth, a size of an index row)
        Some("21" | "22" | "23" | "54")
    )
}

/// Did the database fail to take part, so that the same statement may well succeed a little later?
///
/// The classes of SQLSTATE are those of the Postgres manual, appendix A.
pub fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => {
            true
        }
        sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            matches!(
                code.get(..2),
                Some(
                    "08" // connection
                    | "40" // serialization failure, deadlock
                    | "53" // out of disk, memory or connections
                    | "57" // shutting down, starting up, cancelled
                    | "58" // the system below Postgres
                )
            ) || matches!(&*code, "25006" | "55P03") // read-only after a failover; a lock not had in time
        }),
        _ => false,
    }
}

/// Was something not to be had because somebody else has locked it, in a transaction that is open?
pub fn is_locked(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55P03"))
}

/// Waits for a statement as long as makes sense, since sqlx would wait for ever on a connection that is cut silently.
///
/// # Errors
/// What the database says; an IO error, where it says nothing.
pub async fn answered<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(ANSWER_TIMEOUT, statement).await.unwrap_or_else(|_| Err(unanswered()))
}

fn unanswered() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database does not answer"))
}
