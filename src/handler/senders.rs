//! Whose events a handler answers.

use crate::event::{ANTHROPIC, Event};

/// Whose events a [`Handler`](crate::Handler) answers, of those that have one of its types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Senders {
    /// Everybody's.
    Any,
    /// Those of the Claude API, from whatever workspace: the events that belong to an account.
    OfTheApi,
    /// Those of the senders with these names in the configuration.
    Named(&'static [&'static str]),
}

impl Senders {
    /// Is the event from one of them?
    pub(crate) fn have_sent(self, event: &Event) -> bool {
        match self {
            Self::Any => true,
            Self::OfTheApi => event.account.is_some(),
            Self::Named(names) => names.contains(&event.sender.as_str()),
        }
    }

    /// May one event be from both? The configuration could give any sender an account; a handler that names such a
    /// sender then comes first, so only `anthropic` counts here.
    pub(crate) fn overlap(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) | (Self::OfTheApi, Self::OfTheApi) => true,
            (Self::OfTheApi, Self::Named(names)) | (Self::Named(names), Self::OfTheApi) => {
                names.contains(&ANTHROPIC)
            }
            (Self::Named(names), Self::Named(others)) => names.iter().any(|name| others.contains(name)),
        }
    }

    /// Does it name the senders? Then it comes before a handler that does not.
    pub(crate) fn are_named(self) -> bool {
        matches!(self, Self::Named(_))
    }
}
