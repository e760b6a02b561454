//! Why an attempt did not succeed, and what follows from it.

use std::borrow::Cow;
use std::time::Duration;

use crate::outbox::Outcome;
use crate::{api, database, retry};

/// Why an attempt did not succeed, which decides what happens to the event.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// It may work later.
    Retryable(anyhow::Error),
    /// It may work later, but not before this wait is over: the other side said so.
    RetryAfter(Duration, anyhow::Error),
    /// It will never work.
    Permanent(anyhow::Error),
    /// It is too early, for the given reason. The attempt does not count, and earlier failures are forgiven.
    Snooze(Duration, Cow<'static, str>),
    /// The event has not had its turn, for the given reason. The attempt does not count, and earlier failures still do.
    Defer(Duration, Cow<'static, str>),
    /// Something is wrong on our side or on the other side, not with the event: a revoked key, an outage. Once that is
    /// repaired, all events that wait for it run. The attempt does not count, unless the trouble lasts longer than the
    /// handler's [patience](crate::handler::Handler::PATIENCE).
    Trouble(Duration, anyhow::Error),
    /// The attempt has lost its lease, so nothing of it counts.
    LeaseLost,
}

impl Error {
    /// The kind of error, in one word to group failures by: `not_found`, `rate_limited` and so on for errors of the
    /// API, `database`, `payload` if the event could not be read, and otherwise `handler`.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Retryable(error)
            | Error::RetryAfter(_, error)
            | Error::Permanent(error)
            | Error::Trouble(_, error) => kind(error),
            Error::Snooze(..) => "too_early",
            Error::Defer(..) => Outcome::Deferred.as_str(),
            Error::LeaseLost => Outcome::LeaseLost.as_str(),
        }
    }

    /// Was the API not asked because of a trouble that an earlier log line has reported? Then this event needs no line.
    pub(crate) fn is_known(&self) -> bool {
        let Error::Trouble(_, error) = self else { return false };
        let is_first = error.chain().find_map(|cause| match cause.downcast_ref::<api::Error>() {
            Some(api::Error::NotAsked { is_first, .. } | api::Error::NotConfigured { is_first, .. }) => {
                Some(*is_first)
            }
            _ => None,
        });
        is_first == Some(false)
    }

    /// The same error, with `doing` in front: what the worker was doing when it occurred.
    #[must_use]
    pub(crate) fn context(self, doing: &'static str) -> Self {
        match self {
            Error::Retryable(error) => Error::Retryable(error.context(doing)),
            Error::RetryAfter(wait, error) => Error::RetryAfter(wait, error.context(doing)),
            Error::Permanent(error) => Error::Permanent(error.context(doing)),
            Error::Trouble(wait, error) => Error::Trouble(wait, error.context(doing)),
            Error::Snooze(..) | Error::Defer(..) | Error::LeaseLost => self,
        }
    }
}

impl Error {
    /// For the worker: the same error with its wait capped, so that it can be added to any time. `waited` is how long
    /// ago the event was received; if that is longer than `patience`, trouble becomes a failure that counts.
    pub(crate) fn bounded(self, waited: Duration, patience: Duration) -> Self {
        match self {
            Error::Trouble(_, error) if waited > patience => {
                let days = patience.as_secs() / 86_400;
                Error::Retryable(error.context(format!("the trouble lasted longer than {days} days")))
            }
            Error::Trouble(wait, error) => Error::Trouble(wait.min(retry::LONGEST), error),
            Error::RetryAfter(wait, error) => Error::RetryAfter(wait.min(retry::LONGEST), error),
            Error::Snooze(wait, reason) => Error::Snooze(wait.min(retry::LONGEST), reason),
            Error::Defer(wait, reason) => Error::Defer(wait.min(retry::LONGEST), reason),
            other => other,
        }
    }
}

fn kind(error: &anyhow::Error) -> &'static str {
    let of_cause = |cause: &(dyn std::error::Error + 'static)| {
        if let Some(error) = cause.downcast_ref::<api::Error>() {
            Some(error.kind())
        } else if cause.is::<sqlx::Error>() {
            Some("database")
        } else if cause.is::<serde_json::Error>() {
            Some("payload")
        } else {
            None
        }
    };
    error.chain().find_map(of_cause).unwrap_or("handler")
}

/// Classifies an error where it is understood: `parse(text).permanent()?`.
pub trait Classify<T> {
    /// It may work later.
    ///
    /// # Errors
    /// [`Error::Retryable`], for any error.
    fn retryable(self) -> Result<T, Error>;
    /// It will never work.
    ///
    /// # Errors
    /// [`Error::Permanent`], for any error.
    fn permanent(self) -> Result<T, Error>;
}

impl<T, E: Into<anyhow::Error>> Classify<T> for Result<T, E> {
    fn retryable(self) -> Result<T, Error> {
        self.map_err(|error| Error::Retryable(error.into()))
    }

    fn permanent(self) -> Result<T, Error> {
        self.map_err(|error| Error::Permanent(error.into()))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        match code.as_deref() {
            Some(DISK_FULL) => Error::Trouble(MAKE_ROOM, error.into()),
            _ if is_refused_for_good(&error) => Error::Permanent(error.into()),
            // An outage, a failover or a deadlock says nothing of the event, and must not use up its attempts.
            _ if database::is_unavailable(&error) => Error::Trouble(AGAIN_SOON, error.into()),
            Some(code) if is_of_ours(code) => Error::Trouble(ASK_AGAIN, error.into()),
            _ => Error::Retryable(error.into()),
        }
    }
}

/// SQLSTATE `disk_full`.
const DISK_FULL: &str = "53100";

/// Will the database never take the values of the statement? Classes of SQLSTATE, as in appendix A of the Postgres manual:
/// data exceptions, and limits such as the size of what an index can hold.
fn is_refused_for_good(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(error, sqlx::Error::Encode(_))
        || code.as_deref().and_then(|code| code.get(..2)).is_some_and(|class| matches!(class, "22" | "54"))
}

/// Is a table, a column or a right missing? A migration or a grant repairs that, for all events.
fn is_of_ours(code: &str) -> bool {
    matches!(
        code.get(..2),
        Some(
            "28" // the login may not do that
            | "3D" | "3F" // no such database, schema
            | "42" // no such table, column or function, or no right to it
        )
    )
}

/// The database is away, or another session has locked the event.
pub(super) const AGAIN_SOON: Duration = Duration::from_secs(1);
/// The disk of the database is full.
const MAKE_ROOM: Duration = Duration::from_secs(30);
/// A person has to repair something, and the worker should notice the repair soon. `api` keeps a backlog from sending
/// requests in vain.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The operator has to configure the account. A worker that has it lets the events go on within seconds, so this may be
/// long: a backlog must not keep the other workers busy.
const CONFIGURE: Duration = Duration::from_secs(10 * 60);
/// Something other than the API answered, or the answer is not about what was asked.
const ODD: Duration = Duration::from_secs(60);
/// If the API asks for fewer requests and does not say for how long.
const SLOW_DOWN: Duration = Duration::from_secs(30);

impl From<api::Error> for Error {
    fn from(error: api::Error) -> Self {
        use api::Error as Api;
        match error {
            Api::NotAsked { wait, .. } => Error::Trouble(wait, error.into()),
            // Nothing is wrong: others have the places that the limit leaves.
            Api::OutOfTurn { wait } => {
                Error::Defer(wait, "the API's limit leaves no place for the call now".into())
            }
            Api::NotConfigured { .. } => Error::Trouble(CONFIGURE, error.into()),
            // Something is wrong on our side or on the API's: the events wait for the repair, and are not given up.
            Api::RateLimited { retry_after, .. } => {
                Error::Trouble(retry_after.unwrap_or(SLOW_DOWN), error.into())
            }
            Api::Malformed { .. } => Error::Trouble(ODD, error.into()),
            _ if error.is_trouble() => Error::Trouble(error.retry_after().unwrap_or(ASK_AGAIN), error.into()),
            // It may only be too early.
            Api::NotFound(_) => Error::Retryable(error.into()),
            // Something is wrong with the event.
            _ => Error::Permanent(error.into()),
        }
    }
}
