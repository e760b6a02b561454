//! The settings that our sessions need, whatever the defaults of the server, the database or the role are; and the
//! check that a pooler between us and Postgres lets a connection keep its session.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};
use tokio::time::timeout;

use super::{Error, answered};

/// The kind of program that a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// A service, which writes, and does not wait long for a lock.
    Service,
    /// A person's command, which may read a standby, and waits for locks.
    Tool,
}

/// How long a statement of a service waits for a lock. After that its caller has given up, or does other work first.
const LOCK_TIMEOUT_MS: u32 = 2_000;

/// How long one statement of a session may take, and how long a transaction may be idle between two. Handlers get
/// bounds of their own for what they write; this one ends statements that no caller waits for any more.
const STATEMENT_TIMEOUT_MS: u32 = 600_000;

/// Settings that our statements depend on, and that may be different for the role, the database or the server. A
/// setting that this version of Postgres does not have is skipped.
const SETTINGS: &[(&str, &str)] = &[
    // The meaning of a commit. With another isolation, a statement may not see what was committed before it began.
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    // Connections wait in their pool for as long as we say.
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    ("exit_on_error", "off"),
    // The format of texts and values.
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("quote_all_identifiers", "off"),
    ("check_function_bodies", "on"),
    // The plans: statements take milliseconds only with these.
    ("plan_cache_mode", "auto"),
    ("jit", "off"),
    ("debug_parallel_query", "off"),
    ("force_parallel_mode", "off"),
    ("enable_indexscan", "on"),
    ("enable_indexonlyscan", "on"),
    ("enable_bitmapscan", "on"),
    ("enable_tidscan", "on"),
    ("enable_nestloop", "on"),
    ("enable_sort", "on"),
    ("enable_incremental_sort", "on"),
    ("enable_material", "on"),
    ("enable_partition_pruning", "on"),
];

/// Sets the settings of a new connection's session, in one round trip.
///
/// By statements and not by parameters of the start-up, because poolers refuse parameters that they do not know.
///
/// # Errors
/// The error of the statement; for a service also an IO error (read-only) if the server is a standby.
pub(super) async fn prepare(connection: &mut PgConnection, session: Session) -> sqlx::Result<()> {
    let rows = answered(connection.fetch_all(AssertSqlSafe(statement(session)))).await?;
    let is_standby = rows.last().is_some_and(|row| row.try_get("standby").unwrap_or(false));
    if is_standby && session == Session::Service { Err(standby()) } else { Ok(()) }
}

fn statement(session: Session) -> String {
    let lock_timeout_ms = if session == Session::Service { LOCK_TIMEOUT_MS } else { 0 };
    let statement_timeout_ms = if session == Session::Service { STATEMENT_TIMEOUT_MS } else { 0 };
    let wanted: String = SETTINGS.iter().map(|(name, value)| format!("('{name}', '{value}'), ")).collect();
    // The timeouts first, because a default of a millisecond would end the statement that changes it.
    format!(
        "set statement_timeout = {statement_timeout_ms};
         set lock_timeout = {lock_timeout_ms};
         set idle_in_transaction_session_timeout = {statement_timeout_ms};
         select count(set_config(name, value, false)), pg_is_in_recovery() as standby
           from (values {wanted}
                        -- A 2xx means that a crash loses nothing. A value that also waits for replicas stays as it is.
                        ('synchronous_commit', case when current_setting('synchronous_commit') in ('off', 'local')
                                                    then 'on' else current_setting('synchronous_commit') end),
                        -- The server ends a statement whose client is gone. Only some systems support the check.
                        ('client_connection_check_interval', case when version() like '%linux%' then '2s' else '0' end))
                as wanted (name, value)
          where current_setting(name, true) is distinct from value and current_setting(name, true) is not null"
    )
}

/// The error for a standby, which Postgres itself would report only at the first write.
pub(super) fn standby() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(
        std::io::ErrorKind::ReadOnlyFilesystem,
        "this server is a standby, which takes no writes",
    ))
}

/// How many rounds of the check a pooler in transaction mode must pass unnoticed.
const ROUNDS: usize = 3;
/// How long to wait for an answer: a pooler with one connection to the server makes the second session wait for the
/// first.
const PATIENCE: Duration = Duration::from_secs(2);

/// Checks that a connection keeps one session of the server for as long as it lives, so that settings and prepared
/// statements stay.
///
/// # Errors
/// [`Error::TransactionPooler`] if it does not; [`Error::Query`] if a statement fails.
pub(super) async fn stays(one: &mut PgConnection, other: &mut PgConnection) -> Result<(), Error> {
    let first = backend(one).await?;
    for _ in 0..ROUNDS {
        // Simple statements, because prepared ones fail behind such a pooler in other ways. While `other` keeps a
        // transaction open, `one` cannot get its session.
        answered(other.execute("begin")).await?;
        let second = backend(other).await?;
        let again = timeout(PATIENCE, backend(one)).await;
        answered(other.execute("rollback")).await?;
        if first == second || !matches!(again, Ok(Ok(pid)) if pid == first) {
            return Err(Error::TransactionPooler);
        }
    }
    Ok(())
}

async fn backend(connection: &mut PgConnection) -> sqlx::Result<String> {
    connection.fetch_one("select pg_backend_pid()::text").await?.try_get(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_waits_its_turn_and_a_service_does_not() {
        assert!(statement(Session::Service).contains("set lock_timeout = 2000"));
        assert!(statement(Session::Tool).contains("set lock_timeout = 0"));
    }

    #[test]
    fn each_setting_is_said_once() {
        let mut names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
    }
}
