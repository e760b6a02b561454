//! The way to Postgres: which server, which session, pools that give back clean connections, and the schema's version.

mod lent;
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

#[doc(hidden)]
pub use self::lent::{Connections, Lent, Loan, tried};
pub use self::pool::pool;
#[doc(hidden)]
pub use self::pool::{connect, keeps_session, place};
pub use self::primary::keep_on_primary;
pub use self::ready::ready;
pub use self::schema::migrate;
#[doc(hidden)]
pub use self::schema::{check_schema, grant, schema_version_known};
pub use self::servers::Unusable;
#[doc(hidden)]
pub use self::servers::{Servers, servers};
#[doc(hidden)]
pub use self::transaction::OwnedTransaction;
pub use self::why::Why;
#[doc(hidden)]
pub use self::why::{told, why};

/// How long one statement may take before its connection counts as dead. Statements here take milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address asks for what cannot be had.
    #[error("DATABASE_URL: {}. {}", .0.problem, .0.mend)]
    Address(Unusable),
    /// The address names no server.
    #[error("DATABASE_URL names no server")]
    NoServer,
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
    /// Transactions on one connection run in different sessions.
    #[error(
        "the connections of DATABASE_URL keep no session: they go through a pooler in transaction mode. Connect past it, or \
         set its pool_mode to session for this database"
    )]
    TransactionPooler,
    /// The database holds no text of other languages.
    #[error(
        "the encoding of the database {database} is {encoding}, and Restante keeps text as it came, which needs UTF8. Make \
         another database: create database {another} template template0 encoding 'UTF8' locale 'C';"
    )]
    Encoding {
        /// Its name, as SQL writes it.
        database: String,
        /// What it can hold.
        encoding: String,
        /// A name for another one, as SQL writes it.
        another: String,
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
    #[error("cannot read the version of the schema")]
    Query(#[from] sqlx::Error),
}

/// Does the database refuse the values of a statement, so that it will always fail with them?
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

/// Did the database fail to take part, so that the same statement may well succeed a little later?
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
            ) || matches!(&*code, "25006" | "55P03") // read-only after a failover; a lock not had in time
        }),
        _ => false,
    }
}

/// Was something not to be had because somebody else has locked it, in a transaction that is open?
#[doc(hidden)]
pub fn is_locked(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55P03"))
}

/// Is the connection on which this was said of no more use? It broke, or its server is going, or takes no writes: the next
/// connection may well be to another one.
pub(crate) fn is_parting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            true
        }
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Its connection has failed; the server shuts down, starts, or has ended the session; it is a standby.
            code.starts_with("08")
                || matches!(&*code, "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25006")
        }),
        _ => false,
    }
}

/// Waits for a statement as long as makes sense, since sqlx would wait forever on a connection that is cut silently.
///
/// # Errors
/// What the database says; an IO error, where it says nothing.
#[doc(hidden)]
pub async fn answered<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(ANSWER_TIMEOUT, statement).await.unwrap_or_else(|_| Err(unanswered()))
}

fn unanswered() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database does not answer"))
}
