//! The lease renewer: renews the leases of running attempts, from a thread that no handler can block.
//!
//! It stops renewing a lease when the attempt has passed its deadline, so that another worker can take over from a
//! handler that hangs without yielding. It notifies an attempt whose lease is lost, or may be.
//!
//! With each renewal, and before the first claim, it writes the worker's sign of life. When a lease runs out, that
//! counts as a crash only if its worker has given no sign.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::database::{self, Address};
use crate::handler::Deadline;
use crate::outbox::{self, Lease};

/// How long after its deadline a handler may take to be cancelled. Then its lease is no longer renewed.
const GRACE: Duration = Duration::from_secs(1);

/// Renews the leases of the attempts that run in this worker.
pub(super) struct LeaseRenewer {
    held: Arc<Mutex<HashMap<Lease, Held>>>,
    /// Until when the last sign of life counts.
    sign: watch::Receiver<Option<Instant>>,
    /// Ends the thread when it is dropped.
    alive: Mutex<Option<oneshot::Sender<()>>>,
}

struct Held {
    /// Until when the lease is surely ours, by this machine's clock that never jumps.
    until: Instant,
    deadline: Deadline,
    lost: CancellationToken,
}

/// Has one lease renewed until it is dropped.
pub(super) struct LeaseGuard {
    held: Arc<Mutex<HashMap<Lease, Held>>>,
    lease: Lease,
    lost: CancellationToken,
}

impl LeaseGuard {
    /// Until when the lease is surely ours.
    pub(super) fn until(&self) -> Instant {
        lock(&self.held).get(&self.lease).map_or_else(Instant::now, |held| held.until)
    }

    /// Waits until the lease is lost.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        lock(&self.held).remove(&self.lease);
    }
}

impl LeaseRenewer {
    /// Starts the thread. It has its own connection, so that handlers which use up the pool cannot starve it.
    pub(super) fn start(database_url: &Address, owner: String, lease: Duration) -> Self {
        let held = Arc::new(Mutex::new(HashMap::new()));
        let (alive, ended) = oneshot::channel();
        let (signs, sign) = watch::channel(None);
        let round = Round { held: Arc::clone(&held), owner, lease, signs };
        let url = database_url.clone();
        let thread = std::thread::Builder::new().name("lease-renewer".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime.map_err(anyhow::Error::from).and_then(|runtime| {
                runtime.block_on(async {
                    let pool = database::pool(&url.now(), "restante-worker leases", 1)?;
                    let _primary = database::keep_at(&pool, &url)?;
                    tokio::select! {
                        () = round.repeat(&pool) => {}
                        _ = ended => {}
                    }
                    pool.close().await;
                    Ok(())
                })
            }) {
                Ok(()) => {}
                Err(error) => {
                    let error = database::told(error.as_ref());
                    tracing::error!(error, "the lease renewer cannot start; the worker claims nothing");
                }
            }
        });
        if let Err(error) = thread {
            tracing::error!(%error, "the lease renewer has no thread; the worker claims nothing");
        }
        Self { held, sign, alive: Mutex::new(Some(alive)) }
    }

    /// Waits until the first sign of life is written. Before that the worker must not claim.
    pub(super) async fn has_given_sign(&self) {
        let mut sign = self.sign.clone();
        let _ends_with_the_thread = sign.wait_for(Option::is_some).await;
    }

    /// Until when other workers count this one as alive, by its last sign of life.
    pub(super) fn alive_until(&self) -> Option<Instant> {
        *self.sign.borrow()
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        drop(self.alive.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Has a lease renewed that is ours until `until` at least, for as long as the returned guard lives.
    pub(super) fn keep(&self, lease: Lease, until: Instant, deadline: Deadline) -> LeaseGuard {
        let lost = CancellationToken::new();
        lock(&self.held).insert(lease, Held { until, deadline, lost: lost.clone() });
        LeaseGuard { held: Arc::clone(&self.held), lease, lost }
    }

    /// The leases that have a guard.
    pub(super) fn leases(&self) -> Vec<Lease> {
        lock(&self.held).keys().copied().collect()
    }
}

/// What is done three times within a lease.
struct Round {
    held: Arc<Mutex<HashMap<Lease, Held>>>,
    owner: String,
    lease: Duration,
    signs: watch::Sender<Option<Instant>>,
}

/// The pause after a round that failed. It is short: the database may be back, and other workers wait for the sign.
const SOON: Duration = Duration::from_secs(1);

impl Round {
    async fn repeat(&self, pool: &PgPool) {
        loop {
            let third = self.lease / 3;
            let began = Instant::now();
            let is_done = self.give_sign(pool).await && self.renew(pool).await;
            self.tell_lost();
            tokio::time::sleep_until(began + if is_done { third } else { third.min(SOON) }).await;
        }
    }

    async fn give_sign(&self, pool: &PgPool) -> bool {
        let until = Instant::now() + self.lease;
        let signed = outbox::lease::give_sign(pool, &self.owner, self.lease);
        // A dead connection may never return an error by itself.
        match tokio::time::timeout(self.lease / 3, signed).await {
            Ok(Ok(())) => {
                self.signs.send_replace(Some(until));
                true
            }
            Ok(Err(error)) => {
                let error = database::told(&error);
                tracing::warn!(
                    error,
                    "the lease renewer cannot reach the database; the worker claims nothing until it can"
                );
                false
            }
            Err(_) => {
                tracing::warn!(
                    "the database did not answer the lease renewer in time; the worker claims nothing until it does"
                );
                false
            }
        }
    }

    /// Renews the leases of the attempts that are alive. Returns false if the database did not answer.
    async fn renew(&self, pool: &PgPool) -> bool {
        let now = Instant::now();
        let due: Vec<Lease> = lock(&self.held)
            .iter()
            .filter(|(_, held)| now < held.deadline.at() + GRACE)
            // A lease that was granted a moment ago can wait for the next round.
            .filter(|(_, held)| held.until < now + self.lease * 2 / 3 + Duration::from_millis(1))
            .map(|(lease, _)| *lease)
            .collect();
        if due.is_empty() {
            return true;
        }
        let until = now + self.lease;
        match tokio::time::timeout(self.lease / 3, outbox::lease::renew(pool, &due, self.lease)).await {
            Ok(Ok(renewed)) => {
                let mut held = lock(&self.held);
                for lease in due {
                    let Some(held) = held.get_mut(&lease) else { continue };
                    if renewed.renewed.contains(&lease) {
                        held.until = until;
                    } else if !renewed.locked.contains(&lease) {
                        held.lost.cancel();
                    } else if held.deadline.is_held() {
                        // The attempt's own transaction has locked the row, so no other worker can claim it.
                        held.until = until;
                    }
                }
                true
            }
            Ok(Err(error)) => {
                let (error, leases) = (database::told(&error), due.len());
                tracing::warn!(
                    error,
                    leases,
                    "the lease renewer could not renew the leases of running attempts"
                );
                false
            }
            Err(_) => {
                tracing::warn!("the database did not answer a renewal of leases in time");
                false
            }
        }
    }

    fn tell_lost(&self) {
        let now = Instant::now();
        let held = lock(&self.held);
        for (lease, held) in held.iter().filter(|(_, held)| held.until <= now && !held.lost.is_cancelled()) {
            tracing::warn!(outbox.id = lease.id, "the lease could not be renewed in time and counts as lost");
            held.lost.cancel();
        }
    }
}

fn lock(held: &Mutex<HashMap<Lease, Held>>) -> MutexGuard<'_, HashMap<Lease, Held>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
