//! What workers share: places for calls, and what the API's answers told of its limits.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::Method;

/// Calls that the API limits together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Messages.
    Messages,
    /// Batches of messages.
    Batches,
    /// Everything else.
    Objects,
}

impl Class {
    pub(crate) const ALL: [Self; 3] = [Self::Messages, Self::Batches, Self::Objects];

    /// The class of a call, by its method and its path.
    pub(in crate::api) fn of(method: &Method, path: &str) -> Self {
        let (_, rest) = path.split_once("/v1/messages").unwrap_or(("", "-"));
        match rest {
            "" if method == Method::POST => Self::Messages,
            rest if rest.starts_with("/batches") => Self::Batches,
            _ => Self::Objects,
        }
    }

    /// Its name in the database, in log lines and in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Batches => "batches",
            Self::Objects => "objects",
        }
    }
}

/// The budget that workers share.
pub(crate) trait Budget: Debug + Send + Sync {
    /// The next places for so many calls, as far as they lie within `ahead`; `None` if it cannot say.
    fn lease<'a>(
        &'a self,
        account: &'a str,
        class: Class,
        wanted: u32,
        ahead: Duration,
    ) -> BoxFuture<'a, Option<Leased>>;

    /// Notes what an answer told. Returns whether it could.
    fn note<'a>(&'a self, learned: Learned<'a>) -> BoxFuture<'a, bool>;
}

/// What a budget gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Leased {
    /// No limit is known.
    Unlimited,
    /// Somebody else holds the budget at this moment.
    Busy,
    /// Places that follow each other at a pace.
    Places {
        /// How many; none if the first is too far ahead.
        granted: u32,
        /// When the first one is.
        starts_in: Duration,
        /// The pace.
        per_second: f64,
    },
}

/// What an answer told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Learned<'a> {
    pub(crate) account: &'a str,
    pub(crate) class: Class,
    /// The limit on requests that its headers name.
    pub(crate) limit_per_second: Option<f64>,
    /// How many calls this process made in the last second.
    pub(crate) seen_per_second: f64,
    /// It was a 429.
    pub(crate) is_limited: bool,
    /// How long the API wants no calls.
    pub(crate) wait: Option<Duration>,
    /// The API answers again after trouble.
    pub(crate) is_recovered: bool,
    /// The limit on the scarcest kind of token, and how many are left of it.
    pub(crate) tokens: Option<(i64, i64)>,
}

impl<'a> Learned<'a> {
    pub(super) fn nothing(account: &'a str, class: Class, seen_per_second: f64) -> Self {
        Self {
            account,
            class,
            limit_per_second: None,
            seen_per_second,
            is_limited: false,
            wait: None,
            is_recovered: false,
            tokens: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_class_that_the_api_limits_it_by() {
        for (method, path, class) in [
            (Method::POST, "/v1/messages", Class::Messages),
            (Method::POST, "/gateway/v1/messages", Class::Messages),
            (Method::POST, "/v1/messages/batches", Class::Batches),
            (Method::GET, "/v1/messages/batches/b/results", Class::Batches),
            (Method::POST, "/v1/messages/count_tokens", Class::Objects),
            (Method::GET, "/v1/sessions/s", Class::Objects),
        ] {
            assert_eq!(Class::of(&method, path), class, "{method} {path}");
        }
    }
}
