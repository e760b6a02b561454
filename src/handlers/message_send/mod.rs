//! `message.send`: has a message answered by the API, as a stream.
//!
//! | the message is | the handler |
//! |---|---|
//! | `waiting` | notes the next attempt, and sends it |
//! | `sending` | the worker that sent it is gone: notes that this attempt is lost, and sends the next one |
//! | anything else | has nothing to do |
//!
//! The API has no key by which it would know a request that it gets twice, and no stream can be resumed. So each time is a row of
//! `message_attempt`, committed before the first byte, and an answer is complete only with its last event; it is never joined of two.
//! What became of an attempt decides:
//!
//! | what happened | the attempt | the message | the event |
//! |---|---|---|---|
//! | all of the answer arrived | `answered` | `done` | `done` |
//! | it was called off meanwhile | `unused` | stays as it is | `done` |
//! | the answer broke off, or no answer came of a request that was sent | `cut` or `lost`, may be paid | `waiting`; `failed` after `attempts_max` | waits longer each time; dead |
//! | the API refuses the content | `refused` | `failed` | dead |
//! | the API refuses the key or the account, asks for fewer requests, cannot be reached | `refused` or `not sent`, counts for nothing | `waiting` | waits until that is mended |
//!
//! A worker that is told to stop lets its streams end for `RESTANTE_DRAIN_SECONDS`. What has not ended by then is lost, and another worker
//! sends it again.

mod events;
mod exchange;
mod partial;
mod request;

use std::time::Duration;

use anyhow::anyhow;
use serde::Deserialize;

use crate::api::SoFar;
use crate::handler::{self, Context, Error, Handler, Senders};
use crate::message::{self, Message, Outcome};
use crate::retry;

use partial::PartialText;

/// How long to wait if somebody has just changed the message.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Sends messages.
#[derive(Debug)]
pub struct MessageSend {
    partial: PartialText,
}

impl MessageSend {
    /// One handler for all messages of a worker.
    #[must_use]
    pub fn new() -> Self {
        Self { partial: PartialText::new() }
    }
}

impl Default for MessageSend {
    fn default() -> Self {
        Self::new()
    }
}

/// Which message.
#[derive(Debug, Deserialize)]
pub struct MessageRef {
    message: i64,
}

impl Handler for MessageSend {
    const EVENT_TYPES: &'static [&'static str] = &["message.send"];
    const SENDERS: Senders = Senders::OfTheApi;
    /// The message itself says how often it is sent.
    const RETRY: retry::Policy = retry::Policy {
        max_attempts: u32::MAX,
        first: Duration::from_secs(4),
        cap: Duration::from_secs(10 * 60),
    };
    const PATIENCE: Duration = retry::LONGEST;
    /// The longest time without an event, because every event is progress. Longer than the timeout of the API client, whose error
    /// says more, and than the wait for partial text.
    const TIMEOUT: Duration = Duration::from_secs(90);
    type Payload = MessageRef;

    fn needs_of_api(&self, _event_type: &str) -> Option<&'static str> {
        Some("messages")
    }

    async fn handle(&self, cx: &mut Context<'_>, payload: MessageRef) -> handler::Result {
        if cx.event.source == "webhook" {
            cx.set_result(&serde_json::json!({ "skipped": "only restante.send_message() sends" }));
            return Ok(());
        }
        let id = payload.message;
        let Some(message) = message::message(&mut *cx.connection().await?, id).await? else { return Ok(()) };
        match (message.status.as_str(), message.open.as_deref()) {
            ("waiting", _) => {}
            // One event of a message runs at a time, so this is that of a worker which has lost its lease.
            ("sending", None | Some("stream")) => {}
            _ => return Ok(()),
        }
        if message.attempt >= message.attempts_max {
            return spent(cx, id, &message).await;
        }
        self.send(cx, id, &message).await
    }
}

impl MessageSend {
    async fn send(&self, cx: &mut Context<'_>, id: i64, message: &Message) -> handler::Result {
        let Some(request) = message::request(&mut *cx.connection().await?, id).await? else { return Ok(()) };
        let body = match request::streamed(&request) {
            Ok(body) => body,
            Err(flaw) => return unreadable(cx, id, message, &flaw).await,
        };
        drop(request);
        let mut checkpoint = cx.checkpoint().await?;
        note_lost(&mut checkpoint, id, message).await?;
        let begun = message::begin(&mut *checkpoint, id, message).await?;
        checkpoint.commit().await?;
        let Some(attempt) = begun else {
            return Err(Error::Snooze(
                LOOK_AGAIN,
                "the message has just been changed; it is looked at again".into(),
            ));
        };
        let partial = message.partial.then(|| self.partial.open(cx.pool(), id, attempt));
        exchange::Exchange { id, attempt, attempts_max: message.attempts_max }
            .run(cx, body, &message.betas, partial)
            .await
    }
}

/// Ends the attempt of a worker that is gone, if there is one.
async fn note_lost(
    connection: &mut sqlx::PgConnection,
    id: i64,
    message: &Message,
) -> Result<(), sqlx::Error> {
    if message.status != "sending" {
        return Ok(());
    }
    let error = "the worker that sent it ended, or lost its lease, before the answer was complete";
    message::end_attempt(connection, id, message.attempt, Outcome::Lost, Some(error), &SoFar::default())
        .await?;
    tracing::warn!(
        message = id,
        attempt = message.attempt,
        "nobody knows what came of an attempt at a message, because its worker is gone; the API may bill it"
    );
    Ok(())
}

/// The message was sent as often as it may be.
async fn spent(cx: &mut Context<'_>, id: i64, message: &Message) -> handler::Result {
    let reason = format!("it was sent {} times, and no answer was complete", message.attempt);
    let mut checkpoint = cx.checkpoint().await?;
    note_lost(&mut checkpoint, id, message).await?;
    message::fail(&mut checkpoint, id, message.attempt, &reason, None).await?;
    checkpoint.commit().await?;
    Err(Error::Permanent(anyhow!(reason)))
}

/// The request is JSON for Postgres, and not for us.
async fn unreadable(
    cx: &mut Context<'_>,
    id: i64,
    message: &Message,
    flaw: &serde_json::Error,
) -> handler::Result {
    let reason = format!("the request cannot be read: {flaw}");
    let mut checkpoint = cx.checkpoint().await?;
    note_lost(&mut checkpoint, id, message).await?;
    message::fail(&mut checkpoint, id, message.attempt, &reason, None).await?;
    checkpoint.commit().await?;
    Err(Error::Permanent(anyhow!(reason)))
}
