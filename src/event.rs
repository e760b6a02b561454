//! An event: what the API, a poll, or an application says has happened, as it lies in the outbox.
//!
//! What an event says of its subject, [`Event::data`], is read in `envelope`, as ingest reads it.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

/// The sender, and the account, that the environment configures.
pub const ANTHROPIC: &str = "anthropic";

/// The exact content of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// JSON that Postgres can hold as `json`, character for character as it came.
    Json(String),
    /// Bytes that are no JSON, or JSON that Postgres refuses (nested too deeply, say), as they came.
    Raw(Vec<u8>),
}

impl Body {
    /// The exact bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Body::Json(text) => text.as_bytes(),
            Body::Raw(bytes) => bytes,
        }
    }

    /// The text, where Postgres can hold it as `json`.
    pub fn as_json(&self) -> Option<&str> {
        match self {
            Body::Json(text) => Some(text),
            Body::Raw(_) => None,
        }
    }

    /// The first eight bytes of its SHA-256, which tell whether something else came under an identifier that is stored.
    pub fn digest(&self) -> i64 {
        let hash = Sha256::digest(self.as_bytes());
        i64::from_be_bytes(std::array::from_fn(|place| hash[place]))
    }

    /// The bytes, where it cannot.
    pub fn as_raw(&self) -> Option<&[u8]> {
        match self {
            Body::Json(_) => None,
            Body::Raw(bytes) => Some(bytes),
        }
    }
}

/// An event that is not in the outbox yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Who sent it, by the name of its configuration: `anthropic`, where no other is configured.
    pub sender: String,
    /// The account of the API that it belongs to; none for the events of other senders.
    pub account: Option<String>,
    /// The sender's identifier; the outbox holds each one once for each sender.
    pub event_id: String,
    /// What happened, as the API spells it: `session.status_idled`.
    pub event_type: String,
    /// What it happened to. Events of one key run one at a time, oldest first; without a key there is no order.
    pub key: Option<String>,
    /// The workspace that it happened in, where the sender says so.
    pub workspace_id: Option<String>,
    /// When it happened, by the sender's clock.
    pub created_at: DateTime<Utc>,
    /// What was said, exactly.
    pub body: Body,
    /// The trace that it belongs to, as the W3C writes a `traceparent`. Without one it belongs to the trace of the attempt whose
    /// transaction stores it, if there is one.
    pub traceparent: Option<String>,
}

/// An event of the outbox, as a handler sees it during one attempt.
#[derive(Clone, Debug)]
pub struct Event {
    /// The outbox's own number for this event.
    pub id: i64,
    /// Who sent it, by the name of its configuration.
    pub sender: String,
    /// The account of the API that it belongs to; none for the events of other senders.
    pub account: Option<String>,
    /// The sender's identifier. It stays the same over every attempt, so it serves as an idempotency key.
    pub event_id: String,
    /// What happened, as the API spells it.
    pub event_type: String,
    /// Whom the row is for: empty for the handler of the type, else the name of a subscriber.
    pub subscriber: String,
    /// What it happened to.
    pub key: Option<String>,
    /// The workspace that it happened in.
    pub workspace_id: Option<String>,
    /// Who put it into the outbox: `webhook`, `poll`, `sql` or `worker`.
    pub source: String,
    /// When it happened, by the sender's clock.
    pub created_at: DateTime<Utc>,
    /// When it was stored, by the database's clock.
    pub received_at: DateTime<Utc>,
    /// What was said, exactly.
    pub body: Body,
    /// Which attempt this is, from 1. Snoozes and attempts that were handed back do not count.
    pub attempt: i32,
}

impl Event {
    /// The account under which the built-in handlers store what the event is about. They answer only events that belong
    /// to one.
    pub(crate) fn account_or_default(&self) -> &str {
        self.account.as_deref().unwrap_or(ANTHROPIC)
    }
}
