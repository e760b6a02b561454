//! What a worker does for the outbox beside its events: partitions ahead of time, keys without a head, replays that a person asked
//! for, past hours to add up, a look at what waits for a repair, one at batches, one at partial text, one at the size, one at
//! what an operator should know of, and what has expired.

use std::time::Duration;

use futures_util::future::join3;
use sqlx::{PgConnection, PgPool};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::database::Connections;
use crate::outbox::missed;
use crate::outbox::status::STATES;
use crate::outbox::trouble::{self, NO_ACCOUNT, Tried};
use crate::outbox::upkeep::{self, REASONS, Swept, Unfinished};
use crate::worker::{health, retention};
use crate::{api, batch, database, message, telemetry};

/// The first moments of a worker belong to the events that wait for it.
const AFTER_THE_START: Duration = Duration::from_secs(1);

/// Keys without a head are rare (a row deleted by hand, a transaction rolled back by hand), so nobody has to hurry.
const SWEEP_SECONDS: u64 = 10;
const GAUGES_SECONDS: u64 = 15;
const PARTITIONS_SECONDS: u64 = 3600;
/// What waits for a repair of ours goes on so soon after it, more or less.
const REPAIRS_SECONDS: u64 = 5;
const STANDING_SECONDS: u64 = 10;
/// Results are at risk for days, and a batch is deleted when there is time.
const BATCHES_SECONDS: u64 = 180;
/// Partial text may be read for an hour, so nobody has to hurry.
const CHUNKS_SECONDS: u64 = 60;
/// What came while a pause was being ended goes on so soon after that.
const HELD_SECONDS: u64 = 5;
/// A replay has a rate for each second, and a portion of it begins so often.
const REPLAY_SECONDS: u64 = 2;
/// What people want forgotten goes on so soon.
const FORGET_SECONDS: u64 = 2;
/// So many portions of replays follow each other at most, so that the other duties have their turn.
const PORTIONS_MAX: usize = 10;
/// An hour is added up when it is over, and nobody waits for that: it can be read before.
const HOURS_SECONDS: u64 = 60;
/// What an operator should know of may wait so long. A worker looks for the first time when it has worked for as long: what was
/// late because no worker ran may be done by then.
const HEALTH: Duration = Duration::from_secs(30);
/// A report or a backup that reads the outbox is in the way of a new week for as long as it takes. Nobody waits for it: half a
/// year of weeks is there. A try takes no time, and one that meets a short query of somebody must not wait long for the next.
const PARTITIONS_AGAIN: Duration = Duration::from_secs(5);

/// How many rows of a lane are counted. With a million events 10,000 were measured to take 40 ms, 100,000 a second, and
/// they would push out of the cache what the workers need.
const COUNTED_MAX: i64 = 10_000;

/// What a worker looks after, and how.
pub(super) struct Duties {
    /// The jobs that must always be there.
    pub(super) standing: Vec<&'static str>,
    pub(super) accounts: api::Accounts,
    /// How long after a batch is complete it is deleted at the API, if ever.
    pub(super) batch_delete_after: Option<Duration>,
}

/// Looks after the outbox until `stop`. Every step may fail; the next one is tried all the same.
/// What is asked every few seconds is asked through `connections`.
pub(super) async fn run(pool: PgPool, connections: Connections, duties: Duties, stop: CancellationToken) {
    let Duties { standing, accounts, batch_delete_after } = duties;
    let every = |seconds| {
        let mut tick = interval_at(Instant::now() + AFTER_THE_START, Duration::from_secs(seconds));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    };
    let (mut sweep, mut gauges, mut repairs) =
        (every(SWEEP_SECONDS), every(GAUGES_SECONDS), every(REPAIRS_SECONDS));
    let mut tried = Tried::default();
    let (mut jobs, mut held) = (every(STANDING_SECONDS), every(HELD_SECONDS));
    let (mut batches, mut chunks) = (every(BATCHES_SECONDS), every(CHUNKS_SECONDS));
    let (mut replays, mut hours) = (every(REPLAY_SECONDS), every(HOURS_SECONDS));
    let mut forgets = every(FORGET_SECONDS);
    let mut alarms = interval_at(Instant::now() + HEALTH, HEALTH);
    alarms.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // At the start what waits for an account may have waited for this worker.
    let mut changes = accounts.changes();
    changes.mark_changed();
    let steps = async {
        loop {
            let done = tokio::select! {
                _ = sweep.tick() => sweep_keys(&connections).await,
                _ = gauges.tick() => measure(&connections).await,
                _ = held.tick() => let_held_go(&connections).await,
                _ = replays.tick() => go_on_replaying(&connections).await,
                _ = forgets.tick() => retention::go_on_forgetting(&connections).await,
                _ = hours.tick() => add_up_hours(&connections).await,
                _ = repairs.tick() => look_for_repairs(&connections, &mut tried, &accounts).await,
                _ = changes.changed() => go_on_with_changed(&connections, &mut tried, &accounts).await,
                _ = alarms.tick() => health::look(&connections).await,
                _ = chunks.tick() => forget_chunks(&connections).await,
                _ = jobs.tick(), if !standing.is_empty() => ensure_standing_jobs(&connections, &standing, &accounts).await,
                _ = batches.tick(), if !standing.is_empty() => look_after_batches(&connections, &accounts, batch_delete_after).await,
            };
            if let Err(error) = done {
                let error = database::why(&pool, &error).await;
                tracing::warn!(%error, "could not look after the outbox; the next round tries again");
            }
        }
    };
    let retaining = async {
        tokio::time::sleep(AFTER_THE_START).await;
        retention::keep_retaining(&connections).await;
    };
    // Beside them, because a table that somebody has locked keeps a partition from being made, and much may have expired.
    tokio::select! {
        () = stop.cancelled() => {}
        _ = join3(steps, keep_making_partitions(&pool), retaining) => {}
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

/// What was stored while the end of its pause was under way, page by page.
async fn let_held_go(connections: &Connections) -> sqlx::Result<()> {
    loop {
        let page = async |connection: &mut PgConnection| upkeep::let_held_go(connection).await;
        let events = connections.run_to_its_end(page).await?;
        if events == 0 {
            return Ok(());
        }
        tracing::info!(events, "let events go whose pause ended while they were being stored");
    }
}

/// The next portions of what people want replayed.
async fn go_on_replaying(connections: &Connections) -> sqlx::Result<()> {
    for _ in 0..PORTIONS_MAX {
        let portion = async |connection: &mut PgConnection| upkeep::replay_portion(connection).await;
        let events = connections.run_to_its_end(portion).await?;
        if events == 0 {
            break;
        }
        tracing::debug!(events, "began a portion of a replay again");
    }
    Ok(())
}

/// Every past hour that has not been added up.
async fn add_up_hours(connections: &Connections) -> sqlx::Result<()> {
    let hour = async |connection: &mut PgConnection| upkeep::add_up_hour(connection).await;
    while connections.run_to_its_end(hour).await? {}
    Ok(())
}

/// One walk over all keys that wait.
async fn sweep_keys(connections: &Connections) -> sqlx::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = async |connection: &mut PgConnection| upkeep::sweep(connection, after.as_deref()).await;
        let Swept { healed, next_after } = connections.run_to_its_end(page).await?;
        if healed > 0 {
            tracing::warn!(keys = healed, "keys had lost their head and got it back");
        }
        match next_after {
            Some(key) => after = Some(key),
            None => return Ok(()),
        }
    }
}

/// One walk over the messages with old partial text.
async fn forget_chunks(connections: &Connections) -> sqlx::Result<()> {
    let (mut messages, mut after) = (0, 0);
    loop {
        let page = async |connection: &mut PgConnection| message::forget_chunks(connection, after).await;
        let forgotten = connections.run_to_its_end(page).await?;
        messages += forgotten.messages;
        match forgotten.next_after {
            Some(message) => after = message,
            None => break,
        }
    }
    if messages > 0 {
        tracing::info!(messages, "deleted partial text of an hour ago");
    }
    Ok(())
}

async fn make_partitions(pool: &PgPool) -> sqlx::Result<()> {
    let made = upkeep::make_partitions(pool).await?;
    if made > 0 {
        tracing::info!(partitions = made, "made partitions of the history ahead of time");
    }
    Ok(())
}

async fn look_for_repairs(
    connections: &Connections,
    tried: &mut Tried,
    accounts: &api::Accounts,
) -> sqlx::Result<()> {
    let accounts = configured(accounts);
    let look =
        async |connection: &mut PgConnection| trouble::look_for_repairs(connection, tried, &accounts).await;
    let healed = connections.run_to_its_end(look).await?;
    if healed > 0 {
        tracing::info!(events = healed, "what was wrong is mended; what waited for that runs now");
    }
    Ok(())
}

/// What waited for an account goes on, and what waited because a key was refused is tried with the one that came.
async fn go_on_with_changed(
    connections: &Connections,
    tried: &mut Tried,
    accounts: &api::Accounts,
) -> sqlx::Result<()> {
    let_configured_go(connections, accounts).await?;
    look_for_repairs(connections, tried, accounts).await
}

async fn let_configured_go(connections: &Connections, accounts: &api::Accounts) -> sqlx::Result<()> {
    let accounts = configured(accounts);
    let let_go =
        async |connection: &mut PgConnection| trouble::let_configured_go(connection, &accounts).await;
    let events = connections.run_to_its_end(let_go).await?;
    if events > 0 {
        tracing::info!(events, "their account is configured; what waited for that runs now");
    }
    Ok(())
}

/// The accounts whose events this worker can deal with.
fn configured(accounts: &api::Accounts) -> Vec<String> {
    let without = accounts.is_configured_for(None).then(|| NO_ACCOUNT.to_owned());
    accounts.names().into_iter().chain(without).collect()
}

async fn ensure_standing_jobs(
    connections: &Connections,
    standing: &[&str],
    accounts: &api::Accounts,
) -> sqlx::Result<()> {
    let accounts = accounts.names();
    let ensure = async |connection: &mut PgConnection| {
        batch::ensure_standing_jobs(connection, standing, &accounts).await
    };
    let made = connections.run_to_its_end(ensure).await?;
    if made > 0 {
        tracing::info!(jobs = made, "put jobs into the outbox that have to be there");
    }
    Ok(())
}

async fn look_after_batches(
    connections: &Connections,
    accounts: &api::Accounts,
    delete_after: Option<Duration>,
) -> sqlx::Result<()> {
    let accounts = accounts.names();
    let look = async |connection: &mut PgConnection| {
        let at_risk = batch::note_at_risk(&mut *connection, &accounts).await?;
        let to_delete = match delete_after {
            Some(after) => batch::delete_complete(connection, &accounts, after).await?,
            None => 0,
        };
        Ok((at_risk, to_delete))
    };
    let (at_risk, to_delete) = connections.run_to_its_end(look).await?;
    if at_risk > 0 {
        tracing::warn!(batches = at_risk, "results of batches are at risk: see restante.batch_overview");
    }
    if to_delete > 0 {
        tracing::info!(batches = to_delete, "batches that are complete are being deleted at the API");
    }
    Ok(())
}

async fn measure(connections: &Connections) -> sqlx::Result<()> {
    let look = async |connection: &mut PgConnection| {
        Ok((
            upkeep::oldest_unfinished_seconds(&mut *connection).await?,
            upkeep::oldest_claimable_seconds(&mut *connection).await?,
            upkeep::count_unfinished(&mut *connection, COUNTED_MAX).await?,
            missed::unexplained_seconds(connection).await?,
        ))
    };
    let (oldest_unfinished, oldest_claimable, unfinished, unexplained) =
        connections.run_to_its_end(look).await?;
    metrics::gauge!(telemetry::metric::OLDEST_UNFINISHED_EVENT_SECONDS).set(oldest_unfinished);
    metrics::gauge!(telemetry::metric::OLDEST_CLAIMABLE_EVENT_SECONDS).set(oldest_claimable);
    metrics::gauge!(telemetry::metric::UNEXPLAINED_CHANGE_SECONDS).set(unexplained);
    // Each is a series of its own, also while it has no events.
    for status in STATES {
        metrics::gauge!(telemetry::metric::EVENTS_UNFINISHED, "status" => status)
            .set(sum(&unfinished, |counted| counted.status == status));
    }
    for reason in REASONS {
        metrics::gauge!(telemetry::metric::EVENTS_WAITING, "reason" => reason)
            .set(sum(&unfinished, |counted| counted.reason.as_deref() == Some(reason)));
    }
    metrics::gauge!(telemetry::metric::EVENTS_IN_TROUBLE)
        .set(sum(&unfinished, |counted| counted.reason.as_deref() == Some("repair")));
    Ok(())
}

fn sum(unfinished: &[Unfinished], which: impl Fn(&Unfinished) -> bool) -> f64 {
    unfinished.iter().filter(|counted| which(counted)).map(|counted| counted.events as f64).sum()
}
