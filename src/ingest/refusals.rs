//! Counts the requests that were refused, and reports the counts to the database a few times a minute.
//!
//! The counts are by sender and reason, which are names of the configuration and words of ours: nothing that a request says takes up
//! memory here or room in the database. A report that fails is tried again with the next one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{Store, reports};
use crate::outbox::Refused;

/// Under which name requests are counted whose path is no sender's.
const NO_SENDER: &str = "-";

/// The most senders that are counted by name. A configuration that is read anew may bring new names.
const SENDERS_MAX: usize = 200;

/// The name for the others.
const OTHER: &str = "other";

/// What was refused since the last report. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(Arc<Mutex<HashMap<String, BTreeMap<&'static str, Counted>>>>);

#[derive(Clone, Copy, Debug)]
struct Counted {
    requests: i64,
    first_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
}

impl Refusals {
    /// Counts one request at the path of `sender`, or at the path of none.
    pub(super) fn note(&self, sender: Option<&str>, reason: &'static str, now: DateTime<Utc>) {
        self.add(sender.unwrap_or(NO_SENDER), reason, Counted { requests: 1, first_at: now, last_at: now });
    }

    fn add(&self, sender: &str, reason: &'static str, more: Counted) {
        let mut counts = self.lock();
        let sender = if counts.contains_key(sender) || counts.len() < SENDERS_MAX { sender } else { OTHER };
        if !counts.contains_key(sender) {
            counts.insert(sender.to_owned(), BTreeMap::new());
        }
        let Some(reasons) = counts.get_mut(sender) else { return };
        let counted = reasons.entry(reason).or_insert(Counted { requests: 0, ..more });
        counted.requests += more.requests;
        counted.first_at = counted.first_at.min(more.first_at);
        counted.last_at = counted.last_at.max(more.last_at);
    }

    fn take(&self) -> Vec<Refused> {
        let counts = std::mem::take(&mut *self.lock());
        let of_sender = |(sender, reasons): (String, BTreeMap<&'static str, Counted>)| {
            reasons.into_iter().map(move |(reason, counted)| {
                let Counted { requests, first_at, last_at } = counted;
                Refused { sender: sender.clone(), reason, requests, first_at, last_at }
            })
        };
        counts.into_iter().flat_map(of_sender).collect()
    }

    /// Reports what was refused since the last report, if anything was. Returns false if that is to be done again.
    async fn report(&self, store: &impl Store) -> bool {
        let refused = self.take();
        if refused.is_empty() || reports::arrives("refusals", store.note_refusals(&refused)).await {
            return true;
        }
        for Refused { sender, reason, requests, first_at, last_at } in refused {
            self.add(&sender, reason, Counted { requests, first_at, last_at });
        }
        false
    }

    /// Reports every so often until `stop`, and then what is left.
    pub(super) async fn report_until(self, stop: CancellationToken, every: Duration, store: impl Store) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.report(&store).await,
                () = stop.cancelled() => break,
            };
        }
        while !self.report(&store).await {
            sleep(reports::LAST_AGAIN_AFTER).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<&'static str, Counted>>> {
        // No holder can panic between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
