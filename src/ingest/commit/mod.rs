//! The group commit: events that arrive while a commit is under way share the next one.
//!
//! Events are taken from the queue only when a lane is free, so batches form by themselves under load, and no timer
//! delays a lone event. Commits run in tasks of their own: a sender that hangs up does not cancel one half way.
//!
//! While the database is unavailable, the request waits for it. An event that Postgres refuses, or that another session
//! has locked, does not fail its neighbours: the batch is halved until that event is alone.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::database;
use crate::event::{Body, NewEvent};
use crate::ingest::Limits;
use crate::ingest::lanes::{BatchThreshold, Lanes, Took};
use crate::ingest::throttle::Throttle;
use crate::outbox::insert::Duplicate;

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
}

/// Why a delivery gets no 2xx: its event is not known to be committed. In every case the sender should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotStored {
    /// The store did not commit the event in time.
    #[error("the database did not take the event in time")]
    Unavailable,
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
            NotStored::Unavailable => "database_unavailable",
            NotStored::Full => "queue_full",
            NotStored::Refused => "database_refused",
        }
    }
}

/// Starts the lanes. They end when every [`Committer`] is dropped and every queued event has its answer.
pub(super) fn start<S: Store>(store: S, limits: &Limits) -> (Committer, JoinHandle<()>) {
    let (queue, waiting) = mpsc::channel(limits.queue_events_max);
    let lane = Lane { store, ingest_wait: limits.ingest_wait, throttle: Throttle::default() };
    let batch_threshold = BatchThreshold::new();
    let lanes = Lanes::new(limits, Arc::clone(&batch_threshold));
    let dispatch = tokio::spawn(dispatch(Arc::new(lane), waiting, lanes, limits.clone()));
    (Committer { queue, batch_threshold, ingest_wait: limits.ingest_wait }, dispatch)
}

/// Hands events to the lanes.
#[derive(Clone, Debug)]
pub(super) struct Committer {
    queue: mpsc::Sender<Waiting>,
    batch_threshold: Arc<BatchThreshold>,
    ingest_wait: Duration,
}

impl Committer {
    /// Commits `event`; `Ok` means that it is in the store.
    ///
    /// Dropping the future, or a timeout, does not take the event back: it may still be stored.
    pub(super) async fn commit(&self, event: NewEvent) -> Result<Kept, NotStored> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Waiting { event, answer }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => NotStored::Full,
            mpsc::error::TrySendError::Closed(_) => NotStored::Unavailable,
        })?;
        self.batch_threshold.note_waiting(self.queue.max_capacity() - self.queue.capacity());
        match timeout(self.ingest_wait, answered).await {
            Ok(Ok(answer)) => answer,
            // The time is over, or the lane is gone: it panicked, or the drain time ended.
            Err(_) | Ok(Err(_)) => Err(NotStored::Unavailable),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    event: NewEvent,
    answer: oneshot::Sender<Result<Kept, NotStored>>,
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
            lanes.start(batch.events.len(), async move { lane.settle(batch).await });
            if !lanes.have_room(&queue).await {
                break;
            }
        }
    }
}

/// Takes the waiting events, up to the limits of one commit.
fn next_batch(mut first: Option<Waiting>, queue: &mut mpsc::Receiver<Waiting>, limits: &Limits) -> Batch {
    let mut batch = Batch::default();
    let mut bytes = 0;
    while let Some(waiting) = first.take().or_else(|| queue.try_recv().ok()) {
        bytes += waiting.event.body.as_bytes().len();
        batch.push(waiting);
        if batch.events.len() >= limits.batch_events_max || bytes >= limits.batch_bytes_max {
            break;
        }
    }
    batch
}

/// Events, and the request that waits for each.
#[derive(Default)]
struct Batch {
    events: Vec<NewEvent>,
    answers: Vec<oneshot::Sender<Result<Kept, NotStored>>>,
}

impl Batch {
    fn push(&mut self, waiting: Waiting) {
        self.events.push(waiting.event);
        self.answers.push(waiting.answer);
    }

    /// Splits off the second half.
    fn split(&mut self) -> Batch {
        let half = self.events.len() / 2;
        Batch { events: self.events.split_off(half), answers: self.answers.split_off(half) }
    }

    /// Splits off the events that repeat an identifier with another body. The store compares only the first event of
    /// each identifier, and a body that differs must leave a trace.
    fn split_differing(&mut self) -> Batch {
        let mut first: HashMap<(&str, &str), &Body> = HashMap::with_capacity(self.events.len());
        let differs = |event| {
            let NewEvent { sender, event_id, body, .. }: &NewEvent = event;
            *first.entry((sender, event_id)).or_insert(body) != body
        };
        let differing: Vec<bool> = self.events.iter().map(differs).collect();
        let mut split = Batch::default();
        if differing.contains(&true) {
            let whole = mem::take(self);
            for (waiting, differs) in whole.events.into_iter().zip(whole.answers).zip(differing) {
                let batch = if differs { &mut split } else { &mut *self };
                batch.push(Waiting { event: waiting.0, answer: waiting.1 });
            }
        }
        split
    }

    fn answer(self, outcome: Result<&[Duplicate], NotStored>) {
        let mut again: HashMap<(&str, &str), (usize, bool)> = HashMap::new();
        for duplicate in outcome.unwrap_or_default() {
            let (times, differs) = again.entry((&duplicate.sender, &duplicate.event_id)).or_default();
            *times += 1;
            *differs |= duplicate.differs;
        }
        // Backwards, because of equal events only the first may be new.
        for (event, answer) in self.events.iter().zip(self.answers).rev() {
            let kept = match again.get_mut(&(event.sender.as_str(), event.event_id.as_str())) {
                Some((times @ 1.., differs)) => {
                    *times -= 1;
                    Kept::Again { differs: *differs }
                }
                _ => Kept::New,
            };
            // The receiver is gone if the sender hung up or its time was over.
            let _ = answer.send(outcome.map(|_| kept));
        }
    }
}

struct Lane<S> {
    store: S,
    ingest_wait: Duration,
    throttle: Throttle,
}

impl<S: Store> Lane<S> {
    /// Commits a batch and answers each of its requests. Returns how long its last commit took.
    async fn settle(&self, batch: Batch) -> Option<Took> {
        let mut last = None;
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let differing = part.split_differing();
            if !differing.events.is_empty() {
                parts.push(differing);
            }
            match self.insert(&part.events).await {
                Ok(inserted) => {
                    part.answer(Ok(&inserted.duplicates));
                    last = Some(inserted.took);
                }
                Err(StoreError::Unavailable(_)) => part.answer(Err(NotStored::Unavailable)),
                Err(StoreError::Refused(_) | StoreError::Locked(_)) if part.events.len() > 1 => {
                    let second = part.split();
                    parts.extend([second, part]);
                }
                Err(StoreError::Locked(_)) => part.answer(Err(NotStored::Unavailable)),
                Err(StoreError::Refused(source)) => {
                    let event_id = part.events.first().map(|event| event.event_id.clone());
                    let error = database::told(source.as_ref());
                    // Our check of what Postgres takes as JSON may be wrong; Postgres always takes bytes.
                    if part.events.first_mut().is_some_and(make_raw) {
                        tracing::warn!(
                            event.id = event_id,
                            error,
                            "the database refused the body of an event as JSON; storing it as bytes"
                        );
                        parts.push(part);
                    } else {
                        tracing::error!(
                            event.id = event_id,
                            error,
                            "the database refused an event; its sender gets a 503"
                        );
                        part.answer(Err(NotStored::Refused));
                    }
                }
            }
        }
        last
    }

    /// Inserts events, and retries until `ingest_wait` is over while the store is unavailable. Events whose senders
    /// have been answered meanwhile are still tried: senders make few attempts, and this may have been the last.
    async fn insert(&self, events: &[NewEvent]) -> Result<Inserted, StoreError> {
        let started = Instant::now();
        let mut delays = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_millis(500))
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            // A dead connection may be silent. Half of the wait leaves time to try another connection.
            let outcome = match timeout(self.ingest_wait / 2, self.store.insert(events)).await {
                Ok(Err(StoreError::Unavailable(source))) => source,
                // A lone event waits for the session that has locked it.
                Ok(Err(StoreError::Locked(source))) if events.len() == 1 => source,
                Ok(settled) => return settled,
                Err(elapsed) => elapsed.into(),
            };
            let delay = delays.next().unwrap_or(self.ingest_wait);
            if started.elapsed() + delay >= self.ingest_wait {
                return Err(StoreError::Unavailable(outcome));
            }
            if let Some(left_out) = self.throttle.admit("unavailable", Instant::now()) {
                let error = database::told(outcome.as_ref());
                tracing::warn!(error, left_out, "waiting for the database; the events are tried again");
            }
            sleep(delay).await;
        }
    }
}

/// Turns a JSON body into bytes. Returns false if it was bytes already.
fn make_raw(event: &mut NewEvent) -> bool {
    match &mut event.body {
        Body::Json(text) => {
            event.body = Body::Raw(mem::take(text).into_bytes());
            true
        }
        Body::Raw(_) => false,
    }
}
