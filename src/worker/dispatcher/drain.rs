//! How a worker stops: it starts nothing more, waits for what runs, and hands the rest back.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use crate::worker::schedule::Input;
use crate::{database, outbox};

use super::{Dispatcher, now, statements};

/// How long an attempt that was aborted may take to end. What blocks its thread cannot be aborted, and is not waited for.
const ABORT_WAIT: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Waits for what runs, then hands the rest back. Returns how many events that were.
    pub(in crate::worker) async fn drain(mut self) -> u64 {
        let handed_back = self.drain_leases().await;
        // Others need not wait for this worker's sign.
        self.shared.keeper.stop();
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
        // A claim is waited for however short the drain is: what it leased would not be known.
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

    /// Takes their leases from the attempts that have not ended in time.
    async fn abort(&mut self) {
        // Before they are aborted, because an attempt that ends lets go of its lease.
        let leases = self.shared.keeper.leases();
        self.attempts.abort_all();
        let aborted = async { while self.attempts.join_next().await.is_some() {} };
        let _aborted = timeout(ABORT_WAIT, aborted).await;
        // What was leased by completions that were under way at the end.
        self.take_successors(None);
        self.go_on();
        while let Some(answer) = self.hand_backs.join_next().await {
            self.take_hand_back(answer);
        }
        self.handed_back += statements::hand_back(self.shared.pool.clone(), leases).await;
    }
}
