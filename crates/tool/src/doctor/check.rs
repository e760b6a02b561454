//! What a check of the database is: a question, the rights that it needs, and a bound on its time.

use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use sqlx::PgConnection;
use tokio::time::timeout;

use super::finding::Finding;
use super::login::Login;
use super::scope::Scope;
use restante::database::told;

/// How long one check may take. Most take milliseconds; the one for notifications waits for 3 s at most.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The database under examination, and what is known of it.
pub(super) struct Database {
    pub(super) connection: PgConnection,
    pub(super) url: SecretString,
    pub(super) login: Login,
    pub(super) scope: Scope,
    /// How many connections the pools of the services in the scope open at most.
    pub(super) pool_connections: i64,
    pub(super) limits: Limits,
    /// The schema is that of a newer release, which may have less of some things than this one.
    pub(super) is_newer: bool,
}

/// From where on something counts as too much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a transaction may be open before it holds vacuum back too long.
    pub(super) transaction: Duration,
    /// How many bytes of its log a server may keep for a replica that is away.
    pub(super) kept_log_bytes: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { transaction: Duration::from_secs(15 * 60), kept_log_bytes: 1 << 30 }
    }
}

/// What a login must be able to see before a check makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Only the server.
    Server,
    /// The schema of this program, by a login that has rights in it.
    Schema,
    /// Unfinished events.
    Events,
    /// Every table and view.
    Everything,
}

impl Needs {
    pub(super) fn are_met_by(self, login: &Login) -> bool {
        match self {
            Needs::Server => true,
            Needs::Schema => login.has_schema && login.may_use && login.sees_version(),
            Needs::Events => login.has_schema && login.sees_events(),
            Needs::Everything => login.has_schema && login.sees_everything(),
        }
    }
}

pub(super) type Asking<'a> = BoxFuture<'a, sqlx::Result<Vec<Finding>>>;

/// A check of the database.
pub(super) struct Check {
    pub(super) subject: &'static str,
    pub(super) needs: Needs,
    pub(super) ask: for<'a> fn(&'a mut Database) -> Asking<'a>,
}

/// Asks within the bound on time. The second value is false if the connection cannot be used any more.
pub(super) async fn findings_of(check: &Check, database: &mut Database) -> (Vec<Finding>, bool) {
    match timeout(CHECK_TIMEOUT, (check.ask)(database)).await {
        Ok(Ok(findings)) => (findings, true),
        Ok(Err(error)) => {
            let says = format!("cannot be examined: {}", told(&error));
            let why = "it is unknown whether it is as it should be";
            (vec![Finding::wrong(check.subject, says, why, "look at the server's log")], true)
        }
        Err(_) => {
            let says = format!("the database does not answer within {} s", CHECK_TIMEOUT.as_secs());
            let why = "the statements of the services take milliseconds, and would hang as this one did";
            let remedy = "look for locks and a full disk: select pid, wait_event_type, wait_event, state, query from \
                          pg_stat_activity";
            (vec![Finding::wrong(check.subject, says, why, remedy)], false)
        }
    }
}
