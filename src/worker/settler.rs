//! The settler: finishes attempts together that ended about the same time.
//!
//! Those that end while a commit is under way share the next one. No timer holds back a lone attempt.

use std::sync::Arc;

use futures_util::future::join_all;
use sqlx::PgPool;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::database;
use crate::outbox::settle::{self, Finished};
use crate::worker::keeper::Kept;
use crate::worker::settling::{self, Settled};

/// Commits at one time. Each uses one connection of the pool.
const LANES: usize = 2;
/// The most events in one commit. Each keyed one takes a lock in the server's shared memory until then.
const BATCH_MAX: usize = 256;
/// The most attempts that wait to be settled; the handlers wait when there are more.
const WAITING_MAX: u32 = 2048;

/// Finishes attempts whose handlers took no transaction.
pub(super) struct Settler {
    queue: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
}

struct Item {
    finished: Finished,
    /// The lease is kept until it is not needed any more.
    _kept: Kept,
    _room: OwnedSemaphorePermit,
}

impl Settler {
    /// Starts settling in the background, for as long as the answer lives. `more` is told when a successor may be claimed.
    pub(super) fn start(pool: PgPool, more: Arc<Notify>) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        tokio::spawn(settle_all(pool, more, items));
        Self { queue, room: Arc::new(Semaphore::new(WAITING_MAX as usize)) }
    }

    /// Has an attempt finished, soon. Waits only while too many others are to be finished already.
    pub(super) async fn finish(&self, finished: Finished, kept: Kept) {
        if let Ok(room) = Arc::clone(&self.room).acquire_owned().await {
            // The receiver lives as long as we do.
            let _sent = self.queue.send(Item { finished, _kept: kept, _room: room });
        }
    }

    /// Waits until nothing is left to be settled.
    pub(super) async fn idle(&self) {
        let _all_of_it = self.room.acquire_many(WAITING_MAX).await;
    }
}

async fn settle_all(pool: PgPool, more: Arc<Notify>, mut items: mpsc::UnboundedReceiver<Item>) {
    let lanes = Arc::new(Semaphore::new(LANES));
    while let Ok(lane) = Arc::clone(&lanes).acquire_owned().await {
        let mut batch = Vec::new();
        if items.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        let (pool, more) = (pool.clone(), Arc::clone(&more));
        tokio::spawn(async move {
            if settle_batch(&pool, &batch).await {
                more.notify_one();
            }
            drop(lane);
        });
    }
}

/// Finishes a batch, and one by one what could not be finished with it. Answers whether a successor may be claimed.
async fn settle_batch(pool: &PgPool, batch: &[Item]) -> bool {
    let attempts: Vec<Finished> = batch.iter().map(|item| item.finished.clone()).collect();
    let settled = match database::answered(settle::finish(pool, &attempts)).await {
        Ok(settled) => settled,
        Err(error) => {
            tracing::debug!(%error, "a batch could not be settled; settling one by one");
            settle::Settled::default()
        }
    };
    let left = attempts.into_iter().filter(|attempt| !settled.finished.contains(&attempt.lease.id));
    let one_by_one: Vec<Settled> = join_all(left.map(|attempt| settling::finish(pool, attempt))).await;
    // Each is told, whatever the others are.
    let unblocked = one_by_one.into_iter().filter(|settled| settled.tell()).count();
    settled.unblocked > 0 || unblocked > 0
}
