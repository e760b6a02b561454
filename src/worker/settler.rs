//! The settler: finishes attempts together that ended about the same time.
//!
//! Those that end while a commit is under way share the next one. No timer holds back a lone attempt.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::database::Connections;
use crate::outbox::settle::{self, Finished};
use crate::worker::keeper::Kept;
use crate::worker::settling;
use crate::worker::successors::Successors;

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
    settled: Arc<Notify>,
}

/// What a commit needs.
#[derive(Clone)]
struct Lane {
    pool: PgPool,
    connections: Connections,
    successors: Arc<Successors>,
    /// Told when something may be claimed that could not be before.
    more: Arc<Notify>,
    /// Told after each commit.
    settled: Arc<Notify>,
}

struct Item {
    finished: Finished,
    /// The lease is kept until it is not needed any more.
    _kept: Kept,
    _room: OwnedSemaphorePermit,
}

impl Settler {
    /// Starts settling in the background, for as long as the answer lives. `more` is told when a successor may be claimed.
    pub(super) fn start(
        pool: PgPool,
        connections: Connections,
        successors: Arc<Successors>,
        more: Arc<Notify>,
    ) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        let settled = Arc::new(Notify::new());
        let lane = Lane { pool, connections, successors, more, settled: Arc::clone(&settled) };
        tokio::spawn(settle_all(lane, items));
        Self { queue, room: Arc::new(Semaphore::new(WAITING_MAX as usize)), settled }
    }

    /// Has an attempt finished, soon. Waits only while too many others are to be finished already.
    pub(super) async fn finish(&self, finished: Finished, kept: Kept) {
        if let Ok(room) = Arc::clone(&self.room).acquire_owned().await {
            // The receiver lives as long as we do.
            let _sent = self.queue.send(Item { finished, _kept: kept, _room: room });
        }
    }

    /// How many attempts wait to be settled, or are being settled.
    pub(super) fn len(&self) -> usize {
        WAITING_MAX as usize - self.room.available_permits()
    }

    /// Waits until some have been settled.
    pub(super) async fn settled(&self) {
        self.settled.notified().await;
    }

    /// Waits until nothing is left to be settled.
    pub(super) async fn idle(&self) {
        let _all_of_it = self.room.acquire_many(WAITING_MAX).await;
    }
}

async fn settle_all(lane: Lane, mut items: mpsc::UnboundedReceiver<Item>) {
    let turns = Arc::new(Semaphore::new(LANES as usize));
    while let Ok(turn) = Arc::clone(&turns).acquire_owned().await {
        let mut batch = Vec::new();
        if items.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        let lane = lane.clone();
        tokio::spawn(async move {
            if lane.settle(&batch).await {
                lane.more.notify_one();
            }
            drop((batch, turn));
            lane.settled.notify_one();
        });
    }
}

impl Lane {
    /// Finishes a batch, and one by one what could not be finished with it. Answers whether a successor may be claimed.
    async fn settle(&self, batch: &[Item]) -> bool {
        let attempts: Vec<Finished> = batch.iter().map(|item| item.finished.clone()).collect();
        let at = Instant::now();
        let finish = async |connection: &mut PgConnection| {
            settle::finish(connection, &attempts, self.successors.next()).await
        };
        let settled = self.connections.run(finish).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "a batch could not be settled; settling one by one");
            settle::Settled::default()
        });
        self.successors.start(settled.next, at);
        let finished: HashSet<i64> = settled.finished.into_iter().collect();
        let left = attempts.into_iter().filter(|attempt| !finished.contains(&attempt.lease.id));
        let one_by_one = left.map(|attempt| settling::finish(&self.pool, attempt));
        // Each is told, whatever the others are.
        let unblocked = join_all(one_by_one).await.into_iter().filter(|settled| settled.tell()).count();
        settled.unblocked > 0 || unblocked > 0
    }
}
