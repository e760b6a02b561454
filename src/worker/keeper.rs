//! The keeper of the leases: renews those whose attempts are alive, from a thread that no handler can block.
//!
//! It stops renewing where an attempt has outlived its deadline, so that a handler which hangs without yielding loses its
//! lease to somebody who gets on; and it tells an attempt whose lease is gone, or must be taken for gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::database;
use crate::handler::Deadline;
use crate::outbox::{self, Lease};

/// A handler that was told to time out gets this long to be cancelled before its lease is given up.
const GRACE: Duration = Duration::from_secs(1);

/// Keeps the leases of the attempts that run in this worker.
pub(super) struct Keeper {
    held: Arc<Mutex<HashMap<Lease, Held>>>,
    /// Ends the thread when the keeper is dropped.
    _alive: oneshot::Sender<()>,
}

struct Held {
    /// Until when the lease is surely ours, by this machine's clock that never jumps.
    until: Instant,
    deadline: Deadline,
    lost: CancellationToken,
}

/// A lease that is being kept, until it is dropped.
pub(super) struct Kept {
    held: Arc<Mutex<HashMap<Lease, Held>>>,
    lease: Lease,
    lost: CancellationToken,
}

impl Kept {
    /// Waits until the lease is lost.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        lock(&self.held).remove(&self.lease);
    }
}

impl Keeper {
    /// Starts the thread. It has a connection of its own, so that no handler's use of the pool can starve it.
    pub(super) fn start(database_url: &SecretString, lease: Duration) -> Self {
        let held = Arc::new(Mutex::new(HashMap::new()));
        let (alive, ended) = oneshot::channel();
        let (url, shared) = (database_url.clone(), Arc::clone(&held));
        let thread = std::thread::Builder::new().name("lease-keeper".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime.map_err(anyhow::Error::from).and_then(|runtime| {
                runtime.block_on(async {
                    let pool = database::pool(&url, "restante-worker leases", 1)?;
                    tokio::select! {
                        () = renew_for_ever(&pool, &shared, lease) => {}
                        _ = ended => {}
                    }
                    pool.close().await;
                    Ok(())
                })
            }) {
                Ok(()) => {}
                Err(error) => tracing::error!(%error, "leases can not be renewed"),
            }
        });
        if let Err(error) = thread {
            tracing::error!(%error, "no thread for renewing leases: long attempts will lose theirs");
        }
        Self { held, _alive: alive }
    }

    /// Keeps a lease that is ours until `until` at least, for as long as the answer lives.
    pub(super) fn keep(&self, lease: Lease, until: Instant, deadline: Deadline) -> Kept {
        let lost = CancellationToken::new();
        lock(&self.held).insert(lease, Held { until, deadline, lost: lost.clone() });
        Kept { held: Arc::clone(&self.held), lease, lost }
    }

    /// The leases that are being kept.
    pub(super) fn leases(&self) -> Vec<Lease> {
        lock(&self.held).keys().copied().collect()
    }
}

async fn renew_for_ever(pool: &PgPool, held: &Mutex<HashMap<Lease, Held>>, lease: Duration) {
    let mut tick = tokio::time::interval(lease / 3);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = Instant::now();
        let due: Vec<Lease> = lock(held)
            .iter()
            .filter(|(_, held)| now < held.deadline.at() + GRACE)
            // One that was claimed a moment ago can wait for the next round.
            .filter(|(_, held)| held.until < now + lease * 2 / 3 + Duration::from_millis(1))
            .map(|(lease, _)| *lease)
            .collect();
        if !due.is_empty() {
            renew_once(pool, held, &due, lease).await;
        }
        let now = Instant::now();
        for (lease, held) in
            lock(held).iter().filter(|(_, held)| held.until <= now && !held.lost.is_cancelled())
        {
            tracing::warn!(event.id = lease.id, "the lease could not be renewed in time and counts as lost");
            held.lost.cancel();
        }
    }
}

async fn renew_once(pool: &PgPool, held: &Mutex<HashMap<Lease, Held>>, due: &[Lease], lease: Duration) {
    let until = Instant::now() + lease;
    // A connection on which nothing arrives any more would never end by itself.
    match tokio::time::timeout(lease / 3, outbox::lease::renew(pool, due, lease)).await {
        Ok(Ok(ours)) => {
            let mut held = lock(held);
            for lease in due {
                if let Some(held) = held.get_mut(lease) {
                    if ours.contains(lease) {
                        held.until = until;
                    } else {
                        held.lost.cancel();
                    }
                }
            }
        }
        Ok(Err(error)) => tracing::warn!(%error, "could not renew leases"),
        Err(_) => tracing::warn!("the database did not answer a renewal of leases in time"),
    }
}

fn lock(held: &Mutex<HashMap<Lease, Held>>) -> MutexGuard<'_, HashMap<Lease, Held>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
