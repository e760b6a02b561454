//! What goes into the schedule, and what comes out of it.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::Turn;

/// A claimed event, as far as the schedule has to know it.
pub(in crate::worker) trait Item {
    /// The time that orders events.
    fn created_at(&self) -> DateTime<Utc>;
    /// A moment before the statement that leased it.
    fn claimed_at(&self) -> Instant;
    /// Until when the lease is surely ours.
    fn leased_until(&self) -> Instant;
    /// Would its next crash be its last? It may be what kills its workers, so it runs alone.
    fn is_suspect(&self) -> bool;
}

/// Something that happened.
#[derive(Debug)]
pub(in crate::worker) enum Input<T> {
    /// A poll is due, a hint came, or a completion has made another event claimable.
    Look,
    /// As `Look`, and the next claim scans from the oldest event on.
    LookEverywhere,
    /// A claim returned.
    Claimed(Claimed<T>),
    /// A claim returned an error. It may have leased events all the same.
    ClaimFailed,
    /// A completion leased the next event of its key.
    Leased(T),
    /// An attempt ended. `took` is how long its handler ran; `None` if the attempt broke off.
    Ended { took: Option<Duration> },
    /// The answer to a completion was lost. It may have leased events.
    AnswerLost,
    /// The statement that hands events back has ended. This worker still had `events` of them leased.
    HandedBack { events: u64 },
    /// The statement that hands strays back has ended, with their number, or `None` if it failed.
    StraysHandedBack(Option<u64>),
    /// The worker stops: nothing starts any more.
    Stop,
}

/// What a claim returned.
#[derive(Debug)]
pub(in crate::worker) struct Claimed<T> {
    /// What was asked.
    pub(in crate::worker) ask: Ask,
    /// The events, oldest first.
    pub(in crate::worker) items: Vec<T>,
    /// How many noted keys got their heads, and how many were left because another session has locked them.
    pub(in crate::worker) keys_settled: i64,
    pub(in crate::worker) keys_left: i64,
    /// The claim left out what needs an API that does not answer, and began then.
    pub(in crate::worker) left_out_at: Option<DateTime<Utc>>,
    /// When the statement began, and when its answer came.
    pub(in crate::worker) began: Instant,
    pub(in crate::worker) ended: Instant,
}

/// What to ask of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) struct Ask {
    /// The most events.
    pub(in crate::worker) limit: usize,
    /// Looks only at events that were created then or later; with `None`, at all.
    pub(in crate::worker) cursor: Option<DateTime<Utc>>,
    /// Does the claim first give noted keys their heads?
    pub(in crate::worker) settles: bool,
}

/// What to do now.
#[derive(Debug, PartialEq)]
pub(in crate::worker) enum Action<T> {
    /// From now on, completions lease successors as this says.
    SetTurn(Turn),
    /// Start an attempt.
    Start(T),
    /// Start an attempt; nothing else runs until it has ended.
    StartAlone(T),
    /// Begin a claim.
    Claim(Ask),
    /// Give these back to the outbox.
    HandBack(Vec<T>),
    /// Give back every event that the database has leased to this worker and that the worker does not know of.
    HandBackStrays,
    /// Do nothing before the next input or this time.
    Wait { until: Option<Instant> },
}

/// What the schedule has to know of its surroundings, at the time of a decision.
#[derive(Clone, Copy, Debug)]
pub(in crate::worker) struct Outside {
    /// How many attempts have ended and wait for the commit that settles them.
    pub(in crate::worker) settling: usize,
    /// Until when this worker's sign of life counts for others. The worker claims nothing without one.
    pub(in crate::worker) alive_until: Option<Instant>,
}

impl Outside {
    /// Does this worker's sign of life count at `now`?
    pub(super) fn gives_sign(self, now: Instant) -> bool {
        self.alive_until.is_some_and(|until| now < until)
    }
}
