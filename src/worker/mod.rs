//! The worker: claims events, runs their handlers, and settles them.
//!
//! # The states of an event in a worker
//!
//! ```text
//!            claim, or a completion that leases the successor
//!                               │
//!                               ▼
//!   hand back ◀──500 ms──── waiting ────a free place──▶ running ──the handler returns──▶ settling ──▶ settled
//!       ▲                       │                          ▲                                │
//!       │ lease lost            ▼ two crashes              │ nothing else runs              └─▶ its successor waits
//!       └──────────────────  suspect ──────────────────────┘
//! ```
//!
//! * **Waiting**: the event is leased to this worker and has not started. The worker starts it as soon as fewer attempts run than
//!   it has places. Where handlers are quick, the worker claims up to 20 ms of work ahead.
//! * **Suspect**: two workers vanished while they ran the event. It starts when nothing else runs, and nothing else starts
//!   before it has ended. The lease keeper renews its lease meanwhile.
//! * **Running**: its handler runs. The lease keeper renews the lease from a thread of its own.
//! * **Settling**: the handler returned, and the commit that says so is under way. The event keeps its place, because the answer
//!   may bring the next event of its key.
//!
//! The worker itself is in one of three states. It *looks* while a claim is due or under way; it *listens* for hints and polls
//! otherwise; it *stops* after it was told to: then it hands back what waits, lets run what runs, and claims nothing.
//!
//! # What the worker promises
//!
//! 1. An event waits for half a second at most. What could not start by then is handed back, and another worker can run it.
//! 2. A worker never runs more attempts than it has places.
//! 3. An older event does not wait for the end of a long key. While a claim is due, a completion leases successors only up to the
//!    claim cursor; a claim that found no place for a second gets the next ones.
//! 4. No wake-up is lost. A worker that waits has an attempt, a statement or a timer that ends the wait, or it listens. Polls
//!    are the truth; a hint only makes them come sooner.
//! 5. What lies below the claim cursor is found by a full scan, which comes within ten seconds.
//! 6. A worker claims nothing without a sign of life in the database. Without one, others could not tell its crash from a pause.
//! 7. A suspect runs alone, so that it takes no other event along.
//!
//! The order within a key and the exclusion between workers are not promises of this module: the outbox keeps them, by heads
//! and by lease tokens. A worker that breaks all of the above still settles nothing that is not its own.
//!
//! # What a late answer can do
//!
//! A statement is given up after five seconds, and Postgres may carry it out all the same. Therefore:
//!
//! * A **claim** that comes late brings leases that have been running meanwhile. Each lease counts from before the statement, by the
//!   worker's clock; an event whose lease may have run out does not start, and is handed back.
//! * A claim or a completion whose answer is **lost** may have leased events that the worker does not know: strays. Ten seconds
//!   later, when no answer can be on its way any more, the worker hands back whatever Postgres says it has leased and it
//!   does not know.
//! * A **completion** that comes after the lease is gone changes nothing, because its token is not the row's any more.
//! * A **hand-back** that comes late, or twice, changes nothing either, for the same reason.
//! * A **renewal** that comes late never makes a lease longer than the database granted, because the time counts from before it.
//!
//! # Where things are
//!
//! `schedule` decides, as a state machine without IO; `dispatcher` carries out, and reports what happened. `attempt` is one run
//! of a handler, which `watch` watches; `judge` says what its error means. `commit`, `group_commit` and `finish` settle it, `report`
//! counts and tells what came of it, and `successors` leases the next event of its key along with that. `keeper` renews leases. `wakeup`, `upkeep` and `api_watch` run beside them.

mod api_watch;
mod attempt;
mod commit;
mod dispatcher;
mod finish;
mod group_commit;
mod judge;
mod keeper;
mod leased;
mod report;
mod schedule;
mod successors;
mod upkeep;
mod wakeup;
mod watch;

use std::panic::resume_unwind;
use std::time::Duration;

use secrecy::SecretString;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::registry::Registry;
use crate::{api, batch, database};

use dispatcher::Dispatcher;
use wakeup::Wakeup;

/// How a worker works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the worker is called in `lease_owner`; a few random characters are added.
    pub name: String,
    /// Where the outbox is; for the connections that are no part of the pool.
    pub database_url: SecretString,
    /// How many handlers run at once.
    pub concurrency: usize,
    /// How long a lease lasts. It is renewed three times within that, while the handler lives.
    pub lease: Duration,
    /// How often to look for work that nobody gave a hint of, more or less.
    pub poll: Duration,
    /// How long to wait for handlers when told to stop; then their events are handed back.
    pub drain: Duration,
}

impl Settings {
    /// The usual: 64 handlers at once, leases of 30 s, a poll every second, 20 s to drain.
    pub fn new(name: impl Into<String>, database_url: SecretString) -> Self {
        Self {
            name: name.into(),
            database_url,
            concurrency: 64,
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            drain: Duration::from_secs(20),
        }
    }
}

/// Runs until `stop`, then drains. Returns how many events were handed back unfinished.
///
/// # Errors
/// The subscriptions cannot be written at the start. Later the database may come and go.
pub async fn run(
    settings: Settings,
    pool: PgPool,
    registry: Registry,
    api: impl Into<api::Accounts>,
    stop: CancellationToken,
) -> Result<u64, database::Error> {
    // A task, which the attempts' threads can go on with. A `main` that waits for it has a thread of its own, which would have
    // to be woken for each turn of the loop.
    let api = api.into();
    let running = tokio::spawn(async move {
        let (url, poll) = (settings.database_url.clone(), settings.poll);
        let standing = batch::standing_jobs(&registry);
        let watch = tokio::spawn(api_watch::run(api.clone(), stop.child_token()));
        let mut dispatcher = tokio::select! {
            started = Dispatcher::start(settings, pool.clone(), registry, api) => started?,
            // The lease keeper may find no connection, and nothing is claimed before it has one.
            () = stop.cancelled() => return Ok(0),
        };
        let mut wakeup = Wakeup::start(&url, poll, stop.child_token());
        let upkeep = tokio::spawn(upkeep::run(pool, dispatcher.connections(), standing, stop.child_token()));
        loop {
            dispatcher.go_on();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = wakeup.next(), if dispatcher.listens() => dispatcher.look(),
                () = dispatcher.something_ended() => {}
            }
        }
        let handed_back = dispatcher.drain().await;
        let _ended = (upkeep.await, watch.await);
        Ok(handed_back)
    });
    AbortOnDropHandle::new(running).await.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}

/// Runs until nothing is left that may run now, and returns how many attempts that took. For tests of handlers and for
/// programs that work through an outbox once: events that wait for a later time stay.
///
/// # Errors
/// What the database says.
pub async fn run_until_idle(
    settings: Settings,
    pool: PgPool,
    registry: Registry,
    api: impl Into<api::Accounts>,
) -> Result<u64, database::Error> {
    let mut dispatcher = Dispatcher::start(settings, pool, registry, api.into()).await?;
    loop {
        dispatcher.look_everywhere();
        dispatcher.go_on();
        let claimed_before = dispatcher.claimed();
        while dispatcher.is_busy() {
            dispatcher.something_ended().await;
            dispatcher.go_on();
        }
        if dispatcher.claimed() == claimed_before {
            return Ok(claimed_before);
        }
    }
}
