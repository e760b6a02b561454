//! The group commit: events that arrive while a commit is under way share the next one.
//!
//! Events are taken from the queue only when a lane is free, so batches form by themselves under load, and no timer
//! delays a lone event. Commits run in tasks of their own: a sender that hangs up does not cancel one half way.
//!
//! While the database is unavailable, the request waits for it; then its event goes to the journal, if there is one. An event that
//! Postgres refuses, or that another session has locked, does not fail its neighbours: the batch is halved until that event is alone.

mod batch;
mod lane;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(super) use self::batch::{Batch, Waiting};
pub(super) use self::lane::{Lane, Of};
use crate::event::NewEvent;
use crate::ingest::Limits;
use crate::ingest::journal::Journal;
use crate::ingest::lanes::{BatchThreshold, Lanes, Took};
use crate::key_use::Use;
use crate::outbox::insert::Duplicate;
use crate::outbox::{JournalReport, Refused};

/// How long a delivery may wait for the journal after it has waited for the database. Together with the ten seconds that it waits
/// for the database by default, this is less than the 15 s that Standard Webhooks asks senders to wait.
const JOURNAL_WAIT: Duration = Duration::from_secs(4);

/// Where events are committed.
pub trait Store: Send + Sync + 'static {
    /// Commits all of `events`, or none of them.
    ///
    /// An event that is already stored is left as it is, without an error: a batch whose outcome is unknown is tried
    /// again, and a batch may hold an event twice. The events come in no particular order; a store that takes locks
    /// one by one must sort them itself. The future may be dropped at any point.
    ///
    /// # Errors
    /// [`StoreError`], which decides whether the same events are tried again.
    fn insert(&self, events: &[NewEvent]) -> impl Future<Output = Result<Inserted, StoreError>> + Send;

    /// The same for events that were kept in the journal, each with the time at which it was delivered.
    ///
    /// # Errors
    /// As [`insert`](Store::insert).
    fn insert_journaled(
        &self,
        events: &[NewEvent],
        received_ats: &[DateTime<Utc>],
    ) -> impl Future<Output = Result<Inserted, StoreError>> + Send;

    /// Adds to the counts of refused requests.
    ///
    /// # Errors
    /// [`StoreError`]: none was added, unless only the answer was lost.
    fn note_refusals(&self, refused: &[Refused]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Adds what ingest reports of its keys.
    ///
    /// # Errors
    /// As [`note_refusals`](Store::note_refusals).
    fn note_key_use(&self, uses: &[Use]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Notes what waits in the journal.
    ///
    /// # Errors
    /// [`StoreError`]: it was not noted, unless only the answer was lost.
    fn note_journal(&self, report: &JournalReport) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The result of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// The events that were stored already, each as often as it came. Of equal events in one commit the first may be
    /// new.
    pub duplicates: Vec<Duplicate>,
    /// How long the commit took.
    pub took: Took,
}

/// Why events were not committed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store takes no event now: no connection, a restart, a failover, a deadlock. Trying again may help.
    #[error("the database cannot take events now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another session is storing one of these events. The others can be stored without it.
    #[error("another session has locked an event")]
    Locked(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store does not take these events as they are. Trying again does not help.
    #[error("the database refused an event")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Which delivery stored the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// This one.
    New,
    /// An earlier one. `differs` says whether its body was different.
    Again { differs: bool },
    /// Nobody knows yet: it is on the disk of ingest, in the journal.
    Journaled,
}

/// Why a delivery gets no 2xx: its event is not known to be committed. In every case the sender should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotStored {
    /// The store did not commit the event in time.
    #[error("the database did not take the event in time")]
    Unavailable,
    /// Another session holds a lock on its identifier.
    #[error("another session has locked the event")]
    Locked,
    /// Too many events wait already.
    #[error("too many events wait to be committed")]
    Full,
    /// The store refuses this event, as JSON and as bytes.
    #[error("the database refused the event")]
    Refused,
}

impl NotStored {
    /// A short name that stays the same, for logs and metrics.
    pub(super) fn reason(self) -> &'static str {
        match self {
            NotStored::Unavailable | NotStored::Locked => "database_unavailable",
            NotStored::Full => "queue_full",
            NotStored::Refused => "database_refused",
        }
    }
}

/// Starts the lanes. They end when every [`Committer`] is dropped and every queued event has its answer.
pub(super) fn start<S: Store>(
    store: S,
    journal: Option<Journal>,
    limits: &Limits,
) -> (Committer, JoinHandle<()>) {
    let (queue, waiting) = mpsc::channel(limits.queue_events_max);
    let (patience, of) = match journal {
        None => (limits.ingest_wait, Of::Deliveries),
        Some(journal) => (limits.ingest_wait + JOURNAL_WAIT, Of::JournaledDeliveries(journal)),
    };
    let lane = Lane::new(store, limits.ingest_wait, of);
    let batch_threshold = BatchThreshold::new();
    let lanes = Lanes::new(limits, Arc::clone(&batch_threshold));
    let dispatch = tokio::spawn(dispatch(Arc::new(lane), waiting, lanes, limits.clone()));
    (Committer { queue, batch_threshold, patience }, dispatch)
}

/// Hands events to the lanes.
#[derive(Clone, Debug)]
pub(super) struct Committer {
    queue: mpsc::Sender<Waiting>,
    batch_threshold: Arc<BatchThreshold>,
    /// How long a delivery waits for its answer.
    patience: Duration,
}

impl Committer {
    /// Commits `event`; `Ok` means that it is in the store, or in the journal.
    ///
    /// Dropping the future, or a timeout, does not take the event back: it may still be stored.
    pub(super) async fn commit(&self, event: NewEvent) -> Result<Kept, NotStored> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Waiting { event, received_at: Utc::now(), answer }).map_err(|refused| {
            match refused {
                mpsc::error::TrySendError::Full(_) => NotStored::Full,
                mpsc::error::TrySendError::Closed(_) => NotStored::Unavailable,
            }
        })?;
        self.batch_threshold.note_waiting(self.queue.max_capacity() - self.queue.capacity());
        match timeout(self.patience, answered).await {
            Ok(Ok(answer)) => answer,
            // The time is over, or the lane is gone: it panicked, or the drain time ended.
            Err(_) | Ok(Err(_)) => Err(NotStored::Unavailable),
        }
    }
}

async fn dispatch<S: Store>(
    lane: Arc<Lane<S>>,
    mut queue: mpsc::Receiver<Waiting>,
    mut lanes: Lanes,
    limits: Limits,
) {
    while let Some(first) = queue.recv().await {
        let mut first = Some(first);
        loop {
            let batch = next_batch(first.take(), &mut queue, &limits);
            let lane = Arc::clone(&lane);
            lanes.start(batch.len(), async move { lane.settle(batch).await });
            if !lanes.have_room(&queue).await {
                break;
            }
        }
    }
}

/// Takes the waiting events, up to the limits of one commit.
fn next_batch(mut first: Option<Waiting>, queue: &mut mpsc::Receiver<Waiting>, limits: &Limits) -> Batch {
    let mut batch = Batch::default();
    let (mut events, mut bytes) = (0, 0);
    while let Some(waiting) = first.take().or_else(|| queue.try_recv().ok()) {
        events += 1;
        bytes += waiting.event.body.as_bytes().len();
        batch.push(waiting);
        if events >= limits.batch_events_max || bytes >= limits.batch_bytes_max {
            break;
        }
    }
    batch
}
