//! What a worker does for the outbox beside its events: partitions ahead of time, keys without a head, a look at what waits for
//! a repair, and one at the size.

use std::time::Duration;

use futures_util::future::join;
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::outbox::trouble::{self, Tried};
use crate::outbox::upkeep::{self, Swept, Unfinished};
use crate::{batch, database, telemetry};

/// Keys without a head are rare (a row deleted by hand, a transaction rolled back by hand), so nobody has to hurry.
const SWEEP_SECONDS: u64 = 10;
const GAUGES_SECONDS: u64 = 15;
const PARTITIONS_SECONDS: u64 = 3600;
/// What waits for a repair of ours goes on so soon after it, more or less.
const REPAIRS_SECONDS: u64 = 5;
const STANDING_SECONDS: u64 = 10;
/// A report or a backup that reads the outbox is in the way of a new week for as long as it takes. Nobody waits for it: half a
/// year of weeks is there. A try takes no time, and one that meets a short query of somebody must not wait long for the next.
const PARTITIONS_AGAIN: Duration = Duration::from_secs(5);

/// Every state that is no finish: each is a series of its own, also while it has no events.
const STATES: [&str; 8] =
    ["pending", "blocked", "running", "retry", "paused", "dead", "scheduled", "standing"];

/// How many rows of a lane are counted. With a million events 10,000 were measured to take 40 ms, 100,000 a second, and
/// they would push out of the cache what the workers need.
const COUNTED_MAX: i64 = 10_000;

/// Looks after the outbox until `stop`. Every step may fail; the next one is tried all the same.
/// The jobs that must always be there are those named.
pub(super) async fn run(pool: PgPool, standing: Vec<&'static str>, stop: CancellationToken) {
    let every = |seconds| {
        let mut tick = interval(Duration::from_secs(seconds));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    };
    let (mut sweep, mut gauges, mut repairs) =
        (every(SWEEP_SECONDS), every(GAUGES_SECONDS), every(REPAIRS_SECONDS));
    let mut tried = Tried::default();
    let mut jobs = every(STANDING_SECONDS);
    let steps = async {
        loop {
            let done = tokio::select! {
                _ = sweep.tick() => sweep_keys(&pool).await,
                _ = gauges.tick() => measure(&pool).await,
                _ = repairs.tick() => look_for_repairs(&pool, &mut tried).await,
                _ = jobs.tick(), if !standing.is_empty() => ensure_standing_jobs(&pool, &standing).await,
            };
            if let Err(error) = done {
                let error = database::why(&pool, &error).await;
                tracing::warn!(%error, "could not look after the outbox; the next round tries again");
            }
        }
    };
    // Beside them, because a table that somebody has locked keeps a partition from being made.
    tokio::select! {
        () = stop.cancelled() => {}
        _ = join(steps, keep_making_partitions(&pool)) => {}
    }
}

/// Never ends.
async fn keep_making_partitions(pool: &PgPool) {
    loop {
        let wait = match make_partitions(pool).await {
            Ok(()) => Duration::from_secs(PARTITIONS_SECONDS),
            Err(error) if database::is_locked(&error) => {
                let error = database::told(&error);
                tracing::debug!(error, "somebody reads the outbox; partitions of the history are made later");
                PARTITIONS_AGAIN
            }
            Err(error) => {
                let error = database::told(&error);
                tracing::warn!(error, "could not make partitions of the history; the next round tries again");
                PARTITIONS_AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// One walk over all keys that wait.
async fn sweep_keys(pool: &PgPool) -> sqlx::Result<()> {
    let mut after = None;
    loop {
        let Swept { healed, next_after } = upkeep::sweep(pool, after.as_deref()).await?;
        if healed > 0 {
            tracing::warn!(keys = healed, "keys had lost their head and got it back");
        }
        match next_after {
            Some(key) => after = Some(key),
            None => return Ok(()),
        }
    }
}

async fn make_partitions(pool: &PgPool) -> sqlx::Result<()> {
    let made = upkeep::make_partitions(pool).await?;
    if made > 0 {
        tracing::info!(partitions = made, "made partitions of the history ahead of time");
    }
    Ok(())
}

async fn look_for_repairs(pool: &PgPool, tried: &mut Tried) -> sqlx::Result<()> {
    let healed = trouble::look_for_repairs(pool, tried).await?;
    if healed > 0 {
        tracing::info!(events = healed, "what was wrong is mended; what waited for that runs now");
    }
    Ok(())
}

async fn ensure_standing_jobs(pool: &PgPool, standing: &[&str]) -> sqlx::Result<()> {
    let made = batch::ensure_standing_jobs(pool, standing).await?;
    if made > 0 {
        tracing::info!(jobs = made, "put jobs into the outbox that have to be there");
    }
    Ok(())
}

async fn measure(pool: &PgPool) -> sqlx::Result<()> {
    let unfinished = upkeep::oldest_unfinished_seconds(pool).await?;
    metrics::gauge!(telemetry::metric::OLDEST_UNFINISHED_EVENT_SECONDS).set(unfinished);
    let claimable = upkeep::oldest_claimable_seconds(pool).await?;
    metrics::gauge!(telemetry::metric::OLDEST_CLAIMABLE_EVENT_SECONDS).set(claimable);
    let unfinished = upkeep::count_unfinished(pool, COUNTED_MAX).await?;
    let in_trouble: i64 = unfinished.iter().map(|counted| counted.in_trouble).sum();
    metrics::gauge!(telemetry::metric::EVENTS_IN_TROUBLE).set(in_trouble as f64);
    for status in STATES {
        metrics::gauge!(telemetry::metric::EVENTS_UNFINISHED, "status" => status)
            .set(events_of(status, &unfinished));
    }
    Ok(())
}

fn events_of(status: &str, unfinished: &[Unfinished]) -> f64 {
    unfinished.iter().find(|counted| counted.status == status).map_or(0.0, |counted| counted.events as f64)
}
