//! What a worker does for the outbox beside its events: partitions ahead of time, keys without a head, and a look at the size.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::outbox::upkeep::{self, Swept, Unfinished};
use crate::telemetry;

/// Keys without a head are rare (a row deleted by hand, a transaction rolled back by hand), so nobody has to hurry.
const SWEEP_SECONDS: u64 = 10;
const GAUGES_SECONDS: u64 = 15;
const PARTITIONS_SECONDS: u64 = 3600;

/// Every status that is no finish: each is a series of its own, also while it has no events.
const STATUSES: [&str; 6] = ["pending", "blocked", "running", "retry", "paused", "dead"];

/// How many rows of a lane are counted. With a million events 10,000 were measured to take 40 ms, 100,000 a second, and
/// they would push out of the cache what the workers need.
const COUNTED_MAX: i64 = 10_000;

/// Looks after the outbox until `stop`. Every step may fail; the next one is tried all the same.
pub(super) async fn run(pool: PgPool, stop: CancellationToken) {
    let every = |seconds| {
        let mut tick = interval(Duration::from_secs(seconds));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    };
    let (mut sweep, mut gauges, mut partitions) =
        (every(SWEEP_SECONDS), every(GAUGES_SECONDS), every(PARTITIONS_SECONDS));
    loop {
        let step = async {
            tokio::select! {
                _ = sweep.tick() => sweep_keys(&pool).await,
                _ = gauges.tick() => measure(&pool).await,
                _ = partitions.tick() => make_partitions(&pool).await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            done = step => if let Err(error) = done {
                tracing::warn!(%error, "could not look after the outbox; the next round tries again");
            }
        }
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

async fn measure(pool: &PgPool) -> sqlx::Result<()> {
    let oldest = upkeep::oldest_claimable_seconds(pool).await?;
    metrics::gauge!(telemetry::metric::OLDEST_UNFINISHED_EVENT_SECONDS).set(oldest);
    let unfinished = upkeep::count_unfinished(pool, COUNTED_MAX).await?;
    for status in STATUSES {
        metrics::gauge!(telemetry::metric::EVENTS_UNFINISHED, "status" => status)
            .set(events_of(status, &unfinished));
    }
    Ok(())
}

fn events_of(status: &str, unfinished: &[Unfinished]) -> f64 {
    unfinished.iter().find(|counted| counted.status == status).map_or(0.0, |counted| counted.events as f64)
}
