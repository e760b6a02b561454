//! The worker: claims what it can start now, runs its handler, and settles it.
//!
//! A claimed event starts at once: none waits in a queue of the worker while its lease runs. The truth is the poll; a hint
//! on the channel only makes it come sooner.

mod attempt;
mod keeper;
mod settling;
mod upkeep;
mod wakeup;

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use secrecy::SecretString;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::registry::Registry;
use crate::{api, database, outbox, telemetry};

use keeper::Keeper;
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
    for (subscriber, event_types) in registry.subscriptions() {
        outbox::upkeep::subscribe(&pool, subscriber, &event_types).await?;
    }
    let wakeup = Wakeup::start(&settings.database_url, settings.poll, stop.child_token());
    let upkeep = tokio::spawn(upkeep::run(pool.clone(), stop.child_token()));
    let worker = Worker::new(settings, pool, registry, api);
    tracing::info!(worker = worker.owner, concurrency = worker.settings.concurrency, "the worker starts");

    let mut running = JoinSet::new();
    worker.work(&mut running, wakeup, &stop).await;
    let handed_back = worker.drain(running).await;
    let _ended = upkeep.await;
    Ok(handed_back)
}

/// Runs until nothing is left that may run now, and answers how many attempts that took. For tests and for programs that
/// work through an outbox once: events that wait for a later time stay.
///
/// # Errors
/// What the database says.
pub async fn run_until_idle(
    settings: Settings,
    pool: PgPool,
    registry: Registry,
    api: api::Client,
) -> Result<u64, database::Error> {
    for (subscriber, event_types) in registry.subscriptions() {
        outbox::upkeep::subscribe(&pool, subscriber, &event_types).await?;
    }
    let worker = Worker::new(settings, pool, registry, api);
    let mut running = JoinSet::new();
    let mut attempts = 0;
    loop {
        let claimed = worker.claim(&mut running).await?;
        attempts += claimed as u64;
        if claimed == 0 && running.is_empty() {
            return Ok(attempts);
        }
        running.join_next().await;
        while running.try_join_next().is_some() {}
    }
}

struct Worker {
    owner: String,
    settings: Settings,
    subscribers: Vec<String>,
    attempts: Arc<attempt::Shared>,
}

impl Worker {
    fn new(settings: Settings, pool: PgPool, registry: Registry, api: api::Client) -> Self {
        // A name that no other worker has, nor this one after a restart.
        let owner = format!("{}-{:08x}", settings.name, rand::rng().random::<u32>());
        let keeper = Keeper::start(&settings.database_url, settings.lease);
        let event_types = registry.event_types().collect();
        Self {
            owner,
            settings,
            subscribers: registry.subscribers(),
            attempts: Arc::new(attempt::Shared { pool, registry, event_types, api, keeper }),
        }
    }

    /// Claims and runs until told to stop.
    async fn work(
        &self,
        running: &mut JoinSet<attempt::Ended>,
        mut wakeup: Wakeup,
        stop: &CancellationToken,
    ) {
        loop {
            // Whether there may be more to claim than was claimed.
            let mut more = match self.claim(running).await {
                Ok(claimed) => claimed > 0 && running.len() >= self.settings.concurrency,
                Err(error) => {
                    tracing::warn!(%error, "could not claim; the next poll tries again");
                    false
                }
            };
            loop {
                let has_room = running.len() < self.settings.concurrency;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    Some(ended) = running.join_next(), if !running.is_empty() => {
                        more |= follow_up(ended);
                        while let Some(ended) = running.try_join_next() {
                            more |= follow_up(ended);
                        }
                        if more {
                            break;
                        }
                    }
                    () = wakeup.next(), if has_room => break,
                }
            }
        }
    }

    /// Claims what there is room for, and starts it.
    async fn claim(&self, running: &mut JoinSet<attempt::Ended>) -> sqlx::Result<usize> {
        let room = self.settings.concurrency.saturating_sub(running.len());
        if room == 0 {
            return Ok(0);
        }
        let limit = i64::try_from(room).unwrap_or(i64::MAX);
        // Taken before the claim, so that our own estimate of the lease's end is never too late.
        let leased_until = Instant::now() + self.settings.lease;
        let pool = &self.attempts.pool;
        let claimed = outbox::claim(pool, &self.owner, &self.subscribers, limit, self.settings.lease).await?;
        metrics::counter!(telemetry::metric::CLAIMS_TOTAL).increment(claimed.len() as u64);
        let count = claimed.len();
        for claimed in claimed {
            running.spawn(attempt::run(Arc::clone(&self.attempts), claimed, leased_until));
        }
        Ok(count)
    }

    /// Waits for what runs, then hands the rest back.
    async fn drain(self, mut running: JoinSet<attempt::Ended>) -> u64 {
        if !running.is_empty() {
            tracing::info!(attempts = running.len(), "waiting for the attempts under way");
        }
        let all_ended = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(self.settings.drain, all_ended).await.is_ok() {
            return 0;
        }
        // Before they are aborted, because an attempt that ends lets go of its lease.
        let leases = self.attempts.keeper.leases();
        running.abort_all();
        // What blocks its thread can not be aborted; it is not waited for either, its lease is taken from it below.
        let _aborted = tokio::time::timeout(Duration::from_secs(1), async {
            while running.join_next().await.is_some() {}
        })
        .await;
        match outbox::settle::hand_back(&self.attempts.pool, &leases).await {
            Ok(count) => {
                tracing::info!(events = count, "handed back what was not finished in time");
                count
            }
            Err(error) => {
                tracing::warn!(%error, "could not hand back; the leases run out by themselves");
                0
            }
        }
    }
}

/// Does the end of an attempt mean that something else may be claimed?
fn follow_up(ended: Result<attempt::Ended, tokio::task::JoinError>) -> bool {
    match ended {
        Ok(ended) => ended.unblocked > 0,
        Err(error) => {
            // The handler's own panics are caught where it runs; this is a fault of the worker. The lease runs out.
            tracing::error!(%error, "an attempt ended without being settled");
            false
        }
    }
}
