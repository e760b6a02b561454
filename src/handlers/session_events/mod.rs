//! `session_events.send`: sends events to a session, in order, and none of them twice where the API lets us know.
//!
//! | the send is | the handler |
//! |---|---|
//! | `waiting` | notes the newest event of the session, notes that it is `sending`, and sends |
//! | `sending` | the exchange ended without an answer, or its worker did: reads what the session has got since |
//! | `uncertain` | waits for a person's decision, and so do later sends of the session |
//! | anything else | has nothing to do |
//!
//! The API has no key by which it would know an event that it gets twice. So what was sent is sent again only once the session's own
//! list shows, for as long as it could come up, that nothing of it arrived. Other programs may send to the session too: where the
//! list does not say whose an event is, the send is `uncertain`.

mod history;
mod store;

use std::time::Duration;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::api::{self, NotPosted};
use crate::handler::{self, Context, Error, Handler, Senders};
use crate::retry;

use history::{Arrived, MANAGED_AGENTS, Sent};
use store::Send;

/// For how long an event may come up in the list whose exchange has ended without an answer. The request was whole, so the API
/// either has it or has lost it; what it has is in the list within moments.
const IN_DOUBT: Duration = Duration::from_secs(15);

/// How long to wait before the next look at the list.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long to wait before looking whether a person has decided.
const UNDECIDED: Duration = Duration::from_secs(30);

/// Sends events to sessions.
#[derive(Debug)]
pub struct SessionEvents;

/// Which row of `restante.session_send`.
#[derive(Debug, Deserialize)]
pub struct SendRef {
    send: i64,
}

impl Handler for SessionEvents {
    const EVENT_TYPES: &'static [&'static str] = &["session_events.send"];
    const SENDERS: Senders = Senders::OfTheApi;
    /// An application has handed it over, and others wait behind it: it is never given up.
    const RETRY: retry::Policy = retry::Policy {
        max_attempts: u32::MAX,
        first: Duration::from_secs(1),
        cap: Duration::from_secs(60 * 60),
    };
    const PATIENCE: Duration = retry::LONGEST;
    /// Longer than two exchanges with the API may take.
    const TIMEOUT: Duration = Duration::from_secs(150);
    type Payload = SendRef;

    fn needs_of_api(&self, _event_type: &str) -> Option<&'static str> {
        Some("sessions")
    }

    async fn handle(&self, cx: &mut Context<'_>, payload: SendRef) -> handler::Result {
        if cx.event.source == "webhook" {
            cx.set_result(&serde_json::json!({ "skipped": "only restante.send_session_events() sends" }));
            return Ok(());
        }
        let Some(send) = store::send(&mut *cx.connection().await?, payload.send).await? else {
            return Ok(());
        };
        match send.status.as_str() {
            "waiting" => post(cx, &send).await,
            "sending" => find(cx, &send).await,
            "uncertain" => Err(undecided(&send.reason.unwrap_or_default())),
            _ => Ok(()),
        }
    }
}

/// The body of the request.
#[derive(Serialize)]
struct Body<'a> {
    events: &'a RawValue,
}

async fn post(cx: &mut Context<'_>, send: &Send) -> handler::Result {
    let sent = Sent::read(send)?;
    let newest = match history::newest(cx, send, &sent).await {
        Ok(newest) => newest,
        Err(error) => return not_taken(cx, send, error).await,
    };
    let mut checkpoint = cx.checkpoint().await?;
    let has_begun = store::begin(&mut *checkpoint, send.id, newest.as_deref()).await?;
    checkpoint.commit().await?;
    if !has_begun {
        return Err(just_changed());
    }
    let path = history::path(send);
    match cx.api.post_json(&path, &Body { events: &sent.raw }, &[MANAGED_AGENTS]).await {
        Ok(answer) => match history::ids(&answer, &sent) {
            Some(ids) => arrived(cx, send, &ids).await,
            None => unclear(cx, send, "its answer does not name the events").await,
        },
        Err(NotPosted { error, may_have_arrived: true }) => unclear(cx, send, &error.to_string()).await,
        Err(NotPosted { error, may_have_arrived: false }) => not_taken(cx, send, error).await,
    }
}

/// The API has not taken the events. They wait, unless they or their session are at fault.
async fn not_taken(cx: &mut Context<'_>, send: &Send, error: api::Error) -> handler::Result {
    let is_its_fault = error.is_of_content() || matches!(error, api::Error::NotFound(_) | api::Error::BadId);
    let reason = error.to_string();
    let mut checkpoint = cx.checkpoint().await?;
    if is_its_fault {
        store::give_up(&mut *checkpoint, send.id, "refused", &reason).await?;
    } else {
        let has_gone_out = !matches!(
            error,
            api::Error::NotAsked { .. } | api::Error::OutOfTurn { .. } | api::Error::NotConfigured { .. }
        );
        store::not_sent(&mut *checkpoint, send.id, Some(&reason), has_gone_out).await?;
    }
    checkpoint.commit().await?;
    if is_its_fault { Err(Error::Permanent(anyhow!(error))) } else { Err(error.into()) }
}

/// It is unclear whether the session has the events: its list is read again in a moment.
async fn unclear(cx: &mut Context<'_>, send: &Send, why: &str) -> handler::Result {
    let reason = format!("it is being looked for in the session, because its answer was lost: {why}");
    let mut checkpoint = cx.checkpoint().await?;
    store::unclear(&mut *checkpoint, send.id, &reason).await?;
    checkpoint.commit().await?;
    Err(Error::Snooze(LOOK_AGAIN, reason.into()))
}

/// Looks in the session for events whose exchange has ended without an answer.
async fn find(cx: &mut Context<'_>, send: &Send) -> handler::Result {
    let sent = Sent::read(send)?;
    let since = match history::since(cx, send, &sent).await? {
        Ok(since) => since,
        Err(error @ api::Error::NotFound(_)) => return not_taken(cx, send, error).await,
        Err(error) => return Err(error.into()),
    };
    match history::compare(&sent, &since) {
        Arrived::Whole(ids) => arrived(cx, send, &ids).await,
        _ if send.unclear_for_seconds < IN_DOUBT.as_secs_f64() => {
            unclear(cx, send, "nothing that is surely its own has come up yet").await
        }
        Arrived::Nothing => {
            let mut checkpoint = cx.checkpoint().await?;
            store::not_sent(&mut *checkpoint, send.id, None, true).await?;
            checkpoint.commit().await?;
            tracing::warn!(
                send = send.id,
                session = send.session,
                "the session has nothing of what was sent to it; it is sent again"
            );
            let send = store::send(&mut *cx.connection().await?, send.id).await?;
            match send {
                Some(send) if send.status == "waiting" => post(cx, &send).await,
                _ => Err(just_changed()),
            }
        }
        Arrived::Perhaps => {
            let ids: Vec<&str> = since.iter().map(|event| event.id.as_str()).collect();
            let reason = format!(
                "{} came up in the session meanwhile, and may be of this send or not: set status = 'waiting' to send it again, or \
                 'cancelled' to leave it",
                ids.join(", ")
            );
            tracing::error!(
                send = send.id,
                session = send.session,
                reason,
                "a send to a session is uncertain"
            );
            let mut checkpoint = cx.checkpoint().await?;
            store::give_up(&mut *checkpoint, send.id, "uncertain", &reason).await?;
            checkpoint.commit().await?;
            Err(undecided(&reason))
        }
    }
}

async fn arrived(cx: &mut Context<'_>, send: &Send, ids: &[String]) -> handler::Result {
    cx.set_result(&serde_json::json!({ "event_ids": ids }));
    Ok(store::done(cx.tx().await?, send.id, ids).await?)
}

fn undecided(reason: &str) -> Error {
    Error::Snooze(UNDECIDED, reason.to_owned().into())
}

fn just_changed() -> Error {
    Error::Snooze(LOOK_AGAIN, "the send has just been changed; it is looked at again".into())
}
