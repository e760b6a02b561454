//! A simulation of two workers and one outbox, without any IO. The schedules are the real ones. The outbox is a model,
//! and so is everything in between: answers that come late or get lost, outages, workers that vanish, handlers that
//! become slow.
//!
//! Time is simulated as well, so hours pass in a second. A seed decides everything that is random. The invariants of
//! ARCHITECTURE.md are assertions in [`audit`] and where the simulated workers act.

mod audit;
mod histories;
mod job;
mod outbox;
mod settle;
mod worker;
mod world;

use std::time::Duration;

/// What a history is made of.
#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    /// One for each worker.
    concurrency: Vec<usize>,
    lease: Duration,
    events: usize,
    /// How many keys the events have; with 0, none has one.
    keys: u32,
    /// Do most events arrive in the same moment?
    is_flood: bool,
    handlers: Handlers,
    faults: Faults,
}

/// How long handlers take.
#[derive(Clone, Copy, Debug)]
enum Handlers {
    /// Less than a millisecond.
    Quick,
    /// As `Quick`, but one in ten takes seconds.
    Mixed,
    /// Up to this.
    Within(Duration),
    /// Less than a millisecond during the first seconds, then up to some seconds.
    BecomingSlow,
}

/// What goes wrong, during the first minute.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// Some answers take as long as a statement may take, which may be longer than a lease.
    late_answers: bool,
    /// Some statements are carried out or not, and their worker gets no answer.
    lost_answers: bool,
    /// For some seconds no statement of one worker reaches the database.
    outages: bool,
    /// Workers vanish.
    crashes: bool,
    /// Every worker that runs a certain event vanishes.
    poison: bool,
    /// Some attempts fail, and are made again later.
    failures: bool,
    /// No hint arrives.
    no_hints: bool,
}
