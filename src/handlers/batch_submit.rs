//! `batch.submit`: sends a part of a submission to the API as a batch, and never twice.
//!
//! | the part is | the handler |
//! |---|---|
//! | `waiting` | notes the newest batch of the account, notes that the part is `sending`, and sends it |
//! | `sending` | the exchange ended without an answer, or its worker did: looks for a batch that came up since |
//! | anything else | has nothing to do |
//!
//! The API has no key by which it would know a batch that it gets twice. So what was sent is sent again only once it cannot have
//! arrived: the body was not whole, the API refused it, or no batch came of it for as long as one could. One part of an account is
//! sent at a time (they have one key), so no batch that comes up meanwhile is that of another part. Batches of other programs may
//! be: where several fit, the part is `uncertain`, and a person decides.

use std::time::Duration;

use anyhow::anyhow;
use serde::Deserialize;

use crate::api::{self, Batch, NotCreated};
use crate::batch::observe;
use crate::handler::{self, Context, Error, Handler, Senders};
use crate::handlers::batch_results::BatchResults;
use crate::retry;
use crate::submission::{self, Part};

/// For how long a batch may come up whose exchange has ended without an answer. The request was whole, so the API either has
/// it or has lost it; what it has is in the list within moments.
const IN_DOUBT: Duration = Duration::from_secs(15);

/// How long to wait before the next look for the batch.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The most that the API lists at once.
const PAGE: u16 = 100;

/// Sends parts of submissions.
#[derive(Debug)]
pub struct BatchSubmit;

/// Which part.
#[derive(Debug, Deserialize)]
pub struct PartRef {
    part: i64,
}

impl Handler for BatchSubmit {
    const EVENT_TYPES: &'static [&'static str] = &["batch.submit"];
    const SENDERS: Senders = Senders::OfTheApi;
    /// An application has handed it over, and waits for its answers: it is never given up.
    const RETRY: retry::Policy = retry::Policy { max_attempts: u32::MAX, ..BatchResults::RETRY };
    const PATIENCE: Duration = retry::LONGEST;
    /// Longer than the API may take.
    const TIMEOUT: Duration = Duration::from_secs(900);
    type Payload = PartRef;

    fn needs_of_api(&self, _event_type: &str) -> Option<&'static str> {
        Some("batches")
    }

    async fn handle(&self, cx: &mut Context<'_>, payload: PartRef) -> handler::Result {
        if cx.event.source == "webhook" {
            cx.set_result(&serde_json::json!({ "skipped": "only restante.submit_batch() submits" }));
            return Ok(());
        }
        let Some(part) = submission::part(&mut *cx.connection().await?, payload.part).await? else {
            return Ok(());
        };
        match part.status.as_str() {
            "waiting" if part.is_cancelled => Ok(submission::cancel(cx.tx().await?, part.id).await?),
            "waiting" => send(cx, &part).await,
            "sending" => find(cx, &part).await,
            _ => Ok(()),
        }
    }
}

async fn send(cx: &mut Context<'_>, part: &Part) -> handler::Result {
    let newest = cx.api.batches(None, 1).await?.data.first().map(|batch| batch.id.clone());
    let mut checkpoint = cx.checkpoint().await?;
    let has_begun = submission::begin(&mut *checkpoint, part.id, newest.as_deref()).await?;
    checkpoint.commit().await?;
    if !has_begun {
        // A person has changed it in this moment.
        return Err(Error::Snooze(
            LOOK_AGAIN,
            "the part has just been changed; it is looked at again".into(),
        ));
    }
    let bytes = u64::try_from(part.bytes).unwrap_or(0);
    let body = submission::body(cx.pool().clone(), part.id);
    let betas: Vec<&str> = part.betas.iter().map(String::as_str).collect();
    match cx.api.create_batch(bytes, &betas, body).await {
        Ok(batch) => accepted(cx, part, &batch).await,
        Err(NotCreated { error, may_have_arrived: true }) => {
            let reason = format!("it is being looked for at the API, because its answer was lost: {error}");
            let mut checkpoint = cx.checkpoint().await?;
            submission::unclear(&mut *checkpoint, part.id, &reason).await?;
            checkpoint.commit().await?;
            Err(Error::Snooze(LOOK_AGAIN, reason.into()))
        }
        Err(NotCreated { error, may_have_arrived: false }) => refused(cx, part, error).await,
    }
}

/// The API has not taken the part. It waits, unless it is the part that is at fault.
async fn refused(cx: &mut Context<'_>, part: &Part, error: api::Error) -> handler::Result {
    let is_its_fault = error.is_of_content();
    let reason = error.to_string();
    let mut checkpoint = cx.checkpoint().await?;
    if is_its_fault {
        submission::give_up(&mut *checkpoint, part.id, "refused", &reason).await?;
    } else {
        submission::not_sent(&mut *checkpoint, part.id, Some(&reason)).await?;
    }
    checkpoint.commit().await?;
    if is_its_fault { Err(Error::Permanent(anyhow!(error))) } else { Err(error.into()) }
}

/// Looks for the batch of a part whose exchange has ended without an answer.
async fn find(cx: &mut Context<'_>, part: &Part) -> handler::Result {
    let found = candidates(cx, part).await?;
    match found.as_slice() {
        [batch] => accepted(cx, part, batch).await,
        [] if part.unclear_for_seconds < IN_DOUBT.as_secs_f64() => {
            let reason = "it is being looked for at the API, because its answer was lost";
            let mut checkpoint = cx.checkpoint().await?;
            submission::unclear(&mut *checkpoint, part.id, reason).await?;
            checkpoint.commit().await?;
            Err(Error::Snooze(LOOK_AGAIN, reason.into()))
        }
        [] => {
            let mut checkpoint = cx.checkpoint().await?;
            submission::not_sent(&mut *checkpoint, part.id, None).await?;
            checkpoint.commit().await?;
            tracing::warn!(
                submission = part.submission,
                part = part.id,
                "no batch came of a part that was sent; it is sent again"
            );
            let part = submission::part(&mut *cx.connection().await?, part.id).await?;
            match part {
                Some(part) if part.status == "waiting" && !part.is_cancelled => send(cx, &part).await,
                _ => Err(Error::Snooze(
                    LOOK_AGAIN,
                    "the part has just been changed; it is looked at again".into(),
                )),
            }
        }
        several => {
            let ids: Vec<&str> = several.iter().map(|batch| batch.id.as_str()).collect();
            let reason = format!(
                "one of {} may be the batch of this part: set batch_id to it, or status = 'waiting' if none is",
                ids.join(", ")
            );
            tracing::error!(
                submission = part.submission,
                part = part.id,
                reason,
                "a part of a submission is uncertain"
            );
            cx.set_result(&serde_json::json!({ "uncertain": ids }));
            Ok(submission::give_up(cx.tx().await?, part.id, "uncertain", &reason).await?)
        }
    }
}

/// The batches that came up since the part was sent, have as many requests as it has, and are that of no other part. The search ends
/// at the newest batch from before; if that one was deleted, the batches that we knew before are left out by our own table. No
/// clock of the API counts.
async fn candidates(cx: &Context<'_>, part: &Part) -> Result<Vec<Batch>, Error> {
    let mut found = Vec::new();
    let mut after = None;
    'pages: loop {
        let page = cx.api.batches(after.as_deref(), PAGE).await?;
        for batch in page.data {
            if Some(&batch.id) == part.known_before.as_ref() {
                break 'pages;
            }
            if batch.expected_results() == part.requests {
                found.push(batch);
            }
        }
        match page.next_after_id {
            Some(id) => after = Some(id),
            None => break,
        }
        cx.progress();
    }
    let ids: Vec<String> = found.iter().map(|batch| batch.id.clone()).collect();
    let free = submission::unknown_before(
        &mut *cx.connection().await?,
        cx.event.account_or_default(),
        part.id,
        &ids,
    )
    .await?;
    found.retain(|batch| free.contains(&batch.id));
    Ok(found)
}

async fn accepted(cx: &mut Context<'_>, part: &Part, batch: &Batch) -> handler::Result {
    let account = cx.event.account_or_default();
    cx.set_result(&serde_json::json!({ "batch_id": batch.id }));
    let tx = cx.tx().await?;
    observe(tx, account, std::slice::from_ref(batch)).await?;
    Ok(submission::adopt(tx, part.id, &batch.id).await?)
}
