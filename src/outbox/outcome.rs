//! How attempts end. The word of each outcome is defined here, for the metrics, the log and the columns `outcome`.

use std::time::Duration;

/// How an attempt ended. It is known only when the database has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A handler dealt with the event.
    Done,
    /// There is no handler for the event's type.
    Ignored,
    /// It was too early; the attempt does not count, and those that failed before it are forgiven.
    Snoozed,
    /// The event could not run now; the attempt does not count.
    Deferred,
    /// Something is wrong with us, or with the other side; the attempt does not count.
    Trouble,
    /// It failed, and may work later.
    Retryable,
    /// It will never work.
    Permanent,
    /// The handler panicked.
    Panicked,
    /// The handler made no progress for too long.
    TimedOut,
    /// Too many workers vanished while they ran the event.
    Crashed,
    /// The lease was lost before the attempt ended: nothing of the attempt counts.
    LeaseLost,
    /// The database did not answer. The attempt may have been settled; if it was not, the lease runs out, and the event
    /// is claimed again. This is the last variant, as [`ALL`](Self::ALL) needs it.
    Unknown,
}

impl Outcome {
    /// Every outcome. The compiler refuses a list that leaves one out.
    pub const ALL: [Self; Self::Unknown as usize + 1] = [
        Self::Done,
        Self::Ignored,
        Self::Snoozed,
        Self::Deferred,
        Self::Trouble,
        Self::Retryable,
        Self::Permanent,
        Self::Panicked,
        Self::TimedOut,
        Self::Crashed,
        Self::LeaseLost,
        Self::Unknown,
    ];

    /// The word of the outcome.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Ignored => "ignored",
            Self::Snoozed => "snoozed",
            Self::Deferred => "deferred",
            Self::Trouble => "trouble",
            Self::Retryable => "retryable",
            Self::Permanent => "permanent",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed_out",
            Self::Crashed => "crashed",
            Self::LeaseLost => "lease_lost",
            Self::Unknown => "unknown",
        }
    }
}

/// How an event ends well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A handler dealt with it.
    Done,
    /// There is no handler for its type.
    Ignored,
}

impl Finish {
    /// The outcome of its attempt, once the database has agreed.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Done => Outcome::Done,
            Self::Ignored => Outcome::Ignored,
        }
    }
}

/// What happens to an event whose attempt did not succeed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It failed, and runs again after a while.
    Retry {
        /// How it failed.
        failure: Failure,
        /// How long it waits.
        wait: Duration,
    },
    /// It was too early; the attempt does not count, and those that failed before it are forgiven.
    Snooze {
        /// How long it waits.
        wait: Duration,
        /// What for.
        reason: String,
    },
    /// It could not run now; the attempt does not count.
    Defer {
        /// How long it waits.
        wait: Duration,
        /// What for.
        reason: String,
    },
    /// Something is wrong with us, or with the other side; the attempt does not count.
    Trouble {
        /// How long it waits.
        wait: Duration,
        /// What is wrong, in a word to group by: `account`, `transport`, `database`, ...
        kind: &'static str,
        /// What is wrong, for a person.
        reason: String,
    },
    /// It is given up.
    Dead {
        /// How it failed.
        failure: Failure,
        /// Its successors must not pass.
        holds_key: bool,
    },
}

impl Verdict {
    /// The outcome of the attempt, once the database has agreed.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Retry { failure, .. } | Self::Dead { failure, .. } => failure.fault.outcome(),
            Self::Snooze { .. } => Outcome::Snoozed,
            Self::Defer { .. } => Outcome::Deferred,
            Self::Trouble { .. } => Outcome::Trouble,
        }
    }

    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry { failure, .. } | Self::Dead { failure, .. } => &failure.reason,
            Self::Snooze { reason, .. } | Self::Defer { reason, .. } | Self::Trouble { reason, .. } => reason,
        }
    }

    /// What is wrong, in a word to group by; `None` where the event only waits.
    pub const fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Retry { failure, .. } | Self::Dead { failure, .. } => Some(failure.kind),
            Self::Trouble { kind, .. } => Some(kind),
            Self::Snooze { .. } | Self::Defer { .. } => None,
        }
    }

    /// How long the event waits, unless it is given up.
    pub const fn wait(&self) -> Option<Duration> {
        match self {
            Self::Retry { wait, .. }
            | Self::Snooze { wait, .. }
            | Self::Defer { wait, .. }
            | Self::Trouble { wait, .. } => Some(*wait),
            Self::Dead { .. } => None,
        }
    }
}

/// How an attempt failed, and why, as the table `failure` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What ended the attempt.
    pub fault: Fault,
    /// What failed, in a word to group by: `database`, `transport`, `payload`, ...
    pub kind: &'static str,
    /// What failed, for a person.
    pub reason: String,
}

/// What ends an attempt that counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error that may not come up again.
    Retryable,
    /// An error that will come up each time.
    Permanent,
    /// A panic of the handler.
    Panicked,
    /// No progress for too long.
    TimedOut,
    /// Too many workers that vanished.
    Crashed,
}

impl Fault {
    /// The outcome of the attempt, once the database has agreed.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Retryable => Outcome::Retryable,
            Self::Permanent => Outcome::Permanent,
            Self::Panicked => Outcome::Panicked,
            Self::TimedOut => Outcome::TimedOut,
            Self::Crashed => Outcome::Crashed,
        }
    }
}
