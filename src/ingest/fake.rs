//! A store in memory that follows a script, for the tests of the engine.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use super::{Inserted, Store, StoreError, Took};
use crate::event::NewEvent;
use crate::key_use::Use;
use crate::outbox::insert::{Duplicate, seen_as};
use crate::outbox::{JournalReport, Refused};

/// What the store does with one insert.
pub(super) enum Verdict {
    Take,
    /// Take it once [`FakeStore::release`] is called.
    Hold,
    Unavailable,
    /// Another session is storing one of the events.
    Locked,
    Refuse,
    /// Never come back.
    Hang,
    Panic,
}

type Script = dyn Fn(usize, &[NewEvent]) -> Verdict + Send + Sync;

#[derive(Clone)]
pub(super) struct FakeStore(Arc<Inner>);

struct Inner {
    script: Box<Script>,
    calls: Mutex<Vec<Vec<String>>>,
    stored: Mutex<BTreeMap<String, NewEvent>>,
    /// When the events that came from the journal were delivered, in the order in which they were stored.
    received_ats: Mutex<Vec<(String, DateTime<Utc>)>>,
    reports_to_lose: AtomicUsize,
    refused: Mutex<BTreeMap<(String, &'static str), i64>>,
    key_uses: Mutex<Vec<Use>>,
    entered: Semaphore,
    gate: Semaphore,
    took: Took,
}

impl FakeStore {
    /// A store that takes everything.
    pub(super) fn new() -> Self {
        Self::scripted(|_, _| Verdict::Take)
    }

    /// A store that asks `script` about every insert, by its number from 0 and its events.
    pub(super) fn scripted(script: impl Fn(usize, &[NewEvent]) -> Verdict + Send + Sync + 'static) -> Self {
        let took = Took { worked: Duration::from_millis(1), waited: Duration::ZERO };
        Self::timed(took, script)
    }

    /// A store that also reports that each insert took `took`.
    pub(super) fn timed(
        took: Took,
        script: impl Fn(usize, &[NewEvent]) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        FakeStore(Arc::new(Inner {
            script: Box::new(script),
            calls: Mutex::default(),
            stored: Mutex::default(),
            received_ats: Mutex::default(),
            reports_to_lose: AtomicUsize::default(),
            refused: Mutex::default(),
            key_uses: Mutex::default(),
            entered: Semaphore::new(0),
            gate: Semaphore::new(0),
            took,
        }))
    }

    /// Waits until one more insert has begun.
    pub(super) async fn entered(&self) {
        self.0.entered.acquire().await.unwrap().forget();
    }

    /// Lets one held insert go on.
    pub(super) fn release(&self) {
        self.0.gate.add_permits(1);
    }

    /// The identifiers of each insert so far.
    pub(super) fn calls(&self) -> Vec<Vec<String>> {
        self.0.calls.lock().unwrap().clone()
    }

    /// The events that came from the journal, in their order, and when each was delivered.
    pub(super) fn journaled(&self) -> Vec<(String, DateTime<Utc>)> {
        self.0.received_ats.lock().unwrap().clone()
    }

    /// The next `reports` of refused requests and keys fail, and those after them do not.
    pub(super) fn lose_reports(&self, reports: usize) {
        self.0.reports_to_lose.store(reports, Ordering::SeqCst);
    }

    fn take_report(&self) -> Result<(), StoreError> {
        let less = |reports: usize| reports.checked_sub(1);
        match self.0.reports_to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => Err(StoreError::Unavailable("away".into())),
            Err(_) => Ok(()),
        }
    }

    /// Every report of a key, in their order.
    pub(super) fn key_uses(&self) -> Vec<Use> {
        self.0.key_uses.lock().unwrap().clone()
    }

    /// How many refused requests were reported, by sender and reason.
    pub(super) fn refused(&self) -> BTreeMap<(String, &'static str), i64> {
        self.0.refused.lock().unwrap().clone()
    }

    /// What is stored, by identifier.
    pub(super) fn stored(&self) -> BTreeMap<String, NewEvent> {
        self.0.stored.lock().unwrap().clone()
    }
}

impl Store for FakeStore {
    async fn insert(&self, events: &[NewEvent]) -> Result<Inserted, StoreError> {
        let call = {
            let mut calls = self.0.calls.lock().unwrap();
            calls.push(events.iter().map(|event| event.event_id.clone()).collect());
            calls.len() - 1
        };
        self.0.entered.add_permits(1);
        match (self.0.script)(call, events) {
            Verdict::Take => {}
            Verdict::Hold => self.0.gate.acquire().await.unwrap().forget(),
            Verdict::Unavailable => return Err(StoreError::Unavailable("away".into())),
            Verdict::Locked => return Err(StoreError::Locked("another session has it".into())),
            Verdict::Refuse => return Err(StoreError::Refused("no".into())),
            Verdict::Hang => std::future::pending().await,
            Verdict::Panic => panic!("the script says so"),
        }
        let mut stored = self.0.stored.lock().unwrap();
        let mut duplicates = Vec::new();
        for event in events {
            match stored.entry(seen_as(event).into_owned()) {
                Entry::Vacant(place) => {
                    place.insert(event.clone());
                }
                Entry::Occupied(known) => {
                    let differs = known.get().body != event.body;
                    duplicates.push(Duplicate {
                        sender: event.sender.clone(),
                        event_id: event.event_id.clone(),
                        differs,
                    });
                }
            }
        }
        Ok(Inserted { duplicates, took: self.0.took })
    }

    async fn insert_journaled(
        &self,
        events: &[NewEvent],
        received_ats: &[DateTime<Utc>],
    ) -> Result<Inserted, StoreError> {
        let inserted = self.insert(events).await?;
        let received_ats = events.iter().zip(received_ats);
        let named = received_ats.map(|(event, received_at)| (event.event_id.clone(), *received_at));
        self.0.received_ats.lock().unwrap().extend(named);
        Ok(inserted)
    }

    async fn note_refusals(&self, refused: &[Refused]) -> Result<(), StoreError> {
        self.take_report()?;
        let mut counts = self.0.refused.lock().unwrap();
        for Refused { sender, reason, requests, .. } in refused {
            *counts.entry((sender.clone(), *reason)).or_default() += requests;
        }
        Ok(())
    }

    async fn note_key_use(&self, uses: &[Use]) -> Result<(), StoreError> {
        self.take_report()?;
        self.0.key_uses.lock().unwrap().extend_from_slice(uses);
        Ok(())
    }

    async fn note_journal(&self, _: &JournalReport) -> Result<(), StoreError> {
        Ok(())
    }
}
