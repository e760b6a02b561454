//! Turns what happened into inputs of the schedule.

use std::time::Duration;

use tokio::task::JoinError;

use crate::telemetry;
use crate::worker::leased::Leased;
use crate::worker::schedule::Input;

use super::{Dispatcher, now};

impl Dispatcher {
    /// An attempt ended; takes those as well that ended meanwhile. Panics of a handler are caught where it runs, so an
    /// error here is a bug of the worker. The lease of that event runs out.
    pub(super) fn take_ended(&mut self, ended: Result<Duration, JoinError>) {
        let (now, mut ended) = (now(), Some(ended));
        while let Some(attempt) = ended {
            if let Err(error) = &attempt {
                tracing::error!(
                    %error,
                    "an attempt ended without being settled; its event is claimed again when the lease runs out"
                );
            }
            self.schedule.on(now, Input::Ended { took: attempt.ok() });
            ended = self.attempts.try_join_next();
        }
    }

    /// A claim returned.
    pub(super) fn take_claim(&mut self, answer: Result<Input<Leased>, JoinError>) {
        let mut input = answer.unwrap_or_else(|error| {
            tracing::error!(%error, "a claim broke off; the next poll tries again");
            Input::ClaimFailed
        });
        if let Input::Claimed(claimed) = &mut input {
            self.note_claimed(claimed.items.len());
            for item in &mut claimed.items {
                item.keep_if_suspect(&self.shared.lease_renewer);
            }
        }
        self.schedule.on(now(), input);
    }

    /// Completions have leased successors: takes `first`, and all others that have arrived.
    pub(super) fn take_successors(&mut self, first: Option<Leased>) {
        let (now, mut next) = (now(), first.or_else(|| self.successors.try_recv().ok()));
        while let Some(mut successor) = next {
            self.note_claimed(1);
            successor.keep_if_suspect(&self.shared.lease_renewer);
            self.schedule.on(now, Input::Leased(successor));
            next = self.successors.try_recv().ok();
        }
    }

    /// A statement that hands events back has ended.
    pub(super) fn take_hand_back(&mut self, answer: Result<Input<Leased>, JoinError>) {
        let input = answer.unwrap_or_else(|error| {
            tracing::error!(%error, "a hand-back broke off; the leases run out by themselves");
            Input::HandedBack { events: 0 }
        });
        if let Input::HandedBack { events } = input {
            self.handed_back += events;
        }
        self.schedule.on(now(), input);
    }

    fn note_claimed(&mut self, count: usize) {
        metrics::counter!(telemetry::metric::CLAIMS_TOTAL).increment(count as u64);
        self.claimed += count as u64;
    }
}
