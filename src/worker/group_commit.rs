//! The group commit: finishes attempts whose handlers took no transaction, several with one commit.
//!
//! Attempts that end while a commit is under way share the next one. No timer holds back a lone attempt. Two commits
//! are under way at a time if successors wait for them, otherwise one: a second commit would then start nothing sooner,
//! and two workers on the cores of one were measured to do 0.7 of its work.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use sqlx::PgConnection;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tracing::Instrument;

use crate::database::{self, Connections};
use crate::outbox::settle::{self, Completed, Finished};
use crate::worker::finish;
use crate::worker::lease_renewer::LeaseGuard;
use crate::worker::report::{Report, Tally};
use crate::worker::successors::Successors;

/// Commits at one time, at most. Each uses one connection.
pub(super) const LANES: u32 = 2;
/// The most events in one commit, as many as in a commit of ingest. Until the commit each event with a key holds a lock
/// in the shared memory of Postgres.
const BATCH_MAX: usize = 512;
/// The most attempts that wait to be settled. When there are more, an attempt that ends waits for room.
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
    connections: Connections,
    successors: Arc<Successors>,
    /// Notified when an event has become claimable.
    more: Arc<Notify>,
    /// Notified after each commit.
    settled: Arc<Notify>,
    /// Did successors wait for the last commit?
    is_awaited: Arc<AtomicBool>,
}

struct Item {
    finished: Finished,
    /// Renews the lease until the event is settled.
    lease_guard: LeaseGuard,
    room: OwnedSemaphorePermit,
    report: Report,
}

impl GroupCommit {
    /// Settles in the background while the returned value lives. Notifies `more` when a successor may be claimed.
    pub(super) fn start(connections: Connections, successors: Arc<Successors>, more: Arc<Notify>) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        let settled = Arc::new(Notify::new());
        let (notify, is_awaited) = (Arc::clone(&settled), Arc::default());
        let lane = Lane { connections, successors, more, settled: notify, is_awaited };
        tokio::spawn(settle_all(lane, items));
        Self { queue, room: Arc::new(Semaphore::new(WAITING_MAX as usize)), settled }
    }

    /// Queues an attempt to be finished, and reports its outcome then. Waits only while the queue is full.
    pub(super) async fn finish(&self, finished: Finished, lease_guard: LeaseGuard, report: Report) {
        if let Ok(room) = Arc::clone(&self.room).acquire_owned().await {
            // The receiver lives as long as this sender.
            let _sent = self.queue.send(Item { finished, lease_guard, room, report });
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
            // After an answer the turn ends here, so that the next commit need not wait for rows that another session
            // has locked.
            let _turn = has_failed.then_some(turn);
            lane.settle_each(left).await;
        });
    }
}

impl Lane {
    /// How many of the lanes the next commit takes: all of them, unless successors wait for it.
    fn share(&self) -> u32 {
        if self.is_awaited.load(Ordering::Relaxed) { 1 } else { LANES }
    }

    /// Finishes a batch. Returns the attempts that it could not finish, and whether the statement failed.
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
        // Count before the room is freed: once nothing is left to be settled, everything is counted.
        tally.count();
        drop(finished);
        self.wake_dispatcher(completed.unblocked > 0);
        (left, has_failed)
    }

    /// Finishes, each by itself, the attempts that the batch could not finish.
    async fn settle_each(&self, items: Vec<Item>) {
        // Each is reported on its own, because one may wait long for its lock.
        let settle = async |Item { finished, lease_guard, room, report }: Item| {
            let intended = finished.finish.outcome();
            let settlement =
                finish::finish(&self.connections, finished).instrument(report.span().clone()).await;
            report.ended(settlement.outcome(intended));
            drop((lease_guard, room));
            self.wake_dispatcher(settlement.has_unblocked());
        };
        join_all(items.into_iter().map(settle)).await;
    }

    /// Wakes the dispatcher: there is room again (the caller has freed it), and, if `is_unblocked`, a successor can be claimed.
    fn wake_dispatcher(&self, is_unblocked: bool) {
        if is_unblocked {
            self.more.notify_one();
        }
        self.settled.notify_one();
    }
}
