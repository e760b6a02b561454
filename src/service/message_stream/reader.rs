//! One reader of one message: what it has seen, and what it gets next.

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::frames::{HEARTBEAT, Place, kept, push};
use super::hub::{Following, Hub};
use crate::database::{answered, told};
use crate::message::reading::{Chunk, Progress, chunks_after, final_message, progress};

/// How long a connection is silent at most. Proxies commonly close one after a minute.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

/// How long to wait after a query that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// The last event of a complete answer.
const LAST: &str = "message_stop";

/// What comes of an attempt to read along.
pub(super) enum Start {
    Reads(Reader),
    /// The reader was told how the message ended, and nothing came after it.
    HasSeenTheEnd,
    NoSuchMessage,
}

/// One reader.
pub(super) struct Reader {
    pool: PgPool,
    following: Following,
    message: i64,
    /// The attempt whose events it has; 0 before the first.
    attempt: i32,
    /// The number of the last of them.
    seq: i64,
    /// Was that the last event of a complete answer? Nobody knows if the reader saw it through another connection.
    has_all: Option<bool>,
    /// Is an event missing? Then it gets the final message at the end.
    has_gap: bool,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// A reader that goes on after `last`.
    ///
    /// # Errors
    /// The database is away or did not answer.
    pub(super) async fn start(
        pool: PgPool,
        hub: &std::sync::Arc<Hub>,
        message: i64,
        last: Option<Place>,
        place: OwnedSemaphorePermit,
    ) -> sqlx::Result<Start> {
        // Before the first look, so that nothing falls between the two.
        let following = hub.follow(message);
        let Some(now) = answered(progress(&pool, &[message])).await?.pop() else {
            return Ok(Start::NoSuchMessage);
        };
        let is_seen = last.is_some_and(|last| last.attempt == now.attempt && last.seq.is_none());
        if is_seen && is_over(&now.status) {
            return Ok(Start::HasSeenTheEnd);
        }
        let (attempt, seq) = last.map_or((0, 0), |last| (last.attempt, last.seq.unwrap_or(0)));
        let has_all = (seq == 0).then_some(false);
        Ok(Start::Reads(Self {
            pool,
            following,
            message,
            attempt,
            seq,
            has_all,
            has_gap: false,
            is_over: false,
            _place: place,
        }))
    }

    /// What the reader gets next; `None` after the end.
    pub(super) async fn next(&mut self) -> Option<String> {
        while !self.is_over {
            match answered(self.read()).await {
                Ok(frames) if !frames.is_empty() => return Some(frames),
                Ok(_) if self.is_over => return None,
                Ok(_) => {
                    if timeout(HEARTBEAT_EVERY, self.following.news()).await.is_err() {
                        return Some(HEARTBEAT.to_owned());
                    }
                }
                Err(error) => {
                    let error = told(&error);
                    tracing::debug!(message = self.message, error, "a reader waits for the database");
                    sleep(AGAIN).await;
                    return Some(HEARTBEAT.to_owned());
                }
            }
        }
        None
    }

    /// What is new. Nothing of the reader changes before the last answer of the database is here, because this may be dropped.
    async fn read(&mut self) -> sqlx::Result<String> {
        let Some(now) = progress(&self.pool, &[self.message]).await?.pop() else {
            self.is_over = true;
            return Ok(String::new());
        };
        let shows = matches!(now.status.as_str(), "sending" | "done");
        let is_new = shows && now.attempt != self.attempt;
        let seen = if is_new { 0 } else { self.seq };
        let chunks =
            if shows { chunks_after(&self.pool, self.message, now.attempt, seen).await? } else { Vec::new() };
        let ending = if chunks.is_empty() && is_over(&now.status) {
            let has_all = now.status != "done" || (!is_new && self.has_all(&now).await?);
            let message = if has_all { None } else { final_message(&self.pool, self.message).await? };
            Some(message)
        } else {
            None
        };

        let mut frames = String::new();
        if is_new {
            (self.attempt, self.seq, self.has_all, self.has_gap) = (now.attempt, 0, Some(false), false);
            push(&mut frames, self.place(), "attempt", &json!({ "attempt": now.attempt }).to_string());
        }
        chunks.iter().for_each(|chunk| self.show(chunk, &mut frames));
        if let Some(message) = ending {
            self.end(&now, message, &mut frames);
        }
        Ok(frames)
    }

    /// Has the reader all events of the answer?
    async fn has_all(&self, now: &Progress) -> sqlx::Result<bool> {
        if self.has_gap || self.seq != now.seq {
            return Ok(false);
        }
        if let Some(has_all) = self.has_all {
            return Ok(has_all);
        }
        let last = chunks_after(&self.pool, self.message, now.attempt, self.seq - 1).await?;
        Ok(last.first().is_some_and(|chunk| {
            kept(&chunk.events).is_ok_and(|events| events.last().is_some_and(|event| event.name == LAST))
        }))
    }

    /// Shows those events of a row that the reader does not have.
    fn show(&mut self, chunk: &Chunk, frames: &mut String) {
        let events = kept(&chunk.events).unwrap_or_default();
        let first = chunk.seq - i64::try_from(events.len()).unwrap_or(i64::MAX) + 1;
        // Events that nobody has would be missing from the text; the final message has all of them.
        self.has_gap |= first > self.seq + 1 || events.is_empty();
        for (number, event) in (first..).zip(&events) {
            if number > self.seq && !self.has_gap {
                self.has_all = Some(event.name == LAST);
                let place = Place { attempt: self.attempt, seq: Some(number) };
                push(frames, place, &event.name, &event.data);
            }
        }
        self.seq = self.seq.max(chunk.seq);
    }

    fn end(&mut self, now: &Progress, message: Option<Vec<u8>>, frames: &mut String) {
        self.is_over = true;
        if let Some(message) = message {
            push(frames, self.place(), "final_message", &String::from_utf8_lossy(&message));
        }
        let told = json!({
            "status": now.status, "attempt": now.attempt, "stop_reason": now.stop_reason, "reason": now.reason,
            "error_type": now.error_type,
        });
        push(frames, Place { attempt: now.attempt, seq: None }, &now.status, &told.to_string());
    }

    fn place(&self) -> Place {
        Place { attempt: self.attempt, seq: Some(self.seq) }
    }
}

/// Has a message with this status an end?
fn is_over(status: &str) -> bool {
    !matches!(status, "waiting" | "sending")
}
