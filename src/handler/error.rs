//! Why an attempt did not succeed, and what follows from it.

use std::borrow::Cow;
use std::time::Duration;

use crate::{api, database};

/// Why an attempt did not succeed, which decides what happens to the event.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// It may work later.
    Retryable(anyhow::Error),
    /// It may work later, and not before this wait is over: the other side said so.
    RetryAfter(Duration, anyhow::Error),
    /// It will never work.
    Permanent(anyhow::Error),
    /// It is too early, for the reason that is given. All is well: earlier failures are forgiven.
    Snooze(Duration, Cow<'static, str>),
    /// Not now, for the reason that is given: the event has not had its turn. Nothing is counted, and nothing is forgiven.
    Defer(Duration, Cow<'static, str>),
    /// Something is wrong with us or with the other side, and not with the event: a key that was revoked, an outage. Mending
    /// it heals the backlog.
    Trouble(Duration, anyhow::Error),
    /// The lease has gone to somebody else. Nothing of this attempt counts.
    LeaseLost,
}

impl Error {
    /// What kind of error it is, in one word that stays the same over events, to group failures by: `not_found`,
    /// `rate_limited` and so on where the API said it, `database`, `payload` where the event could not be read, and else
    /// `handler`.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Retryable(error)
            | Error::RetryAfter(_, error)
            | Error::Permanent(error)
            | Error::Trouble(_, error) => kind(error),
            Error::Snooze(..) => "too_early",
            Error::Defer(..) => "deferred",
            Error::LeaseLost => "lease_lost",
        }
    }

    /// The same, with what was being done when it came up.
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
        // An outage, a failover or a deadlock says nothing of the event, and must not use up its attempts.
        if database::is_unavailable(&error) {
            Error::Trouble(AGAIN_SOON, error.into())
        } else {
            Error::Retryable(error.into())
        }
    }
}

/// The database is away.
pub(super) const AGAIN_SOON: Duration = Duration::from_secs(1);
/// An account or a base URL that a person has to mend: asked again this often.
const MEND: Duration = Duration::from_secs(10 * 60);
/// Where the API asks for fewer requests and does not say for how long.
const SLOW_DOWN: Duration = Duration::from_secs(30);

impl From<api::Error> for Error {
    fn from(error: api::Error) -> Self {
        use api::Error as Api;
        match error {
            // Something is wrong with us: mending it heals the backlog instead of finding it buried.
            Api::Account(_) | Api::Redirected { .. } | Api::Settings(_) => Error::Trouble(MEND, error.into()),
            Api::RateLimited { retry_after, .. } => {
                Error::Trouble(retry_after.unwrap_or(SLOW_DOWN), error.into())
            }
            Api::Unavailable { retry_after: Some(wait), .. } => Error::RetryAfter(wait, error.into()),
            Api::Unavailable { retry_after: None, .. }
            | Api::NotFound(_)
            | Api::Transport(_)
            | Api::Malformed { .. } => Error::Retryable(error.into()),
            // Something is wrong with the event.
            Api::Refused(_) | Api::ForeignOrigin | Api::BadId => Error::Permanent(error.into()),
        }
    }
}
