//! A batch and its life: `in_progress`, `canceling` if a client cancels it, `ended`.
//!
//! The outcome of each request is drawn whenever it is needed, and not stored. So a batch of 100,000 made-up requests
//! takes no more memory than one of ten.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::dice;
use super::outcome::{Outcome, Shares};

/// How long a batch may take, by the API's guide to batches.
const EXPIRY: TimeDelta = TimeDelta::hours(24);
/// How long after its creation a batch's results can be fetched, by the same guide.
const RETENTION: TimeDelta = TimeDelta::days(29);

/// The requests of a batch.
pub(super) enum Requests {
    /// As the client posted them.
    Posted(Vec<Item>),
    /// Made up: each `custom_id` is the prefix and a number from 0.
    Made { prefix: String, count: usize },
}

/// One request that was posted.
pub(super) struct Item {
    pub(super) custom_id: Box<str>,
    pub(super) model: Arc<str>,
    /// What is wrong with its `params`; only the results show it.
    pub(super) flaw: Option<String>,
}

impl Requests {
    pub(super) fn count(&self) -> usize {
        match self {
            Requests::Posted(items) => items.len(),
            Requests::Made { count, .. } => *count,
        }
    }

    pub(super) fn custom_id(&self, index: usize) -> Cow<'_, str> {
        match self {
            Requests::Posted(items) => Cow::Borrowed(&items[index].custom_id),
            Requests::Made { prefix, .. } => Cow::Owned(format!("{prefix}{index:06}")),
        }
    }

    pub(super) fn model(&self, index: usize) -> &str {
        match self {
            Requests::Posted(items) => &items[index].model,
            Requests::Made { .. } => "claude-opus-5-5",
        }
    }

    pub(super) fn flaw(&self, index: usize) -> Option<&str> {
        match self {
            Requests::Posted(items) => items[index].flaw.as_deref(),
            Requests::Made { .. } => None,
        }
    }
}

/// A batch. Cloning it does not clone its requests.
#[derive(Clone)]
pub(super) struct Batch {
    pub(super) id: String,
    pub(super) requests: Arc<Requests>,
    pub(super) seed: u64,
    pub(super) shares: Shares,
    pub(super) ended_at: Option<DateTime<Utc>>,
    /// How many downloads of its results a fault has cut.
    pub(super) cut_downloads: u32,
    created_at: DateTime<Utc>,
    cancel_initiated_at: Option<DateTime<Utc>>,
    started: Instant,
    lasts: Duration,
    /// The share of its time that had passed when it was cancelled.
    done_share: f64,
    counts: [u64; 4],
}

impl Batch {
    /// A batch that begins now, shows `created_at` as its creation, and ends after `lasts`.
    pub(super) fn new(
        id: String,
        requests: Requests,
        seed: u64,
        shares: Shares,
        created_at: DateTime<Utc>,
        lasts: Duration,
    ) -> Batch {
        Batch {
            id,
            requests: Arc::new(requests),
            seed,
            shares,
            ended_at: None,
            cut_downloads: 0,
            created_at,
            cancel_initiated_at: None,
            started: Instant::now(),
            lasts,
            done_share: 1.0,
            counts: [0; 4],
        }
    }

    /// The outcome of the request at this index, once the batch has ended.
    pub(super) fn outcome(&self, index: usize) -> Outcome {
        if self.requests.flaw(index).is_some() {
            return Outcome::Errored;
        }
        let custom_id = self.requests.custom_id(index);
        if self.done_share < 1.0 && dice::roll(self.seed, "done", &custom_id) >= self.done_share {
            return Outcome::Canceled;
        }
        self.shares.outcome(self.seed, &custom_id)
    }

    /// Begins to cancel a batch that has not ended.
    pub(super) fn cancel(&mut self) {
        if self.cancel_initiated_at.is_none() {
            self.done_share = (self.started.elapsed().as_secs_f64() / self.lasts.as_secs_f64()).min(1.0);
            self.cancel_initiated_at = Some(Utc::now().max(self.created_at));
        }
    }

    /// Ends the batch. Returns false if it had ended already.
    pub(super) fn end(&mut self) -> bool {
        if self.ended_at.is_some() {
            return false;
        }
        for index in 0..self.requests.count() {
            self.counts[self.outcome(index) as usize] += 1;
        }
        self.ended_at = Some(Utc::now().min(self.created_at + EXPIRY));
        true
    }

    /// Are its results no longer available?
    pub(super) fn archived(&self) -> bool {
        Utc::now() >= self.created_at + RETENTION
    }

    /// The batch as the API shows it, with `results_url` once there are results.
    pub(super) fn object(&self, results_url: &str) -> Value {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let status = match (self.ended_at, self.cancel_initiated_at) {
            (Some(_), _) => "ended",
            (None, Some(_)) => "canceling",
            (None, None) => "in_progress",
        };
        // Until the batch ends, the API counts every request as `processing`.
        let processing = if self.ended_at.is_none() { self.requests.count() } else { 0 };
        let [succeeded, errored, canceled, expired] = self.counts;
        json!({
            "id": self.id, "type": "message_batch", "processing_status": status,
            "request_counts": {"processing": processing, "succeeded": succeeded, "errored": errored,
                "canceled": canceled, "expired": expired},
            "created_at": time(self.created_at), "expires_at": time(self.created_at + EXPIRY),
            "ended_at": self.ended_at.map(time), "cancel_initiated_at": self.cancel_initiated_at.map(time),
            "archived_at": self.archived().then(|| time(self.created_at + RETENTION)),
            "results_url": (self.ended_at.is_some() && !self.archived()).then_some(results_url),
        })
    }
}

/// All batches, in the order of their creation.
#[derive(Default)]
pub(super) struct Batches {
    /// A deleted batch leaves its place empty, so that it still serves as a cursor.
    places: Vec<Option<Batch>>,
    by_id: HashMap<String, usize>,
}

impl Batches {
    pub(super) fn insert(&mut self, batch: Batch) {
        self.by_id.insert(batch.id.clone(), self.places.len());
        self.places.push(Some(batch));
    }

    /// How many there have been, with those that were deleted.
    pub(super) fn created(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Batch> {
        self.places[*self.by_id.get(id)?].as_mut()
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some(&place) = self.by_id.get(id) {
            self.places[place] = None;
        }
    }

    /// The place of a batch, also of a deleted one, as a cursor for `page`.
    pub(super) fn place(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Up to `limit` batches, newest first, and whether there are more in that direction: the newest ones older
    /// than the place `after`, or the oldest ones newer than the place `before`.
    pub(super) fn page(
        &self,
        after: Option<usize>,
        before: Option<usize>,
        limit: usize,
    ) -> (Vec<&Batch>, bool) {
        let end = after.unwrap_or(self.places.len());
        let start = before.map_or(0, |place| place + 1).min(end);
        let within = self.places[start..end].iter().flatten();
        let mut page: Vec<&Batch> = match before {
            Some(_) => within.take(limit + 1).collect(),
            None => within.rev().take(limit + 1).collect(),
        };
        let more = page.len() > limit;
        page.truncate(limit);
        if before.is_some() {
            page.reverse();
        }
        (page, more)
    }
}
