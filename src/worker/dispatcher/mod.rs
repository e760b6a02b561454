//! The dispatcher: carries out what the schedule decides, and reports back what happened.
//!
//! It decides nothing itself. Attempts and statements are tasks; when one ends, that is an input of the schedule.

mod drain;
mod inputs;
mod start;
mod statements;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::database::Connections;
use crate::outbox::Lease;
use crate::worker::attempt;
use crate::worker::leased::Leased;
use crate::worker::schedule::{Action, Input, Outside, Schedule};

use statements::Claimant;

/// The shell around the schedule.
pub(super) struct Dispatcher {
    schedule: Schedule<Leased>,
    claimant: Arc<Claimant>,
    shared: Arc<attempt::Shared>,
    /// How long to wait for running attempts at the stop.
    drain: Duration,
    attempts: JoinSet<Duration>,
    claims: JoinSet<Input<Leased>>,
    hand_backs: JoinSet<Input<Leased>>,
    /// Leased when their predecessors were settled.
    successors: mpsc::UnboundedReceiver<Leased>,
    /// When the schedule decides again if nothing happens before.
    wait_until: Option<Instant>,
    claimed: u64,
    handed_back: u64,
}

impl Dispatcher {
    /// The connections that claims use, for the upkeep to share.
    pub(super) fn connections(&self) -> Connections {
        self.claimant.connections.clone()
    }

    /// Makes a claim due.
    pub(super) fn look(&mut self) {
        self.schedule.on(now(), Input::Look);
    }

    /// As [`look`](Self::look), and the claim scans from the oldest event on.
    pub(super) fn look_everywhere(&mut self) {
        self.schedule.on(now(), Input::LookEverywhere);
    }

    /// Does the dispatcher want [`look`](Self::look) to be called on a hint or a poll?
    pub(super) fn listens(&self) -> bool {
        self.schedule.listens()
    }

    /// How many events have been claimed so far.
    pub(super) fn claimed(&self) -> u64 {
        self.claimed
    }

    pub(super) fn is_busy(&self) -> bool {
        !(self.schedule.is_idle(self.outside()) && self.successors.is_empty())
    }

    fn outside(&self) -> Outside {
        let alive_until = self.shared.lease_renewer.alive_until().map(Instant::into_std);
        Outside { settling: self.shared.group_commit.len(), alive_until }
    }

    /// Carries out all actions that are due now.
    pub(super) fn go_on(&mut self) {
        if self.shared.successors.take_lost_answer() {
            self.schedule.on(now(), Input::AnswerLost);
        }
        let (now, outside) = (now(), self.outside());
        loop {
            match self.schedule.next(now, outside) {
                Action::SetTurn(turn) => self.shared.successors.set_turn(turn),
                Action::Start(leased) => self.start_attempt(leased),
                Action::StartAlone(leased) => {
                    tracing::warn!(
                        event.id = leased.claimed.event.event_id,
                        crashes = leased.claimed.crashes,
                        "the event runs alone, because workers vanished while they ran it"
                    );
                    self.start_attempt(leased);
                }
                Action::Claim(ask) => {
                    self.claims.spawn(Arc::clone(&self.claimant).claim(ask));
                }
                Action::HandBack(items) => self.hand_back(&items),
                Action::HandBackStrays => self.hand_back_strays(),
                Action::Wait { until } => {
                    self.wait_until = until.map(Instant::from_std);
                    return;
                }
            }
        }
    }

    fn start_attempt(&mut self, leased: Leased) {
        let (claimed, leased_until) = leased.into_parts();
        self.attempts.spawn(attempt::run(Arc::clone(&self.shared), claimed, leased_until));
    }

    fn hand_back(&mut self, items: &[Leased]) {
        let leases: Vec<Lease> = items.iter().map(|leased| leased.claimed.lease).collect();
        let handed_back = statements::hand_back(self.shared.settling.clone(), leases);
        self.hand_backs.spawn(async move { Input::HandedBack { events: handed_back.await } });
    }

    fn hand_back_strays(&mut self) {
        self.take_successors(None);
        let mut known: Vec<i64> = self.shared.lease_renewer.leases().iter().map(|lease| lease.id).collect();
        known.extend(self.schedule.waiting().map(|leased| leased.claimed.lease.id));
        let (connections, owner) = (self.shared.settling.clone(), self.claimant.owner.clone());
        self.hand_backs.spawn(statements::hand_back_strays(connections, owner, known));
    }

    /// Waits for the next thing that the schedule has to know, and reports it.
    pub(super) async fn something_ended(&mut self) {
        tokio::select! {
            biased;
            Some(ended) = self.attempts.join_next() => self.take_ended(ended),
            Some(answer) = self.claims.join_next() => self.take_claim(answer),
            Some(successor) = self.successors.recv() => self.take_successors(Some(successor)),
            () = self.shared.group_commit.settled() => {}
            () = self.shared.more.notified() => self.look(),
            () = self.shared.left_out.less.notified() => self.look_everywhere(),
            Some(answer) = self.hand_backs.join_next() => self.take_hand_back(answer),
            () = at(self.wait_until) => {}
        }
    }
}

/// Waits until `time`, or forever without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Now, on the clock of the schedule.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}
