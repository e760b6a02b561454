//! How a worker stops: it starts no more attempts, waits for those that run, and hands the other events back.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use crate::worker::schedule::Input;
use crate::{database, outbox};

use super::{Dispatcher, now, statements};

/// How long an aborted attempt may take to end. One that blocks its thread cannot be aborted; the worker does not wait
/// for it.
const ABORT_WAIT: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Waits for running attempts, then hands the other events back. Returns how many were handed back.
    pub(in crate::worker) async fn drain(mut self) -> u64 {
        let handed_back = self.drain_leases().await;
        // So that other workers need not wait until this worker's sign of life runs out.
        self.shared.lease_renewer.stop();
        let signed_off = outbox::lease::sign_off(&self.shared.pool, &self.claimant.owner);
        if let Err(error) = database::answered(signed_off).await {
            tracing::debug!(%error, "the worker could not sign off");
        }
        handed_back
    }

    async fn drain_leases(&mut self) -> u64 {
        let (before, until) = (self.handed_back, Instant::now() + self.drain);
        self.schedule.on(now(), Input::Stop);
        self.go_on();
        // Wait for a claim however short the drain is: otherwise nothing would hand back what it leases.
        while self.schedule.is_asking() {
            self.something_ended().await;
            self.go_on();
        }
        if !self.attempts.is_empty() {
            tracing::info!(attempts = self.attempts.len(), "waiting for the attempts under way");
        }
        let at_rest = async {
            while self.is_busy() {
                self.something_ended().await;
                self.go_on();
            }
        };
        if timeout_at(until, at_rest).await.is_err() {
            self.abort().await;
        }
        self.handed_back - before
    }

    /// Aborts the attempts that have not ended in time, and hands their events back.
    async fn abort(&mut self) {
        // Before the abort, because an attempt that ends drops its lease guard.
        let leases = self.shared.lease_renewer.leases();
        self.attempts.abort_all();
        let aborted = async { while self.attempts.join_next().await.is_some() {} };
        let _aborted = timeout(ABORT_WAIT, aborted).await;
        // Successors that the last completions leased.
        self.take_successors(None);
        self.go_on();
        while let Some(answer) = self.hand_backs.join_next().await {
            self.take_hand_back(answer);
        }
        self.handed_back += statements::hand_back(self.shared.settling.clone(), leases).await;
    }
}
