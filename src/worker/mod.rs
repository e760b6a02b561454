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
//! * **Waiting**: the event is leased to this worker and has not started. The worker starts it as soon as fewer attempts run
//!   than it has places. If handlers are quick, the worker claims up to 20 ms of work ahead.
//! * **Suspect**: two workers vanished while they ran the event. It starts when nothing else runs, and nothing else starts
//!   before it has ended. The lease renewer renews its lease meanwhile.
//! * **Running**: its handler runs. The lease renewer renews the lease from a thread of its own.
//! * **Settling**: the handler returned, and the commit that says so is under way. The event keeps its place, because the
//!   answer may bring the next event of its key.
//!
//! The worker itself is in one of three states. It *looks* while a claim is due or under way. Otherwise it *listens*
//! for hints and polls. After a signal to stop it *stops*: it hands back waiting events, lets running handlers end, and
//! claims nothing.
//!
//! # What the worker promises
//!
//! 1. A claimed event waits for half a second at most. If it could not start by then, it is handed back, and another worker
//!    can run it.
//! 2. A worker never runs more attempts than it has places.
//! 3. An older event does not wait for the end of a long key. While a claim is due, a completion leases successors only up to
//!    the claim cursor; a claim that found no place for a second gets the next places.
//! 4. No wake-up is lost. A worker that waits has an attempt, a statement or a timer that ends the wait, or it listens. Polls
//!    find every event; a hint only makes a poll come sooner.
//! 5. An event below the claim cursor is found by a full scan, within ten seconds.
//! 6. A worker claims nothing without a sign of life in the database. Without one, other workers could not tell its crash
//!    from a pause.
//! 7. A suspect runs alone, so that a crash hits no other event.
//!
//! The order within a key and the exclusion between workers are not promises of this module: the outbox keeps them, by
//! heads and by lease tokens. Even a worker that breaks all of the above settles no event of another worker.
//!
//! # What a late answer can do
//!
//! The worker gives a statement up after five seconds, but Postgres may still carry it out. Therefore:
//!
//! * A **claim** that returns late brings leases that have already been running. The worker's clock counts each lease from
//!   before the statement; an event whose lease may have run out does not start, and is handed back.
//! * A claim or a completion whose answer is **lost** may have leased events that the worker does not know of: strays. Ten
//!   seconds later no answer can be on its way any more. Then the worker hands back every event that Postgres has leased to
//!   it and that it does not know of.
//! * A **completion** that arrives after the lease is lost changes nothing, because the row has another token by then.
//! * A **hand-back** that arrives late, or twice, changes nothing either, for the same reason.
//! * A **renewal** that returns late never makes the worker believe in a longer lease than the database granted, because the
//!   worker counts from before the statement.
//!
//! # Where things are
//!
//! `schedule` decides, as a state machine without IO; `dispatcher` carries out, and reports what happened. `attempt` is
//! one run of a handler, which `watch` watches; `judge` says what its error means. `commit`, `group_commit` and
//! `finish` settle it, `report` counts and logs the outcome, and `successors` leases the next event of its key with the
//! same statement. `lease_renewer` renews leases. `wakeup`, `upkeep`, of which `health` is a part, `breaker` and
//! `api_watch` run next to them.

mod api_watch;
mod attempt;
mod breaker;
mod coalesce;
mod commit;
mod dispatcher;
mod finish;
mod group_commit;
mod health;
mod judge;
mod key_reports;
mod lease_renewer;
mod leased;
mod report;
mod retention;
mod schedule;
mod shared_budget;
mod successors;
mod twins;
mod upkeep;
mod wakeup;
mod watch;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::database::{Address, Connections};
use crate::registry::Registry;
use crate::{api, batch, database};

use breaker::{Breakers, LeftOut};
use dispatcher::Dispatcher;
use judge::Spread;
use shared_budget::SharedBudget;
use wakeup::Wakeup;

/// How a worker works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the worker is called in `lease_owner`; a few random characters are added.
    pub name: String,
    /// Where the outbox is: for the connections that are not part of the pool.
    pub database_url: Address,
    /// How many handlers run at once.
    pub concurrency: usize,
    /// How long a lease lasts. The worker renews it three times within that, while the handler is alive.
    pub lease: Duration,
    /// How often to look for work without a hint. Each pause is this long, give or take a quarter at random.
    pub poll: Duration,
    /// How long to wait for running handlers at the stop. Then they are aborted, and their events handed back.
    pub drain: Duration,
    /// How long after a batch is complete it is deleted at the API; `None` keeps it there.
    pub batch_delete_after: Option<Duration>,
}

impl Settings {
    /// The usual: 64 handlers at once, leases of 30 s, a poll every second, 20 s to drain, and no batch deleted.
    pub fn new(name: impl Into<String>, database_url: impl Into<Address>) -> Self {
        Self {
            name: name.into(),
            database_url: database_url.into(),
            concurrency: 64,
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            drain: Duration::from_secs(20),
            batch_delete_after: None,
        }
    }
}

/// Runs until `stop`, then drains. Returns how many events were handed back unfinished.
///
/// # Errors
/// The subscriptions could not be written at the start. A later outage of the database is no error: the worker waits
/// for it.
pub async fn run(
    settings: Settings,
    pool: PgPool,
    registry: Registry,
    api: impl Into<api::Accounts>,
    stop: CancellationToken,
) -> Result<u64, database::Error> {
    let api = api.into();
    // As a task, the loop runs on the threads that run the attempts. Run by a `main` that blocks on it, each of its
    // turns would have to wake the main thread.
    let running = tokio::spawn(async move {
        let (url, poll) = (settings.database_url.clone(), settings.poll);
        let duties = upkeep::Duties {
            standing: batch::standing_jobs(&registry),
            accounts: api.clone(),
            batch_delete_after: settings.batch_delete_after,
        };
        let left_out = Arc::new(LeftOut::default());
        // A connection of its own, so that a call waits for no claim.
        let for_calls = Connections::of(&pool, 1);
        api.share(api::SharedByWorkers {
            budget: Arc::new(SharedBudget(for_calls.clone())),
            breaker_news: Arc::clone(&left_out.news),
        });
        let breakers = Breakers {
            owner: settings.name.clone(),
            accounts: api.clone(),
            needs: registry.needs(),
            connections: for_calls.clone(),
            left_out: Arc::clone(&left_out),
            known: BTreeMap::new(),
        };
        let breakers = tokio::spawn(breakers.run(stop.child_token()));
        let watch = tokio::spawn(api_watch::run(api.clone(), stop.child_token()));
        let (name, accounts) = (settings.name.clone(), api.clone());
        let mut dispatcher = tokio::select! {
            started = Dispatcher::start(settings, pool.clone(), &for_calls, registry, api, left_out, Spread::AtRandom) => started?,
            // The start waits for the first sign of life, which may take as long as the database is away.
            () = stop.cancelled() => return Ok(0),
        };
        let mut wakeup = Wakeup::start(&url, poll, stop.child_token());
        let key_reports = key_reports::run(dispatcher.connections(), name, accounts, stop.child_token());
        let key_reports = tokio::spawn(key_reports);
        let upkeep = tokio::spawn(upkeep::run(pool, dispatcher.connections(), duties, stop.child_token()));
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
        let _ended = (upkeep.await, watch.await, breakers.await, key_reports.await);
        Ok(handed_back)
    });
    AbortOnDropHandle::new(running).await.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}

/// Runs until no event is left that may run now, and returns how many attempts that took. Events that wait for a later
/// time stay. For tests of handlers, and for programs that work through an outbox once.
///
/// A failed event waits for the longest time that its [policy](crate::retry::Policy) allows, and not for a random one: so it
/// does not depend on chance whether an event is retried within the same run.
///
/// # Errors
/// The subscriptions could not be written at the start, because the database is away or refuses them.
pub async fn run_until_idle(
    settings: Settings,
    pool: PgPool,
    registry: Registry,
    api: impl Into<api::Accounts>,
) -> Result<u64, database::Error> {
    let for_calls = Connections::of(&pool, 1);
    let mut dispatcher =
        Dispatcher::start(settings, pool, &for_calls, registry, api.into(), Arc::default(), Spread::Longest)
            .await?;
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
