//! Why a stream ended before its message was complete, by what follows from it.

use std::time::Duration;

use crate::api::{Answer, Error};

/// Why a stream ended before its message was complete. No stream can be resumed: another try is a new message, with a cost
/// of its own and perhaps another text.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The API has too much to do (`overloaded_error`).
    #[error("the API broke the message off, being overloaded: {0}")]
    Overloaded(Box<Answer>),
    /// The API failed (`api_error`, `timeout_error`, `conflict_error`, or no type).
    #[error("the API broke the message off: {0}")]
    Unavailable(Box<Answer>),
    /// Too many requests (`rate_limit_error`).
    #[error("the API broke the message off, and asks for fewer requests: {0}")]
    RateLimited(Box<Answer>),
    /// The API refuses this message (`invalid_request_error`, and every type that is not known).
    #[error("the API broke the message off, and refuses the request: {0}")]
    Refused(Box<Answer>),
    /// The key or the account is at fault, not the request (authentication, permission, billing, a spend limit).
    #[error("the API broke the message off, and does not serve this key or account: {0}")]
    Account(Box<Answer>),
    /// The connection broke.
    #[error("the connection broke before the message was complete")]
    Cut(#[source] Error),
    /// The stream ended as if all were well, but without the event that says that the message is complete.
    #[error("the stream ended before the message was complete")]
    Ended,
    /// Nothing arrived for the longest silence that is allowed.
    #[error("nothing of the message arrived for {} s", after.as_secs_f32())]
    Silent {
        /// That time.
        after: Duration,
    },
    /// The stream is not as the API describes it, such as a delta for a block that has not begun.
    #[error("the stream is not as the API describes it: {flaw}")]
    Malformed {
        /// What is wrong with it.
        flaw: &'static str,
    },
}

impl StreamError {
    /// What an error means that the API sent within a stream. The official SDKs retry none of them; a sender of whole
    /// messages would see each with a status, and these classes are those of that status.
    pub(super) fn of(answer: Answer) -> Self {
        let kind = answer.kind.clone();
        let is_of_account = answer.is_of_account();
        let answer = Box::new(answer);
        match kind.as_deref() {
            _ if is_of_account => Self::Account(answer),
            Some("authentication_error" | "permission_error" | "billing_error") => Self::Account(answer),
            Some("rate_limit_error") => Self::RateLimited(answer),
            Some("overloaded_error") => Self::Overloaded(answer),
            // Without a type it says only that the stream is over.
            Some("api_error" | "timeout_error" | "conflict_error") | None => Self::Unavailable(answer),
            Some(_) => Self::Refused(answer),
        }
    }

    /// The error of a request that says the same of the API, if this says something of it.
    pub(super) fn as_trouble_of_api(&self) -> Option<Error> {
        match self {
            Self::Overloaded(answer) | Self::Unavailable(answer) => {
                Some(Error::Unavailable { retry_after: None, answer: answer.clone() })
            }
            Self::RateLimited(answer) => {
                Some(Error::RateLimited { retry_after: None, answer: answer.clone() })
            }
            Self::Account(answer) => Some(Error::Account(answer.clone())),
            Self::Refused(_) | Self::Cut(_) | Self::Ended | Self::Silent { .. } | Self::Malformed { .. } => {
                None
            }
        }
    }

    /// May another try, which is a new message, succeed without a person's help and without a change of the request?
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Account(_))
    }

    /// Is something wrong with us, with the API or with the way to it, and not with this message?
    pub fn is_trouble(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    /// The kind of error: one word to group by. Those that [`Error::kind`] has too mean the same.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Overloaded(_) => "overloaded",
            Self::Unavailable(_) => "unavailable",
            Self::RateLimited(_) => "rate_limited",
            Self::Refused(_) => "refused_by_api",
            Self::Account(_) => "account",
            Self::Cut(_) => "cut",
            Self::Ended => "ended",
            Self::Silent { .. } => "silent",
            Self::Malformed { .. } => "malformed",
        }
    }

    /// What the API said, where it said something.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Overloaded(answer)
            | Self::Unavailable(answer)
            | Self::RateLimited(answer)
            | Self::Refused(answer)
            | Self::Account(answer) => Some(answer),
            Self::Cut(_) | Self::Ended | Self::Silent { .. } | Self::Malformed { .. } => None,
        }
    }
}
