//! Why a look stopped: because of its kind, or of all.

use crate::api;
use crate::handler::Error;

/// Why a look stopped.
#[derive(Debug)]
pub(super) enum Stopped {
    /// This kind cannot be looked at now. Others may.
    Kind(api::Error),
    /// Nothing can.
    Job(Error),
}

impl From<api::Error> for Stopped {
    fn from(error: api::Error) -> Self {
        match &error {
            // The key may lack a right for one kind.
            api::Error::Account(answer) if answer.status == 403 => Self::Kind(error),
            api::Error::Account(_)
            | api::Error::RateLimited { .. }
            | api::Error::OutOfTurn { .. }
            | api::Error::Transport(_)
            | api::Error::NotConfigured { .. } => Self::Job(error.into()),
            _ => Self::Kind(error),
        }
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Job(error)
    }
}

impl From<sqlx::Error> for Stopped {
    fn from(error: sqlx::Error) -> Self {
        Self::Job(error.into())
    }
}
