//! The group commit: finishes attempts together that ended about the same time, and whose handlers took no transaction.
//!
//! Those that end while a commit is under way share the next one. No timer holds back a lone attempt. Two commits are under way
//! at a time where successors wait for them, else one: a second has nothing to bring forward then, and two workers
//! on the cores of one were measured to do 0.7 of its work.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tracing::Instrument;

use crate::database::{self, Connections};
use crate::outbox::settle::{self, Completed, Finished};
use crate::worker::finish;
use crate::worker::keeper::Kept;
use crate::worker::report::{Report, Tally};
use crate::worker::successors::Successors;

/// Commits at one time, at most. Each uses one connection.
pub(super) const LANES: u32 = 2;
/// The most events in one commit, as many as in one of ingest. Each keyed one takes a lock in the server's shared memory until
/// then.
const BATCH_MAX: usize = 512;
/// The most attempts that wait to be settled; the handlers wait when there are more.
const WAITING_MAX: u32 = 2048;

/// Finishes attempts whose handlers took no transaction.
pub(super) struct GroupCommit {
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
    /// Did successors wait for the last commit?
    is_awaited: Arc<AtomicBool>,
}

struct Item {
    finished: Finished,
    /// The lease is kept until it is not needed any more.
    kept: Kept,
    room: OwnedSemaphorePermit,
    report: Report,
}

impl GroupCommit {
    /// Starts settling in the background, for as long as the answer lives. `more` is told when a successor may be claimed.
    pub(super) fn start(
        pool: PgPool,
        connections: Connections,
        successors: Arc<Successors>,
        more: Arc<Notify>,
    ) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        let settled = Arc::new(Notify::new());
        let (told, is_awaited) = (Arc::clone(&settled), Arc::default());
        let lane = Lane { pool, connections, successors, more, settled: told, is_awaited };
        tokio::spawn(settle_all(lane, items));
        Self { queue, room: Arc::new(Semaphore::new(WAITING_MAX as usize)), settled }
    }

    /// Has an attempt finished, soon, and reports its outcome then. Waits only while too many others are to be finished already.
    pub(super) async fn finish(&self, finished: Finished, kept: Kept, report: Report) {
        if let Ok(room) = Arc::clone(&self.room).acquire_owned().await {
            // The receiver lives as long as we do.
            let _sent = self.queue.send(Item { finished, kept, room, report });
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
}

async fn settle_all(lane: Lane, mut items: mpsc::UnboundedReceiver<Item>) {
    let turns = Arc::new(Semaphore::new(LANES as usize));
    while let Ok(turn) = Arc::clone(&turns).acquire_many_owned(lane.share()).await {
        let mut batch = Vec::new();
        if items.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        let lane = lane.clone();
        tokio::spawn(async move {
            let (left, has_failed) = lane.settle(batch).await;
            // What somebody has locked is waited for without keeping others from being settled.
            let _turn = has_failed.then_some(turn);
            lane.settle_each(left).await;
        });
    }
}

impl Lane {
    /// How many of the places the next commit takes up: all of them, where nobody waits for it.
    fn share(&self) -> u32 {
        if self.is_awaited.load(Ordering::Relaxed) { 1 } else { LANES }
    }

    /// Finishes a batch. Returns what could not be finished with it, and whether that is because the statement failed.
    async fn settle(&self, batch: Vec<Item>) -> (Vec<Item>, bool) {
        let attempts: Vec<Finished> = batch.iter().map(|item| item.finished.clone()).collect();
        let at = Instant::now();
        let finish = async |connection: &mut PgConnection| {
            settle::finish(connection, &attempts, self.successors.next()).await
        };
        let answer = self.connections.run(finish).await;
        let has_failed = answer.is_err();
        let completed = answer.unwrap_or_else(|error| {
            let error = database::told(&error);
            tracing::debug!(error, "a batch could not be settled; settling one by one");
            self.successors.note_lost_answer();
            Completed::default()
        });
        self.is_awaited.store(completed.unblocked > 0 || !completed.next.is_empty(), Ordering::Relaxed);
        self.successors.start(completed.next, at);
        let ids: HashSet<i64> = completed.finished.into_iter().collect();
        let (finished, left): (Vec<Item>, Vec<Item>) =
            batch.into_iter().partition(|item| ids.contains(&item.finished.lease.id));
        let mut tally = Tally::default();
        for item in &finished {
            tally.ended(&item.report, item.finished.finish.outcome());
        }
        // Before there is room again, so that all is counted where nothing is left to be settled.
        tally.count();
        drop(finished);
        self.tell(completed.unblocked > 0);
        (left, has_failed)
    }

    /// Finishes one by one what could not be finished together.
    async fn settle_each(&self, items: Vec<Item>) {
        // Each is told, whatever the others are.
        let settle = async |Item { finished, kept, room, report }: Item| {
            let intended = finished.finish.outcome();
            let settlement = finish::finish(&self.pool, finished).instrument(report.span().clone()).await;
            report.ended(settlement.outcome(intended));
            drop((kept, room));
            self.tell(settlement.has_unblocked());
        };
        join_all(items.into_iter().map(settle)).await;
    }

    /// Wakes the dispatcher: there is room again (the caller has freed it), and, if `is_unblocked`, a successor can be claimed.
    fn tell(&self, is_unblocked: bool) {
        if is_unblocked {
            self.more.notify_one();
        }
        self.settled.notify_one();
    }
}
