//! `batch.completed` and its spellings: a batch may have ended. Stores all of its results.
//!
//! The event is only a hint, so the handler asks the API whether the batch has ended. It streams the results into
//! `restante.batch_result` in parts. The API can send them only from the beginning; after a break the next download
//! skips the results that are stored already. The batch is complete when as many different results are stored as the
//! API counts, so a stream that ends early is never taken for a complete one.

mod copy;
mod download;
mod line;
mod lines;
mod seen;
mod shape;
mod turns;

use std::time::Duration;

use anyhow::anyhow;
use tokio::time::timeout;

use crate::api::Batch;
use crate::batch::{BatchRef, conclude, known, observe};
use crate::handler::{self, Context, Error, Handler, Senders};
use crate::retry;

use turns::Turns;

/// How long an attempt waits for its turn. If it gets none, its event is deferred for the same time, and leaves its
/// place to others.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an event waits whose batch is still being processed.
pub(crate) const NOT_ENDED: &str = "the batch has not ended; this event polls the API again";

/// Stores the results of a batch.
#[derive(Debug)]
pub struct BatchResults {
    poll: Duration,
    turns: Turns,
}

impl BatchResults {
    /// A handler that polls again after `poll` if the batch has not ended yet.
    pub fn new(poll: Duration) -> Self {
        Self { poll, turns: Turns::default() }
    }
}

impl Handler for BatchResults {
    const EVENT_TYPES: &'static [&'static str] = &[
        "batch.ended",
        "batch.completed",
        "batch.canceled",
        "batch.cancelled",
        "batch.expired",
        "batch.failed",
        "message_batch.ended",
        "message_batch.completed",
        "message_batch.canceled",
        "message_batch.expired",
        "message_batch.failed",
    ];
    const SENDERS: Senders = Senders::OfTheApi;
    /// No limit: retries go on until the API deletes the results, 29 days after the batch was created. Until then
    /// nothing is lost, and no operator should be needed.
    const RETRY: retry::Policy = retry::Policy {
        max_attempts: u32::MAX,
        first: Duration::from_secs(1),
        cap: Duration::from_secs(60 * 60),
    };
    const PATIENCE: Duration = retry::LONGEST;
    /// The longest time without a byte, because every chunk is progress. Longer than the timeout of the API client,
    /// whose error says more.
    const TIMEOUT: Duration = Duration::from_secs(90);
    type Payload = BatchRef;

    fn needs_of_api(&self, _event_type: &str) -> Option<&'static str> {
        Some("batches")
    }

    async fn handle(&self, cx: &mut Context<'_>, payload: BatchRef) -> handler::Result {
        let id = payload.into_id()?;
        let known = known(&mut *cx.connection().await?, &id, cx.event).await?;
        if known.is_complete {
            return Ok(());
        }
        let result = self.store(cx, &id).await;
        conclude(cx, &id, &known, result).await
    }
}

impl BatchResults {
    async fn store(&self, cx: &mut Context<'_>, id: &str) -> handler::Result {
        let turns = self.turns.of(cx.event.account_or_default());
        let Ok(_turn) = timeout(PATIENCE, turns.acquire()).await else {
            return Err(Error::Defer(
                PATIENCE,
                "other batches are being downloaded; this one waits for its turn".into(),
            ));
        };
        let batch = cx.api.batch(id).await?;
        let mut checkpoint = cx.checkpoint().await?;
        observe(&mut checkpoint, cx.event.account_or_default(), std::slice::from_ref(&batch)).await?;
        checkpoint.commit().await?;
        if !batch.is_terminal() {
            return Err(Error::Snooze(self.poll, NOT_ENDED.into()));
        }
        if let Some(archived_at) = batch.archived_at {
            return Err(Error::Permanent(anyhow!(
                "the results are gone: the batch was archived at {archived_at}"
            )));
        }

        let fault = download::run(cx, &batch).await?;
        complete(cx, &batch, fault).await
    }
}

/// Marks the batch complete if it is: counts the stored results, in the attempt's transaction.
async fn complete(cx: &mut Context<'_>, batch: &Batch, fault: Option<String>) -> handler::Result {
    let account = cx.event.account_or_default();
    let expected = batch.expected_results();
    let tx = cx.tx().await?;
    let counted = sqlx::query!(
        r#"
        select count(*) as "results!", coalesce(sum(octet_length(line)), 0) + coalesce(sum(octet_length(raw)), 0) as "bytes!"
          from restante.batch_result where batch_id = $1 and account = $2
        "#,
        batch.id,
        account,
    )
    .fetch_one(&mut *tx)
    .await?;
    // No batch is empty, because the API accepts none without requests. If it gives no count, or one that cannot be
    // read, a stream that was cut before its first byte would look complete.
    if expected == 0 {
        let results = counted.results;
        return Err(Error::Retryable(anyhow!(
            "{results} results are here, and the API does not say how many there are"
        )));
    }
    if counted.results != expected {
        let fault = fault.map_or_else(String::new, |fault| format!("; {fault}"));
        return Err(Error::Retryable(anyhow!("{} of {expected} results are here{fault}", counted.results)));
    }
    sqlx::query!(
        r#"
        update restante.batch
           set complete_at = clock_timestamp(), results_stored = $2, bytes_stored = $3, given_up_because = null
         where id = $1 and account = $4
        "#,
        batch.id,
        counted.results,
        counted.bytes,
        account,
    )
    .execute(&mut *tx)
    .await?;
    cx.set_result(
        &serde_json::json!({ "batch_id": batch.id, "results": counted.results, "bytes": counted.bytes }),
    );
    tracing::info!(
        batch.id = batch.id,
        results = counted.results,
        bytes = counted.bytes,
        "every result of the batch is stored"
    );
    Ok(())
}
