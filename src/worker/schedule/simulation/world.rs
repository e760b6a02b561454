//! The simulated clock, the dice, and the queue of steps.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::outbox::Outbox;
use super::worker::Worker;
use super::{Handlers, Plan};

type Step = Box<dyn FnOnce(&mut World)>;

pub(super) const MS: Duration = Duration::from_millis(1);
/// After this time nothing goes wrong any more.
const FAULTS_UNTIL: Duration = Duration::from_secs(60);
/// A statement that has not been answered after this time is given up.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);
/// By then everything has to be done.
const ALL_UNTIL: Duration = Duration::from_secs(30 * 60);

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: StdRng,
    pub(super) start: Instant,
    pub(super) now: Instant,
    steps: BTreeMap<(Instant, u64), Step>,
    serial: u64,
    pub(super) outbox: Outbox,
    /// Including those that have vanished.
    pub(super) workers: Vec<Worker>,
    /// Which worker runs an event's handler.
    pub(super) running: HashMap<usize, usize>,
    /// When the handler of each event began to run for the first time.
    pub(super) started: HashMap<usize, Instant>,
    /// How many events have yet to arrive.
    to_arrive: usize,
    pub(super) handed_back: u64,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let start = Instant::now();
        let mut world = Self {
            rng: StdRng::seed_from_u64(plan.seed),
            start,
            now: start,
            steps: BTreeMap::new(),
            serial: 0,
            outbox: Outbox::new(plan.lease),
            workers: Vec::new(),
            running: HashMap::new(),
            started: HashMap::new(),
            to_arrive: 0,
            handed_back: 0,
            plan,
        };
        for concurrency in world.plan.concurrency.clone() {
            world.start_worker(concurrency);
        }
        world.audit_from_now_on();
        world
    }

    /// A world in which the events of the plan arrive within some seconds.
    pub(super) fn with_events(plan: Plan) -> Self {
        let mut world = Self::new(plan);
        let flood_at = world.within(3000 * MS);
        for _ in 0..world.plan.events {
            let is_of_flood = world.plan.is_flood && world.chance(70);
            let at = if is_of_flood { flood_at } else { world.within(10_000 * MS) };
            let key = if world.plan.keys > 0 && world.chance(70) {
                Some(world.rng.random_range(0..world.plan.keys))
            } else {
                None
            };
            // Events with a key are created when they arrive; others may have been under way for a while.
            let age =
                if key.is_none() && world.chance(20) { world.within(5000 * MS) } else { Duration::ZERO };
            let created_at = world.time_of_day(at) - TimeDelta::from_std(age).unwrap();
            world.arrives(at, created_at, key);
        }
        world
    }

    /// The time of day at `after` into the history.
    pub(super) fn time_of_day(&self, after: Duration) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap() + after
    }

    pub(super) fn arrives(&mut self, after: Duration, created_at: DateTime<Utc>, key: Option<u32>) {
        self.to_arrive += 1;
        self.later(self.start + after - self.now, move |world| {
            world.to_arrive -= 1;
            world.outbox.insert(world.now, created_at, key);
            world.hint();
        });
    }

    /// Sends all workers a hint, unless the plan says that no hint arrives.
    pub(super) fn hint(&mut self) {
        if !self.plan.faults.no_hints {
            let delay = self.within(3 * MS);
            for worker in 0..self.workers.len() {
                self.later_for(worker, delay, move |world| world.hear(worker));
            }
        }
    }

    pub(super) fn later(&mut self, delay: Duration, step: impl FnOnce(&mut Self) + 'static) {
        self.serial += 1;
        self.steps.insert((self.now + delay, self.serial), Box::new(step));
    }

    /// As [`later`](Self::later), unless the worker has vanished by then.
    pub(super) fn later_for(
        &mut self,
        worker: usize,
        delay: Duration,
        step: impl FnOnce(&mut Self) + 'static,
    ) {
        self.later(delay, move |world| {
            if world.workers[worker].is_there {
                step(world);
            }
        });
    }

    /// Lets time pass until `is_over`. Fails when that takes too long.
    pub(super) fn run_until(&mut self, is_over: impl Fn(&Self) -> bool) {
        while !is_over(self) {
            let ((at, _), step) = self.steps.pop_first().expect("workers poll forever");
            assert!(at < self.start + ALL_UNTIL, "not all was done after half an hour: {:?}", self.outbox);
            self.now = at;
            step(self);
        }
    }

    pub(super) fn run_until_all_is_done(&mut self) {
        self.run_until(|world| world.to_arrive == 0 && world.outbox.done == world.outbox.events.len());
        for (key, ledger) in &self.outbox.ledger {
            assert!(ledger.is_sorted(), "key {key} was not handled in order: {ledger:?}");
        }
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// Does a planned fault happen now, with a chance of `percent`?
    pub(super) fn fault(&mut self, is_planned: bool, percent: u32) -> bool {
        is_planned && self.now < self.start + FAULTS_UNTIL && self.chance(percent)
    }

    pub(super) fn within(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.rng.random_range(0.0..1.0))
    }

    pub(super) fn handler_time(&mut self) -> Duration {
        let is_slow = match self.plan.handlers {
            Handlers::Within(longest) => return self.within(longest),
            Handlers::Quick => false,
            Handlers::Mixed => self.chance(10),
            Handlers::BecomingSlow => self.now > self.start + 5000 * MS,
        };
        self.within(if is_slow { 3000 * MS } else { MS })
    }
}
