//! A simulated worker. It carries out what its schedule decides, as the dispatcher does.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::super::{Action, Ask, Claimed, Input, Item, Outside, STRAY_AGE, Schedule, Turn};
use super::job::Job;
use super::world::{ANSWER_MAX, MS, World};

pub(super) struct Worker {
    pub(super) schedule: Schedule<Job>,
    pub(super) concurrency: usize,
    /// False once it has vanished.
    pub(super) is_there: bool,
    pub(super) attempts: HashMap<usize, Job>,
    pub(super) is_alone: bool,
    /// Attempts that have ended and are being settled, and those of them that wait for the next commit.
    pub(super) settling: HashMap<usize, Job>,
    pub(super) to_commit: Vec<Job>,
    pub(super) is_committing: bool,
    pub(super) turn: Turn,
    pub(super) alive_until: Option<Instant>,
    wait_until: Option<Instant>,
    has_hint: bool,
    pub(super) is_away_until: Instant,
    /// How many statements of the schedule are under way.
    pub(super) statements: usize,
    /// In how many audits in a row it could have claimed an event.
    pub(super) free: u32,
}

impl World {
    pub(super) fn start_worker(&mut self, concurrency: usize) {
        let id = self.workers.len();
        self.workers.push(Worker {
            schedule: Schedule::new(concurrency, self.now),
            concurrency,
            is_there: true,
            attempts: HashMap::new(),
            is_alone: false,
            settling: HashMap::new(),
            to_commit: Vec::new(),
            is_committing: false,
            turn: Turn::Nobody,
            alive_until: None,
            wait_until: None,
            has_hint: false,
            is_away_until: self.now,
            statements: 0,
            free: 0,
        });
        self.keep_leases(id);
        self.go_on(id);
        self.poll(id);
        if self.fault(self.plan.faults.crashes, 60) {
            let delay = self.within(20_000 * MS);
            self.later_for(id, delay, move |world| world.crash(id));
        }
        if self.fault(self.plan.faults.outages, 80) {
            let (delay, length) = (self.within(20_000 * MS), self.within(45_000 * MS));
            self.later_for(id, delay, move |world| world.workers[id].is_away_until = world.now + length);
        }
    }

    /// The worker vanishes, and another one starts.
    pub(super) fn crash(&mut self, id: usize) {
        self.workers[id].is_there = false;
        self.running.retain(|_, worker| *worker != id);
        let (delay, concurrency) = (self.within(3000 * MS), self.workers[id].concurrency);
        self.later(delay, move |world| world.start_worker(concurrency));
    }

    pub(super) fn is_away(&self, id: usize) -> bool {
        self.now < self.workers[id].is_away_until
    }

    fn poll(&mut self, id: usize) {
        let delay = 750 * MS + self.within(500 * MS);
        self.later_for(id, delay, move |world| {
            world.hear(id);
            world.poll(id);
        });
    }

    /// A hint or a poll: heard at once, or when the worker listens again.
    pub(super) fn hear(&mut self, id: usize) {
        self.workers[id].has_hint = true;
        if self.workers[id].schedule.listens() {
            self.go_on(id);
        }
    }

    pub(super) fn on(&mut self, id: usize, input: Input<Job>) {
        self.workers[id].schedule.on(self.now, input);
    }

    pub(super) fn go_on(&mut self, id: usize) {
        loop {
            let worker = &mut self.workers[id];
            if worker.has_hint && worker.schedule.listens() {
                worker.has_hint = false;
                worker.schedule.on(self.now, Input::Look);
            }
            let outside = Outside { settling: worker.settling.len(), alive_until: worker.alive_until };
            match worker.schedule.next(self.now, outside) {
                Action::SetTurn(turn) => worker.turn = turn,
                Action::Start(job) => self.start(id, job, false),
                Action::StartAlone(job) => self.start(id, job, true),
                Action::Claim(ask) => self.claim(id, ask),
                Action::HandBack(jobs) => self.hand_back(id, &jobs),
                Action::HandBackStrays => self.hand_back_strays(id),
                Action::Wait { until } => {
                    self.audit_wait(id, until);
                    self.wait(id, until);
                    return;
                }
            }
        }
    }

    fn wait(&mut self, id: usize, until: Option<Instant>) {
        if self.workers[id].wait_until == until {
            return;
        }
        self.workers[id].wait_until = until;
        if let Some(until) = until {
            self.later_for(id, until - self.now, move |world| {
                // Only the time it asked for wakes the worker, so that a wrong time is found out.
                if world.workers[id].wait_until == Some(until) {
                    world.workers[id].wait_until = None;
                    world.go_on(id);
                }
            });
        }
    }

    fn claim(&mut self, id: usize, ask: Ask) {
        self.workers[id].statements += 1;
        let (began, way_there) = (self.now, self.within(5 * MS));
        self.later(way_there, move |world| {
            let is_lost = world.fault(world.plan.faults.lost_answers, 10) || world.is_away(id);
            let is_done = !is_lost || (!world.is_away(id) && world.chance(50));
            let leases =
                if is_done { world.outbox.claim(world.now, id, ask.limit, ask.cursor) } else { Vec::new() };
            let way_back = world.way_back();
            world.later_for(id, way_back, move |world| {
                world.workers[id].statements -= 1;
                let (now, lasts) = (world.now, world.plan.lease);
                let jobs = leases.into_iter().map(|lease| Job::new(lease, began, now, lasts));
                let input = if is_lost {
                    Input::ClaimFailed
                } else {
                    let (items, keys_settled, keys_left) = (jobs.collect(), 0, 0);
                    Input::Claimed(Claimed {
                        ask,
                        items,
                        keys_settled,
                        keys_left,
                        left_out_at: None,
                        began,
                        ended: now,
                    })
                };
                world.on(id, input);
                world.go_on(id);
            });
        });
    }

    pub(super) fn way_back(&mut self) -> Duration {
        let is_late = self.fault(self.plan.faults.late_answers, 5);
        self.within(if is_late { ANSWER_MAX - 5 * MS } else { 5 * MS })
    }

    fn hand_back(&mut self, id: usize, jobs: &[Job]) {
        self.workers[id].statements += 1;
        self.handed_back += jobs.len() as u64;
        let leases: Vec<(usize, u64)> = jobs.iter().map(|job| (job.id, job.token)).collect();
        self.later(MS, move |world| {
            let events = if world.is_away(id) { 0 } else { world.outbox.hand_back(world.now, &leases) };
            world.hint();
            world.later_for(id, MS, move |world| world.statement_ended(id, Input::HandedBack { events }));
        });
    }

    fn hand_back_strays(&mut self, id: usize) {
        let worker = &mut self.workers[id];
        worker.statements += 1;
        let kept = worker.attempts.keys().chain(worker.settling.keys()).copied();
        let known: HashSet<usize> = kept.chain(worker.schedule.waiting().map(|job| job.id)).collect();
        self.later(MS, move |world| {
            let events =
                (!world.is_away(id)).then(|| world.outbox.hand_back_strays(world.now, id, &known, STRAY_AGE));
            world.later_for(id, MS, move |world| world.statement_ended(id, Input::StraysHandedBack(events)));
        });
    }

    fn statement_ended(&mut self, id: usize, input: Input<Job>) {
        self.workers[id].statements -= 1;
        self.on(id, input);
        self.go_on(id);
    }

    /// The lease renewer: gives the sign of life and renews leases, three times within a lease.
    fn keep_leases(&mut self, id: usize) {
        let mut pause = self.plan.lease / 3;
        if self.is_away(id) {
            pause = pause.min(1000 * MS);
        } else {
            let until = self.now + self.plan.lease;
            self.outbox.alive_until.insert(id, until);
            let worker = &mut self.workers[id];
            worker.alive_until = Some(until);
            let suspects = worker.schedule.waiting().filter(|job| job.is_suspect());
            for job in worker.attempts.values().chain(worker.settling.values()).chain(suspects) {
                if self.outbox.renew(self.now, job.id, job.token) {
                    job.renew(until);
                }
            }
        }
        self.later_for(id, pause, move |world| world.keep_leases(id));
    }
}
