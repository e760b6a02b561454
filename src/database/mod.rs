//! The connection to Postgres: which server, the settings of a session, pools of clean connections, the schema's
//! version.

mod address;
mod lent;
mod loan;
mod pool;
mod primary;
mod ready;
mod rights;
mod schema;
mod servers;
mod session;
mod transaction;
mod why;

use std::future::Future;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use tokio::time::timeout;

pub use self::address::Address;
#[doc(hidden)]
pub use self::address::{Login, Waiting, keep_at};
#[doc(hidden)]
pub use self::lent::{Connections, Lent};
#[doc(hidden)]
pub use self::loan::{Loan, tried};
pub use self::pool::pool;
#[doc(hidden)]
pub use self::pool::{connect, keeps_session, place};
pub use self::primary::keep_on_primary;
pub use self::ready::ready;
pub use self::schema::migrate;
#[doc(hidden)]
pub use self::schema::{check_schema, grant, schema_version, schema_version_known};
pub use self::servers::Unusable;
#[doc(hidden)]
pub use self::servers::{Servers, servers};
#[doc(hidden)]
pub use self::transaction::OwnedTransaction;
pub use self::why::Why;
#[doc(hidden)]
pub use self::why::{told, why};

/// How long one statement may take before its connection counts as dead. Our statements take milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be used, or asks for something that is not supported.
    #[error("DATABASE_URL: {}. {}", .0.problem, .0.mend)]
    Address(Unusable),
    /// The address names no server.
    #[error("DATABASE_URL names no server: write it like postgres://user:password@host:5432/database")]
    NoServer,
    /// The address is not that of a Postgres.
    #[error("DATABASE_URL cannot be read as postgres://user:password@host:port/database")]
    Url(#[source] sqlx::Error),
    /// The database does not answer, or refuses the login.
    #[error("the database cannot be reached: {0}")]
    Unreachable(Box<Why>),
    /// The database has no schema, or an older one than this program needs.
    #[error(
        "the schema `restante` is at version {found}, this program needs {needed}: run `restante migrate`"
    )]
    SchemaOlder {
        /// The newest migration that was applied; 0 where there is none.
        found: i64,
        /// The newest migration that this program knows.
        needed: i64,
    },
    /// Transactions on one connection run in different sessions.
    #[error(
        "the connections of DATABASE_URL keep no session: they go through a pooler in transaction mode. Connect to \
         Postgres directly, or set the pooler's pool_mode to session for this database"
    )]
    TransactionPooler,
    /// The encoding of the database cannot hold text of every language.
    #[error(
        "the encoding of the database {database} is {encoding}, and Restante keeps text as it came, which needs UTF8. Make \
         another database: create database {another} template template0 encoding 'UTF8' locale 'C';"
    )]
    Encoding {
        /// The name of the database, quoted for SQL.
        database: String,
        /// Its encoding.
        encoding: String,
        /// A name for another database, quoted for SQL.
        another: String,
    },
    /// A newer release has migrated the schema.
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
    /// A migration failed, and was rolled back.
    #[error("the schema could not be migrated")]
    Migration(#[from] MigrateError),
    /// A query about the schema failed.
    #[error("cannot read the version of the schema")]
    Query(#[from] sqlx::Error),
}

/// Did the database refuse the values of a statement, so that the statement will always fail with them?
#[doc(hidden)]
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

/// Was the database unavailable, so that the same statement may succeed a little later?
///
/// The classes of SQLSTATE are those of the Postgres manual, appendix A.
#[doc(hidden)]
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
            ) || matches!(&*code, "25006" | "55P03") // read-only after a failover; a lock not acquired in time
        }),
        _ => false,
    }
}

/// Did the statement fail because another session holds a lock, in a transaction that is open?
#[doc(hidden)]
pub fn is_locked(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55P03"))
}

/// Does this error mean that its connection is useless? It broke, or its server shuts down or takes no writes: a new
/// connection may reach another server.
pub(crate) fn is_parting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            true
        }
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // The connection failed; the server shuts down, starts, or has ended the session; the server is a standby.
            code.starts_with("08")
                || matches!(&*code, "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25006")
        }),
        _ => false,
    }
}

/// Waits at most 5 s for a statement: sqlx would wait forever on a connection that was cut silently.
///
/// # Errors
/// The error of the statement; an IO error (timed out) if the database does not answer in time.
#[doc(hidden)]
pub async fn answered<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(ANSWER_TIMEOUT, statement).await.unwrap_or_else(|_| Err(unanswered()))
}

fn unanswered() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database does not answer"))
}
