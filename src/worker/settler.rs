//! The settler: finishes attempts together that ended about the same time.
//!
//! Those that end while a commit is under way share the next one. No timer holds back a lone attempt.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::database::Connections;
use crate::outbox::settle::{self, Finished};
use crate::worker::keeper::Kept;
use crate::worker::settling::{self, Settled};

/// Commits at one time. Each uses one connection.
pub(super) const LANES: u32 = 2;
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
    pub(super) fn start(pool: PgPool, connections: Connections, more: Arc<Notify>) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        tokio::spawn(settle_all(pool, connections, more, items));
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

async fn settle_all(
    pool: PgPool,
    connections: Connections,
    more: Arc<Notify>,
    mut items: mpsc::UnboundedReceiver<Item>,
) {
    let lanes = Arc::new(Semaphore::new(LANES as usize));
    while let Ok(lane) = Arc::clone(&lanes).acquire_owned().await {
        let mut batch = Vec::new();
        if items.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        let (pool, connections, more) = (pool.clone(), connections.clone(), Arc::clone(&more));
        tokio::spawn(async move {
            if settle_batch(&pool, &connections, &batch).await {
                more.notify_one();
            }
            drop(lane);
        });
    }
}

/// Finishes a batch, and one by one what could not be finished with it. Answers whether a successor may be claimed.
async fn settle_batch(pool: &PgPool, connections: &Connections, batch: &[Item]) -> bool {
    let attempts: Vec<Finished> = batch.iter().map(|item| item.finished.clone()).collect();
    let finish = async |connection: &mut PgConnection| settle::finish(connection, &attempts).await;
    let settled = match connections.run(finish).await {
        Ok(settled) => settled,
        Err(error) => {
            tracing::debug!(%error, "a batch could not be settled; settling one by one");
            settle::Settled::default()
        }
    };
    let finished: HashSet<i64> = settled.finished.into_iter().collect();
    let left = attempts.into_iter().filter(|attempt| !finished.contains(&attempt.lease.id));
    let one_by_one: Vec<Settled> = join_all(left.map(|attempt| settling::finish(pool, attempt))).await;
    // Each is told, whatever the others are.
    let unblocked = one_by_one.into_iter().filter(|settled| settled.tell()).count();
    settled.unblocked > 0 || unblocked > 0
}
