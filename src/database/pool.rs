//! Pools of clean connections, and connections outside of any pool.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool, Row};
use tokio::time::timeout;

use super::session::{self, Session};
use super::why::{self, Why};
use super::{Error, answered, is_parting, unanswered};

/// How long a pool waits for a connection before it reports that none is available.
pub(super) const ACQUIRE_SECONDS: u64 = 5;

/// How long the check of a connection that comes back may take.
const PROOF_TIMEOUT: Duration = Duration::from_secs(2);

/// How long connecting to one server may take, before the next server is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How to connect to each server of a URL, in their order. Statements are not logged, because they may contain what
/// people wrote.
pub(super) fn servers(url: &SecretString, application_name: &str) -> Result<Vec<PgConnectOptions>, Error> {
    let servers = super::servers::servers(url.expose_secret()).map_err(Error::Address)?;
    let options = servers.urls.iter().map(|url| {
        let options: PgConnectOptions = url.expose_secret().parse().map_err(Error::Url)?;
        // Poolers refuse parameters at the start of a session that they do not know; `session` sets the rest later.
        Ok(options.application_name(application_name).extra_float_digits(None).disable_statement_logging())
    });
    options.collect()
}

/// Makes a pool of at most `connections`, which opens them when they are needed. Of several servers it uses the first,
/// unless [`keep_on_primary`](super::keep_on_primary) finds another one.
///
/// Its sessions have the settings that our statements depend on, whatever the defaults of the role or the database are.
///
/// # Errors
/// [`Error::Address`] or [`Error::Url`] if `url` is not the address of a Postgres. A server that does not answer shows
/// only at the first use.
pub fn pool(url: &SecretString, application_name: &str, connections: u32) -> Result<PgPool, Error> {
    let first = servers(url, application_name)?.into_iter().next().ok_or(Error::NoServer)?;
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(ACQUIRE_SECONDS))
        // A ping before each use would double the round trips; the first statement fails on a dead connection.
        .test_before_acquire(false)
        .after_connect(|connection, _| Box::pin(session::prepare(connection, Session::Service)))
        .after_release(|connection, _| {
            Box::pin(async move {
                // Without this timeout, a connection on which nothing arrives any more would wait until the kernel
                // gives up.
                match timeout(PROOF_TIMEOUT, is_in_step(connection)).await {
                    Ok(Err(error)) if is_parting(&error) => Err(error),
                    Ok(is_in_step) => Ok(is_in_step.unwrap_or(false)),
                    Err(_) => Err(unanswered()),
                }
            })
        })
        .connect_lazy_with(first))
}

/// Checks that the next answer on this connection belongs to the next statement, and rolls back an open transaction.
///
/// The last user may have been dropped at any await, also between a statement and its answer, which sqlx 0.9 does not
/// always notice. So this asks for a number that was never asked for before: answers come in the order of the
/// statements, so once this number arrives no older answer is left. A server that takes no writes does not pass either.
async fn is_in_step(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let number = format!("{:032x}", rand::random::<u128>());
    // A `begin` that was cancelled half way leaves a transaction open that sqlx does not know of. A lone `rollback` would put a
    // warning into the server's log if no transaction is open.
    let question = format!("begin; rollback; select '{number}' where not pg_is_in_recovery()");
    let rows = connection.fetch_all(AssertSqlSafe(question)).await?;
    Ok(matches!(&rows[..], [row] if row.try_get::<&str, _>(0).is_ok_and(|answer| answer == number)))
}

/// Closes the idle connections of a pool whose server is gone, so that their next users need not find out one by one.
pub(super) fn close_idle(pool: &PgPool) {
    for _ in 0..pool.num_idle() {
        if let Some(mut connection) = pool.try_acquire() {
            connection.close_on_drop();
        }
    }
}

/// One connection of its own, outside any pool, for a person's command. Of several servers it is to the one that takes writes.
///
/// # Errors
/// [`Error::Address`], [`Error::Url`] or [`Error::Unreachable`].
pub async fn connect(url: &SecretString, application_name: &str) -> Result<PgConnection, Error> {
    let servers = servers(url, application_name)?;
    // A lone server is also looked at while it is a standby.
    let session = if servers.len() == 1 { Session::Tool } else { Session::Service };
    let mut last = Error::NoServer;
    for options in &servers {
        match open(options, session).await {
            Ok(mut connection) => {
                if session == Session::Service {
                    session::prepare(&mut connection, Session::Tool).await?;
                }
                return Ok(connection);
            }
            Err(error) => last = unreachable(&error, options),
        }
    }
    Err(last)
}

pub(super) fn unreachable(error: &sqlx::Error, options: &PgConnectOptions) -> Error {
    Error::Unreachable(Box::new(Why::of(error, options)))
}

/// Where a pool's database is: host, port, database and login.
pub fn place(pool: &PgPool) -> String {
    why::place(&pool.connect_options())
}

/// Connects to one server.
pub(super) async fn open(options: &PgConnectOptions, session: Session) -> sqlx::Result<PgConnection> {
    let opened = timeout(CONNECT_TIMEOUT, async {
        let mut connection = options.connect().await?;
        session::prepare(&mut connection, session).await?;
        Ok(connection)
    });
    opened.await.unwrap_or_else(|_| Err(unanswered()))
}

/// Checks that each connection has a session of the server for itself.
///
/// # Errors
/// [`Error::TransactionPooler`] if it has not, and those of [`connect`].
pub async fn keeps_session(url: &SecretString, application_name: &str) -> Result<(), Error> {
    let (mut one, mut other) = (connect(url, application_name).await?, connect(url, application_name).await?);
    session::stays(&mut one, &mut other).await?;
    farewell(one).await;
    farewell(other).await;
    Ok(())
}

/// Closes a connection; whether that succeeds does not matter.
pub(super) async fn farewell(connection: PgConnection) {
    drop(answered(connection.close()).await);
}
