//! The keeper of the leases: renews those whose attempts are alive, from a thread that no handler can block.
//!
//! It stops renewing where an attempt has outlived its deadline, so that a handler which hangs without yielding loses its
//! lease to somebody who gets on; and it tells an attempt whose lease is gone, or must be taken for gone.
//!
//! With each renewal, and before anything is claimed, it gives the sign that its worker lives: a lease that ran out counts as a
//! crash only where its worker gives none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use sqlx::PgPool;
use tokio::sync::{oneshot, watch};
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
    /// Until when the last sign counts.
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

/// A lease that is being kept, until it is dropped.
pub(super) struct Kept {
    held: Arc<Mutex<HashMap<Lease, Held>>>,
    lease: Lease,
    lost: CancellationToken,
}

impl Kept {
    /// Until when the lease is surely ours.
    pub(super) fn until(&self) -> Instant {
        lock(&self.held).get(&self.lease).map_or_else(Instant::now, |held| held.until)
    }

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
    pub(super) fn start(database_url: &SecretString, owner: String, lease: Duration) -> Self {
        let held = Arc::new(Mutex::new(HashMap::new()));
        let (alive, ended) = oneshot::channel();
        let (signs, sign) = watch::channel(None);
        let round = Round { held: Arc::clone(&held), owner, lease, signs };
        let url = database_url.clone();
        let thread = std::thread::Builder::new().name("lease-keeper".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime.map_err(anyhow::Error::from).and_then(|runtime| {
                runtime.block_on(async {
                    let pool = database::pool(&url, "restante-worker leases", 1)?;
                    let _primary = database::keep_on_primary(&pool, &url)?;
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
                    tracing::error!(error, "the lease keeper cannot work, so nothing will be claimed");
                }
            }
        });
        if let Err(error) = thread {
            tracing::error!(%error, "no thread for renewing leases: nothing will be claimed");
        }
        Self { held, sign, alive: Mutex::new(Some(alive)) }
    }

    /// Waits for the first sign: without a connection for the leases nothing may be claimed.
    pub(super) async fn has_given_sign(&self) {
        let mut sign = self.sign.clone();
        let _ends_with_the_thread = sign.wait_for(Option::is_some).await;
    }

    /// Until when others know that this worker lives, since its last sign.
    pub(super) fn alive_until(&self) -> Option<Instant> {
        *self.sign.borrow()
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        drop(self.alive.lock().unwrap_or_else(PoisonError::into_inner).take());
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

/// What is done three times within a lease.
struct Round {
    held: Arc<Mutex<HashMap<Lease, Held>>>,
    owner: String,
    lease: Duration,
    signs: watch::Sender<Option<Instant>>,
}

/// After a round that failed the next one comes sooner: the database may be back, and others are waiting for the sign.
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
        // A connection on which nothing arrives any more would never end by itself.
        match tokio::time::timeout(self.lease / 3, signed).await {
            Ok(Ok(())) => {
                self.signs.send_replace(Some(until));
                true
            }
            Ok(Err(error)) => {
                let error = database::told(&error);
                tracing::warn!(
                    error,
                    "the lease keeper cannot reach the database; nothing is claimed before it can"
                );
                false
            }
            Err(_) => {
                tracing::warn!(
                    "the database did not answer the lease keeper in time; nothing is claimed before it does"
                );
                false
            }
        }
    }

    /// Renews the leases of the attempts that are alive. Returns false where the database did not answer.
    async fn renew(&self, pool: &PgPool) -> bool {
        let now = Instant::now();
        let due: Vec<Lease> = lock(&self.held)
            .iter()
            .filter(|(_, held)| now < held.deadline.at() + GRACE)
            // One that was claimed a moment ago can wait for the next round.
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
                        // By the attempt's own transaction, which nobody can claim past.
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
                    "the lease keeper could not renew the leases of running attempts"
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
