//! The worker: claims what it can start now, runs its handler, and settles it.
//!
//! A claimed event starts at once, or within a few milliseconds where handlers are that quick: none waits in the worker while
//! its lease runs. The truth is the poll; a hint on the channel only makes it come sooner.

mod api_watch;
mod attempt;
mod commit;
mod dispatcher;
mod finish;
mod floor;
mod group_commit;
mod held_keys;
mod judge;
mod keeper;
mod pace;
mod report;
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

/// Runs until `stop`, then drains. Answers how many events were handed back unfinished.
///
/// # Errors
/// Where the subscriptions can not be written at the start. Later the database may come and go.
pub async fn run(
    settings: Settings,
    pool: PgPool,
    registry: Registry,
    api: api::Client,
    stop: CancellationToken,
) -> Result<u64, database::Error> {
    // A task, which the attempts' threads can go on with. A `main` that waits for it has a thread of its own, which would have
    // to be woken for each turn of the loop.
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
        let upkeep = tokio::spawn(upkeep::run(pool, standing, stop.child_token()));
        loop {
            dispatcher.go_on();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = wakeup.next(), if !dispatcher.is_looking() => dispatcher.look(),
                () = dispatcher.something_ended() => {}
            }
        }
        let handed_back = dispatcher.drain().await;
        let _ended = (upkeep.await, watch.await);
        Ok(handed_back)
    });
    AbortOnDropHandle::new(running).await.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}

/// Runs until nothing is left that may run now, and answers how many attempts that took. For tests of handlers and for
/// programs that work through an outbox once: events that wait for a later time stay.
///
/// # Errors
/// What the database says.
pub async fn run_until_idle(
    settings: Settings,
    pool: PgPool,
    registry: Registry,
    api: api::Client,
) -> Result<u64, database::Error> {
    let mut dispatcher = Dispatcher::start(settings, pool, registry, api).await?;
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
