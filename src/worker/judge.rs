//! Decides what happens to an event whose attempt did not succeed.

use std::time::Duration;

use rand::Rng;

use crate::handler::{Deadline, Error};
use crate::outbox::Claimed;
use crate::outbox::outcome::{Failure, Fault, Verdict};
use crate::registry::Route;
use crate::{database, retry};

/// After this many workers vanished while they ran an event, it is given up without another run: it may be what kills
/// them. Its last run is made alone, so that a crash hits no other event.
pub(super) const CRASHES_MAX: i32 = 3;

/// An attempt that did not succeed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The event gets this verdict.
    Judged {
        verdict: Verdict,
        /// An earlier log line has already reported this trouble.
        is_known: bool,
    },
    /// The attempt has lost its lease, so it decides nothing.
    LeaseLost,
}

impl From<Verdict> for Failed {
    fn from(verdict: Verdict) -> Self {
        Self::Judged { verdict, is_known: false }
    }
}

/// How the waits of events that failed together are spread.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spread {
    /// At random, so that the events do not come back together.
    AtRandom,
    /// Not at all: each wait is the longest that it can be.
    Longest,
}

impl Spread {
    /// From zero up to one, which is the longest wait.
    fn draw(self) -> f64 {
        match self {
            Self::AtRandom => rand::rng().random_range(0.0..1.0),
            Self::Longest => 1.0,
        }
    }
}

/// Decides about one claimed event.
pub(super) struct Judge<'a> {
    pub(super) spread: Spread,
    pub(super) claimed: &'a Claimed,
    /// The handler of its type.
    pub(super) route: Option<&'a dyn Route>,
}

/// The spread of a longer wait is that of a wait of this length.
const SPREAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Judge<'_> {
    /// The attempt ended with this error.
    pub(super) fn error(&self, error: Error) -> Failed {
        let (kind, is_known) = (error.kind(), error.is_known());
        let failure = |fault, error: &anyhow::Error| Failure { fault, kind, reason: chain(error) };
        match error {
            Error::Retryable(error) => self.failed(failure(Fault::Retryable, &error), None),
            Error::RetryAfter(wait, error) => self.failed(failure(Fault::Retryable, &error), Some(wait)),
            Error::Permanent(error) => self.dead(failure(Fault::Permanent, &error)),
            Error::Snooze(wait, reason) => Verdict::Snooze { wait, reason: reason.into_owned() }.into(),
            Error::Defer(wait, reason) => Verdict::Defer { wait, reason: reason.into_owned() }.into(),
            Error::Trouble(wait, error) => {
                // Up to a fifth more: otherwise all events in the same trouble would come back at once.
                let spread = (wait.min(SPREAD_MAX) / 5).mul_f64(self.spread.draw());
                let verdict =
                    Verdict::Trouble { wait: wait.saturating_add(spread), kind, reason: chain(&error) };
                Failed::Judged { verdict, is_known }
            }
            Error::LeaseLost => Failed::LeaseLost,
        }
    }

    /// The handler panicked.
    pub(super) fn panicked(&self, reason: String) -> Failed {
        self.failed(Failure { fault: Fault::Panicked, kind: "panic", reason }, None)
    }

    /// The handler made no progress before its deadline.
    pub(super) fn timed_out(&self, deadline: &Deadline) -> Failed {
        let reason = format!("no progress within {} s", deadline.timeout().as_secs_f32());
        self.failed(Failure { fault: Fault::TimedOut, kind: "timeout", reason }, None)
    }

    /// Too many workers vanished while they ran the event: it is given up without another run.
    pub(super) fn crashed(&self) -> Failed {
        let reason = format!("given up: {} workers vanished while they ran the event", self.claimed.crashes);
        self.dead(Failure { fault: Fault::Crashed, kind: "crash", reason })
    }

    /// A standing job for which this worker has no handler. It must not end as `ignored`.
    pub(super) fn left_to_others(&self) -> Failed {
        let reason =
            "this worker has no handler for it, or its search is turned off; another worker may take it";
        Verdict::Defer { wait: Duration::from_secs(60), reason: reason.to_owned() }.into()
    }

    /// A failure that counts: the event is retried, or dead if this was its last attempt.
    fn failed(&self, failure: Failure, retry_after: Option<Duration>) -> Failed {
        let policy = self.route.map_or(retry::Policy::DEFAULT, Route::retry);
        let attempt = u32::try_from(self.claimed.event.attempt).unwrap_or(1);
        let by_person = self.claimed.max_attempts.map(|most| u32::try_from(most).unwrap_or(0));
        if attempt >= by_person.unwrap_or(policy.max_attempts) {
            return self.dead(failure);
        }
        Verdict::Retry { failure, wait: policy.wait(attempt, retry_after, self.spread.draw()) }.into()
    }

    fn dead(&self, failure: Failure) -> Failed {
        Verdict::Dead { failure, holds_key: self.route.is_some_and(Route::dead_holds_key) }.into()
    }
}

/// An error with its causes, in one line.
fn chain(error: &anyhow::Error) -> String {
    database::told(error.as_ref())
}
