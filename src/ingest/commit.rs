//! The group commit: events that arrive while a commit is under way share the next one.
//!
//! A few lanes commit at the same time. Events are taken from the queue only when a lane is free, so batches form
//! by themselves under load, and no timer delays a lone event. Commits run in tasks of their own: a sender that
//! hangs up does not cancel one half way.
//!
//! A database that cannot take events now is waited for, inside the request. An event that the database will not
//! take never takes its neighbours with it: the batch is halved until the event stands alone.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::Limits;
use super::throttle::Throttle;
use crate::event::{Body, NewEvent};

/// Where events are committed.
pub trait Store: Send + Sync + 'static {
    /// Commits all of `events`, or none of them.
    ///
    /// An event that is already stored is left as it is, and that is no error: a batch is tried again when its
    /// outcome is unknown, and may hold an event twice. The events come in no particular order; a store that
    /// takes locks one by one must order them itself. The future may be dropped at any point.
    ///
    /// # Errors
    /// [`StoreError`], which decides whether the same events are tried again.
    fn insert(&self, events: &[NewEvent]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why events were not committed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot take anything now: no connection, a restart, a failover, a deadlock. Trying again may help.
    #[error("the database cannot take events now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store does not take these events as they are. Trying again does not help.
    #[error("the database refused an event")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a delivery's event is not known to be committed. In every case the sender should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotStored {
    /// The store did not take it in time.
    #[error("the database did not take the event in time")]
    Unavailable,
    /// Too many events wait already.
    #[error("too many events wait to be committed")]
    Full,
    /// The store takes this event in no form.
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

/// Starts the lanes. They end when every [`Committer`] is dropped and all that was queued is settled.
pub(super) fn start<S: Store>(store: S, limits: &Limits) -> (Committer, JoinHandle<()>) {
    let (queue, waiting) = mpsc::channel(limits.queue_events_max);
    let lane = Lane { store, budget: limits.commit_timeout, throttle: Throttle::default() };
    let lanes = tokio::spawn(dispatch(Arc::new(lane), waiting, limits.clone()));
    (Committer { queue, budget: limits.commit_timeout }, lanes)
}

/// The way to the lanes.
#[derive(Clone, Debug)]
pub(super) struct Committer {
    queue: mpsc::Sender<Waiting>,
    budget: Duration,
}

impl Committer {
    /// Commits `event`; `Ok` means that it is in the store.
    ///
    /// Dropping the future, or running out of time, does not take the event back: it may be stored still.
    pub(super) async fn commit(&self, event: NewEvent) -> Result<(), NotStored> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Waiting { event, answer }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => NotStored::Full,
            mpsc::error::TrySendError::Closed(_) => NotStored::Unavailable,
        })?;
        match timeout(self.budget, answered).await {
            Ok(Ok(answer)) => answer,
            // Out of time; or the lane is gone, by a panic or because the drain was cut.
            Err(_) | Ok(Err(_)) => Err(NotStored::Unavailable),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    event: NewEvent,
    answer: oneshot::Sender<Result<(), NotStored>>,
}

async fn dispatch<S: Store>(lane: Arc<Lane<S>>, mut queue: mpsc::Receiver<Waiting>, limits: Limits) {
    // Dropping the set, when the drain is cut, ends the lanes with it.
    let mut lanes = JoinSet::new();
    loop {
        // First a free lane, then the events: meanwhile they gather into a batch.
        while lanes.len() >= limits.lanes {
            lanes.join_next().await;
        }
        let Some(batch) = next_batch(&mut queue, &limits).await else { break };
        let lane = Arc::clone(&lane);
        lanes.spawn(async move { lane.settle(batch).await });
    }
    while lanes.join_next().await.is_some() {}
}

/// What waits, up to the limits of one commit; `None` once no more can come.
async fn next_batch(queue: &mut mpsc::Receiver<Waiting>, limits: &Limits) -> Option<Batch> {
    let mut batch = Batch::default();
    let mut bytes = 0;
    let mut next = queue.recv().await;
    while let Some(waiting) = next.take() {
        bytes += waiting.event.body.as_bytes().len();
        batch.push(waiting);
        if batch.events.len() < limits.batch_events_max && bytes < limits.batch_bytes_max {
            next = queue.try_recv().ok();
        }
    }
    if batch.events.is_empty() { None } else { Some(batch) }
}

/// Events, and who waits for each.
#[derive(Default)]
struct Batch {
    events: Vec<NewEvent>,
    answers: Vec<oneshot::Sender<Result<(), NotStored>>>,
}

impl Batch {
    fn push(&mut self, waiting: Waiting) {
        self.events.push(waiting.event);
        self.answers.push(waiting.answer);
    }

    /// Takes the second half away.
    fn split(&mut self) -> Batch {
        let half = self.events.len() / 2;
        Batch { events: self.events.split_off(half), answers: self.answers.split_off(half) }
    }

    fn answer(self, outcome: Result<(), NotStored>) {
        for answer in self.answers {
            // Nobody listens any more where the sender hung up or its time was over.
            let _ = answer.send(outcome);
        }
    }
}

struct Lane<S> {
    store: S,
    budget: Duration,
    throttle: Throttle,
}

impl<S: Store> Lane<S> {
    /// Commits a batch and gives everybody their answer.
    async fn settle(&self, batch: Batch) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            match self.insert(&part.events).await {
                Ok(()) => part.answer(Ok(())),
                Err(StoreError::Unavailable(_)) => part.answer(Err(NotStored::Unavailable)),
                Err(StoreError::Refused(_)) if part.events.len() > 1 => {
                    let second = part.split();
                    parts.extend([second, part]);
                }
                Err(StoreError::Refused(source)) => {
                    let event_id = part.events.first().map(|event| event.event_id.clone());
                    // Our idea of what Postgres takes as JSON may be wrong; bytes are always taken.
                    if part.events.first_mut().is_some_and(make_raw) {
                        tracing::warn!(event.id = ?event_id, error = %source, "keeping a body as bytes");
                        parts.push(part);
                    } else {
                        tracing::error!(event.id = ?event_id, error = %source, "the database refused an event");
                        part.answer(Err(NotStored::Refused));
                    }
                }
            }
        }
    }

    /// Inserts events, and waits for a store that is away until the budget is over. Events whose senders have
    /// meanwhile been answered are tried all the same: senders make few attempts, and this may have been the last.
    async fn insert(&self, events: &[NewEvent]) -> Result<(), StoreError> {
        let started = Instant::now();
        let mut delays = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_millis(500))
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            // A dead connection may be silent. Half of the budget leaves time to try another one.
            let outcome = match timeout(self.budget / 2, self.store.insert(events)).await {
                Ok(Err(StoreError::Unavailable(source))) => source,
                Ok(settled) => return settled,
                Err(elapsed) => elapsed.into(),
            };
            let delay = delays.next().unwrap_or(self.budget);
            if started.elapsed() + delay >= self.budget {
                return Err(StoreError::Unavailable(outcome));
            }
            if let Some(left_out) = self.throttle.admit("unavailable", Instant::now()) {
                tracing::warn!(error = %outcome, left_out, "waiting for the database");
            }
            sleep(delay).await;
        }
    }
}

/// Turns a body that was to be stored as JSON into bytes. False if it was bytes already.
fn make_raw(event: &mut NewEvent) -> bool {
    match &mut event.body {
        Body::Json(text) => {
            event.body = Body::Raw(mem::take(text).into_bytes());
            true
        }
        Body::Raw(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use futures_util::future::join_all;

    use super::super::fake::{FakeStore, Verdict};
    use super::*;

    fn limits() -> Limits {
        Limits { lanes: 1, ..Limits::default() }
    }

    fn event(id: &str) -> NewEvent {
        NewEvent {
            event_id: id.into(),
            event_type: "session.status_idled".into(),
            key: None,
            workspace_id: None,
            created_at: DateTime::UNIX_EPOCH,
            body: Body::Json("{}".into()),
        }
    }

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("e{number}")).collect()
    }

    /// Queues an event for each name, behind a commit that is held, and then lets that go on.
    async fn commit_behind(
        store: &FakeStore,
        committer: &Committer,
        names: &[String],
    ) -> Vec<Result<(), NotStored>> {
        let first = tokio::spawn({
            let committer = committer.clone();
            async move { committer.commit(event("first")).await }
        });
        store.entered().await;
        let behind = join_all(names.iter().map(|name| committer.commit(event(name))));
        let release = async { store.release() };
        // The events are queued when they are first polled, which is before the release.
        let (answers, ()) = tokio::join!(biased; behind, release);
        assert_eq!(first.await.unwrap(), Ok(()));
        answers
    }

    #[tokio::test]
    async fn events_that_arrive_during_a_commit_share_the_next_one() {
        let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Hold } else { Verdict::Take });
        let (committer, _lanes) = start(store.clone(), &limits());

        let answers = commit_behind(&store, &committer, &names(9)).await;

        assert_eq!(answers, [Ok(()); 9]);
        assert_eq!(store.calls(), [vec!["first".to_owned()], names(9)]);
    }

    #[tokio::test]
    async fn a_commit_takes_no_more_events_and_bytes_than_its_limits() {
        let by_events = Limits { batch_events_max: 4, ..limits() };
        // Each body has two bytes.
        let by_bytes = Limits { batch_bytes_max: 8, ..limits() };
        for limits in [by_events, by_bytes] {
            let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Hold } else { Verdict::Take });
            let (committer, _lanes) = start(store.clone(), &limits);

            let answers = commit_behind(&store, &committer, &names(9)).await;

            assert_eq!(answers, [Ok(()); 9]);
            let sizes: Vec<usize> = store.calls().iter().map(Vec::len).collect();
            assert_eq!(sizes, [1, 4, 4, 1], "{limits:?}");
        }
    }

    #[tokio::test]
    async fn an_event_beyond_the_queue_is_turned_away_at_once() {
        let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Hold } else { Verdict::Take });
        let (committer, _lanes) = start(store.clone(), &Limits { queue_events_max: 2, ..limits() });

        let answers = commit_behind(&store, &committer, &names(3)).await;

        assert_eq!(answers, [Ok(()), Ok(()), Err(NotStored::Full)]);
    }

    #[tokio::test]
    async fn a_short_outage_of_the_store_is_waited_out() {
        let store =
            FakeStore::scripted(|call, _| if call < 3 { Verdict::Unavailable } else { Verdict::Take });
        let (committer, _lanes) = start(store.clone(), &limits());

        assert_eq!(committer.commit(event("e1")).await, Ok(()));
        assert_eq!(store.calls(), vec![names(1); 4]);
    }

    #[tokio::test]
    async fn a_long_outage_ends_with_the_budget() {
        let limits = Limits { commit_timeout: Duration::from_millis(500), ..limits() };
        let store = FakeStore::scripted(|_, _| Verdict::Unavailable);
        let (committer, _lanes) = start(store.clone(), &limits);

        assert_eq!(committer.commit(event("e1")).await, Err(NotStored::Unavailable));
        assert!(store.calls().len() > 1, "it was tried again");
    }

    #[tokio::test]
    async fn an_insert_that_never_returns_is_given_up_for_another_one() {
        let limits = Limits { commit_timeout: Duration::from_secs(1), ..limits() };
        let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Hang } else { Verdict::Take });
        let (committer, _lanes) = start(store.clone(), &limits);

        assert_eq!(committer.commit(event("e1")).await, Ok(()));
    }

    #[tokio::test]
    async fn a_panic_of_the_store_costs_its_own_batch_only() {
        let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Panic } else { Verdict::Take });
        let (committer, _lanes) = start(store.clone(), &limits());

        assert_eq!(committer.commit(event("e1")).await, Err(NotStored::Unavailable));
        assert_eq!(committer.commit(event("e2")).await, Ok(()));
    }

    #[tokio::test]
    async fn an_event_that_is_refused_as_json_is_kept_as_bytes_and_its_neighbours_as_they_are() {
        let store = FakeStore::scripted(|call, events| {
            let poisoned = |event: &NewEvent| event.event_id == "e7" && matches!(event.body, Body::Json(_));
            match call {
                0 => Verdict::Hold,
                _ if events.iter().any(poisoned) => Verdict::Refuse,
                _ => Verdict::Take,
            }
        });
        let (committer, _lanes) = start(store.clone(), &limits());

        let answers = commit_behind(&store, &committer, &names(9)).await;

        assert_eq!(answers, [Ok(()); 9]);
        let stored = store.stored();
        assert_eq!(stored.len(), 10);
        for (id, event) in stored {
            let expected = if id == "e7" { Body::Raw(b"{}".to_vec()) } else { Body::Json("{}".into()) };
            assert_eq!(event.body, expected, "{id}");
        }
    }

    #[tokio::test]
    async fn an_event_that_is_refused_in_any_form_fails_alone() {
        let store = FakeStore::scripted(|call, events| match call {
            0 => Verdict::Hold,
            _ if events.iter().any(|event| event.event_id == "e4") => Verdict::Refuse,
            _ => Verdict::Take,
        });
        let (committer, _lanes) = start(store.clone(), &limits());

        let answers = commit_behind(&store, &committer, &names(6)).await;

        let refused = Err(NotStored::Refused);
        assert_eq!(answers, [Ok(()), Ok(()), Ok(()), refused, Ok(()), Ok(())]);
        assert_eq!(store.stored().len(), 6);
    }

    #[tokio::test]
    async fn an_event_whose_sender_hung_up_is_stored_all_the_same() {
        let store = FakeStore::scripted(|_, _| Verdict::Hold);
        let (committer, lanes) = start(store.clone(), &limits());
        let sender = tokio::spawn(async move { committer.commit(event("e1")).await });
        store.entered().await;

        sender.abort();
        assert!(sender.await.unwrap_err().is_cancelled());
        store.release();
        lanes.await.unwrap();

        assert!(store.stored().contains_key("e1"));
    }
}
