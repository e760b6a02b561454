//! Simulated attempts, from their start until they are settled.

use std::time::{Duration, Instant};

use super::super::{Input, Item, Turn};
use super::job::Job;
use super::world::{MS, World};

impl World {
    pub(super) fn start(&mut self, id: usize, job: Job, is_alone: bool) {
        self.audit_start(id, &job, is_alone);
        let event = job.id;
        self.running.insert(event, id);
        self.started.entry(event).or_insert(self.now);
        self.workers[id].attempts.insert(event, job.clone());
        self.workers[id].is_alone = is_alone;
        self.lose_when_it_ends(id, &job);
        let took = self.handler_time();
        if self.plan.faults.poison && event == 0 && job.crashes < 3 {
            self.later_for(id, took / 2, move |world| world.crash(id));
        }
        self.later_for(id, took, move |world| world.end(id, job, took));
    }

    /// Cancels the attempt when its lease may have run out.
    fn lose_when_it_ends(&mut self, id: usize, job: &Job) {
        let (event, token, until) = (job.id, job.token, job.leased_until());
        self.later_for(id, until - self.now, move |world| {
            let attempt = world.workers[id].attempts.get(&event).filter(|job| job.token == token).cloned();
            match attempt {
                Some(job) if job.leased_until() > world.now => world.lose_when_it_ends(id, &job),
                Some(job) => {
                    world.ended(id, &job, None);
                    // If no other worker has claimed the event since, it can be handed back.
                    if !world.is_away(id) {
                        world.outbox.hand_back(world.now, &[(job.id, job.token)]);
                    }
                    world.go_on(id);
                }
                None => {}
            }
        });
    }

    fn ended(&mut self, id: usize, job: &Job, took: Option<Duration>) {
        self.workers[id].attempts.remove(&job.id);
        self.workers[id].is_alone = false;
        self.running.remove(&job.id);
        self.on(id, Input::Ended { took });
    }

    /// The handler returned.
    fn end(&mut self, id: usize, job: Job, took: Duration) {
        if self.workers[id].attempts.get(&job.id).is_none_or(|running| running.token != job.token) {
            return;
        }
        let has_failed = self.fault(self.plan.faults.failures, 20);
        if has_failed && !self.is_away(id) {
            let at = self.now + self.within(8000 * MS);
            self.outbox.retry(job.id, job.token, at);
            self.ended(id, &job, Some(took));
        } else if self.chance(30) {
            // The handler wrote something, so its own commit settles the event.
            let now = self.now;
            let is_lost = self.is_away(id) || self.fault(self.plan.faults.lost_answers, 5);
            if !is_lost {
                self.finish(id, &job, now);
            } else {
                self.on(id, Input::AnswerLost);
            }
            self.ended(id, &job, Some(took));
        } else {
            self.workers[id].settling.insert(job.id, job.clone());
            self.workers[id].to_commit.push(job.clone());
            self.ended(id, &job, Some(took));
            self.commit(id);
        }
        self.go_on(id);
    }

    /// Settles one event by a statement that began at `began`, and takes in the successor that it leased.
    fn finish(&mut self, id: usize, job: &Job, began: Instant) {
        let turn = self.workers[id].turn;
        let Some(finished) = self.outbox.finish(self.now, (job.id, job.token), id, turn) else { return };
        if let Some(lease) = finished.next {
            self.on(id, Input::Leased(Job::new(lease, began, self.now, self.plan.lease)));
        }
        if finished.is_unblocked {
            self.on(id, Input::Look);
        }
    }

    /// Begins a commit of all events that wait for one, unless one is under way.
    fn commit(&mut self, id: usize) {
        let worker = &mut self.workers[id];
        if worker.is_committing || worker.to_commit.is_empty() {
            return;
        }
        worker.is_committing = true;
        let batch = std::mem::take(&mut worker.to_commit);
        let (began, turn) = (self.now, worker.turn);
        let way_there = self.within(3 * MS);
        self.later(way_there, move |world| world.commit_arrives(id, batch, began, turn));
    }

    fn commit_arrives(&mut self, id: usize, batch: Vec<Job>, began: Instant, turn: Turn) {
        let is_away = self.is_away(id);
        let is_lost = is_away || self.fault(self.plan.faults.lost_answers, 10);
        let is_done = !is_away && (!is_lost || self.chance(50));
        let mut next = Vec::new();
        let mut is_unblocked = false;
        for job in batch.iter().filter(|_| is_done) {
            if let Some(finished) = self.outbox.finish(self.now, (job.id, job.token), id, turn) {
                next.extend(finished.next);
                is_unblocked |= finished.is_unblocked;
            }
        }
        let way_back = self.way_back();
        self.later_for(id, way_back, move |world| {
            world.workers[id].is_committing = false;
            if is_lost {
                world.on(id, Input::AnswerLost);
                batch.into_iter().for_each(|job| world.settle_alone(id, job));
            } else {
                for job in &batch {
                    world.workers[id].settling.remove(&job.id);
                }
                let (now, lasts) = (world.now, world.plan.lease);
                next.into_iter()
                    .for_each(|lease| world.on(id, Input::Leased(Job::new(lease, began, now, lasts))));
                if is_unblocked {
                    world.on(id, Input::Look);
                }
            }
            world.commit(id);
            world.go_on(id);
        });
    }

    /// Settles an event of a commit whose answer was lost, as soon as the database answers.
    fn settle_alone(&mut self, id: usize, job: Job) {
        let delay = 5 * MS + self.within(200 * MS);
        self.later_for(id, delay, move |world| {
            if world.is_away(id) {
                return world.settle_alone(id, job);
            }
            world.outbox.finish(world.now, (job.id, job.token), id, Turn::Nobody);
            world.workers[id].settling.remove(&job.id);
            // Either this statement or the one before may have made a successor claimable.
            world.on(id, Input::Look);
            world.go_on(id);
        });
    }
}
