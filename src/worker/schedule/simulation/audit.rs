//! Checks what has to hold at every moment.

use std::time::{Duration, Instant};

use super::super::Item;
use super::job::Job;
use super::world::{MS, World};

/// Invariant 5: a claimed event that could not start within this time is handed back.
const WAIT_MAX: Duration = Duration::from_millis(500);
const AUDIT_PAUSE: Duration = Duration::from_millis(100);
/// Full scans are ten seconds apart at the most, polls a second and a quarter.
const CLAIMED_WITHIN: Duration = Duration::from_secs(13);

impl World {
    pub(super) fn audit_start(&self, id: usize, job: &Job, is_alone: bool) {
        let (now, worker) = (self.now, &self.workers[id]);
        assert_eq!(self.running.get(&job.id), None, "event {} runs on two workers at once", job.id);
        assert!(now < job.leased_until(), "event {} starts after its lease may have run out", job.id);
        assert!(worker.attempts.len() < worker.concurrency, "worker {id} runs too many attempts");
        assert!(!worker.is_alone, "event {} starts beside one that has to run alone", job.id);
        assert_eq!(job.is_suspect(), is_alone, "event {}, after {} crashes", job.id, job.crashes);
        if is_alone {
            assert!(worker.attempts.is_empty(), "the suspect {} does not run alone", job.id);
            assert!(worker.settling.is_empty(), "the suspect {} takes what is being settled along", job.id);
        } else {
            assert!(now - job.arrived_at <= WAIT_MAX, "event {} waited for too long", job.id);
        }
        let key = self.outbox.events[job.id].key;
        let is_of_key = |other: &usize| key.is_some() && self.outbox.events[*other].key == key;
        assert!(!self.running.keys().any(is_of_key), "two events of key {key:?} run at once");
    }

    /// A worker that waits must have something that ends the wait.
    pub(super) fn audit_wait(&self, id: usize, until: Option<Instant>) {
        let worker = &self.workers[id];
        assert!(until.is_none_or(|until| until > self.now), "worker {id} waits for the past");
        let is_busy = !worker.attempts.is_empty() || !worker.settling.is_empty() || worker.statements > 0;
        assert!(
            is_busy || until.is_some() || worker.schedule.listens(),
            "worker {id} waits for nothing, and does not listen: {:?}",
            worker.schedule
        );
    }

    pub(super) fn audit_from_now_on(&mut self) {
        self.audit();
        self.later(AUDIT_PAUSE, Self::audit_from_now_on);
    }

    fn audit(&mut self) {
        let now = self.now;
        let longest = self.outbox.longest_claimable();
        for (id, worker) in self.workers.iter_mut().enumerate().filter(|(_, worker)| worker.is_there) {
            let waiting = worker.schedule.waiting();
            for job in waiting.filter(|job| !job.is_suspect()) {
                assert!(now - job.arrived_at <= WAIT_MAX, "event {} waits for too long: invariant 5", job.id);
            }
            let taken = worker.attempts.len() + worker.settling.len() + worker.schedule.waiting().count();
            let is_free = taken < worker.concurrency
                && !worker.is_alone
                && worker.statements == 0
                && worker.is_away_until <= now
                && worker.alive_until.is_some_and(|until| now < until);
            worker.free = if is_free { worker.free + 1 } else { 0 };
            if let Some((since, event)) = longest
                && AUDIT_PAUSE * worker.free > CLAIMED_WITHIN
            {
                assert!(
                    now - since.min(now) < CLAIMED_WITHIN,
                    "event {event} waits, and worker {id} is free"
                );
            }
        }
    }

    /// Lets time pass, up to `limit`, until the event's handler has started. Returns when it did.
    pub(super) fn started_within(&mut self, event: usize, limit: Duration) -> Instant {
        let until = self.now + limit;
        self.run_until(|world| world.started.contains_key(&event) || world.now > until + MS);
        *self.started.get(&event).unwrap_or_else(|| panic!("event {event} did not start within {limit:?}"))
    }
}
