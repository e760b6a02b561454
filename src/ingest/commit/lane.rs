//! One commit from its events to the answer of each.

use std::mem;
use std::time::{Duration, Instant};

use backoff::{BackoffBuilder, ExponentialBuilder};
use tokio::time::{sleep, timeout};

use super::batch::Batch;
use super::{Inserted, NotStored, Store, StoreError};
use crate::database;
use crate::event::{Body, NewEvent};
use crate::ingest::journal::Journal;
use crate::ingest::lanes::Took;
use crate::ingest::throttle::Throttle;

/// Where a lane takes its events from, and what it does with them while the store takes none.
#[derive(Debug)]
pub(in crate::ingest) enum Of {
    /// Deliveries, which wait for the store.
    Deliveries,
    /// Deliveries that go to the journal if the store has not taken them in time.
    JournaledDeliveries(Journal),
    /// Events that come from the journal.
    Replay,
}

/// Commits batches, however many at a time.
pub(in crate::ingest) struct Lane<S> {
    store: S,
    ingest_wait: Duration,
    of: Of,
    throttle: Throttle,
}

impl<S: Store> Lane<S> {
    /// A lane whose events wait for the store for `ingest_wait` at most.
    pub(in crate::ingest) fn new(store: S, ingest_wait: Duration, of: Of) -> Self {
        Self { store, ingest_wait, of, throttle: Throttle::default() }
    }

    /// Commits a batch and answers each of its requests. Returns how long its last commit took.
    pub(in crate::ingest) async fn settle(&self, batch: Batch) -> Option<Took> {
        let mut last = None;
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let Some(mut part) = self.journal_if_on(part).await else { continue };
            let differing = part.split_differing();
            if !differing.events.is_empty() {
                parts.push(differing);
            }
            match self.insert(&part).await {
                Ok(inserted) => {
                    part.answer(Ok(&inserted.duplicates));
                    last = Some(inserted.took);
                }
                Err(StoreError::Unavailable(_)) => self.journal(part).await,
                Err(StoreError::Refused(_) | StoreError::Locked(_)) if part.events.len() > 1 => {
                    let second = part.split();
                    parts.extend([second, part]);
                }
                // It does not go to the journal, where it would hold up the others.
                Err(StoreError::Locked(_)) => part.answer(Err(NotStored::Locked)),
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
                        let told = match self.of {
                            Of::Replay => "the database refused an event of the journal; it is kept aside",
                            _ => "the database refused an event; its sender gets a 503",
                        };
                        tracing::error!(event.id = event_id, error, "{told}");
                        part.answer(Err(NotStored::Refused));
                    }
                }
            }
        }
        last
    }

    /// Whether the store would take events of the journal now.
    pub(in crate::ingest) async fn store_answers(&self) -> bool {
        matches!(timeout(self.ingest_wait / 2, self.store.insert_journaled(&[], &[])).await, Ok(Ok(_)))
    }

    /// Keeps events in the journal while it is on. Returns them if they have to go to the store.
    async fn journal_if_on(&self, part: Batch) -> Option<Batch> {
        if let Of::JournaledDeliveries(journal) = &self.of
            && let Ok(true) = journal.append_if_on(&part.events, &part.received_ats).await
        {
            part.answer_journaled();
            return None;
        }
        // If the journal takes no more, the store may.
        Some(part)
    }

    /// Keeps events in the journal, if there is one, because the store has not taken them in time.
    async fn journal(&self, part: Batch) {
        let kept = match &self.of {
            Of::JournaledDeliveries(journal) => {
                journal.append(&part.events, &part.received_ats).await.is_ok()
            }
            Of::Deliveries | Of::Replay => false,
        };
        if kept { part.answer_journaled() } else { part.answer(Err(NotStored::Unavailable)) }
    }

    /// Inserts events. If the journal is turned on meanwhile, another commit has waited for long enough, and this one waits no longer.
    async fn insert(&self, part: &Batch) -> Result<Inserted, StoreError> {
        let turned_on = async {
            match &self.of {
                // One that is on already takes no more.
                Of::JournaledDeliveries(journal) if !journal.is_on() => journal.turned_on().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            settled = self.insert_patiently(part) => settled,
            // The store may have taken them, and only its answer is missing: it stores each once.
            () = turned_on => Err(StoreError::Unavailable("the journal was turned on".into())),
        }
    }

    /// Inserts events, and retries until `ingest_wait` is over while the store is unavailable. Events whose senders
    /// have been answered meanwhile are still tried: senders make few attempts, and this may have been the last.
    async fn insert_patiently(&self, part: &Batch) -> Result<Inserted, StoreError> {
        let started = Instant::now();
        let mut delays = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_millis(500))
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            // A dead connection may be silent. Half of the wait leaves time to try another connection.
            let (error, is_locked) = match timeout(self.ingest_wait / 2, self.insert_once(part)).await {
                Ok(Err(StoreError::Unavailable(source))) => (source, false),
                // A lone event waits for the session that has locked it.
                Ok(Err(StoreError::Locked(source))) if part.events.len() == 1 && self.may_wait() => {
                    (source, true)
                }
                Ok(settled) => return settled,
                Err(elapsed) => (elapsed.into(), false),
            };
            let delay = delays.next().unwrap_or(self.ingest_wait);
            if started.elapsed() + delay >= self.ingest_wait {
                let kind = if is_locked { StoreError::Locked } else { StoreError::Unavailable };
                return Err(kind(error));
            }
            if let Some(left_out) = self.throttle.admit("unavailable", Instant::now()) {
                let error = database::told(error.as_ref());
                tracing::warn!(error, left_out, "waiting for the database; the events are tried again");
            }
            sleep(delay).await;
        }
    }

    /// An event of the journal that is locked goes behind the others instead.
    fn may_wait(&self) -> bool {
        !matches!(self.of, Of::Replay)
    }

    async fn insert_once(&self, part: &Batch) -> Result<Inserted, StoreError> {
        match self.of {
            Of::Replay => self.store.insert_journaled(&part.events, &part.received_ats).await,
            Of::Deliveries | Of::JournaledDeliveries(_) => self.store.insert(&part.events).await,
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
