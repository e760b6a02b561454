//! What stands in the place of a client where an account is not configured: it answers every call with that.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Error;
use crate::event::ANTHROPIC;

/// An account that is not configured.
#[derive(Debug)]
pub(super) struct Missing {
    /// Which one, and what to do.
    said: String,
    /// Somebody has been told so.
    is_told: AtomicBool,
}

impl Missing {
    /// The account of this name.
    pub(super) fn account(name: &str) -> Self {
        let given = if name == ANTHROPIC {
            "ANTHROPIC_API_KEY is given".to_owned()
        } else {
            format!("the file of RESTANTE_CONFIG has an [account.{name}]")
        };
        Self::new(format!("the account `{name}` is not configured: what belongs to it waits until {given}"))
    }

    /// Any account, for an event that belongs to none.
    pub(super) fn any() -> Self {
        Self::new(
            "no account is configured for events that belong to none: that is `anthropic`, or the only one"
                .to_owned(),
        )
    }

    fn new(said: String) -> Self {
        Self { said, is_told: AtomicBool::new(false) }
    }

    /// The answer to every call.
    pub(super) fn error(&self) -> Error {
        let is_first = !self.is_told.swap(true, Ordering::Relaxed);
        Error::NotConfigured { said: self.said.clone(), is_first }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}
