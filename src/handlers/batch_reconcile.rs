//! `batch.reconcile`: once in a while, ask the API for all its batches, and take in those that nobody told us of.
//!
//! One row of the outbox that never finishes: it snoozes from one search to the next, so that of any number of workers
//! one at a time searches.

use std::time::Duration;

use sqlx::PgPool;

use crate::api::Batch;
use crate::batch::{RECONCILE, ended, ensure_standing_jobs, observe};
use crate::event::NewEvent;
use crate::handler::{self, Context, Error, Handler};
use crate::outbox::{self, Source};
use crate::retry;

/// The most that the API gives at once.
const PAGE: u16 = 1000;

/// Why the search waits.
const SEARCHED: &str = "all batches have been looked through; the next search begins then";

/// Searches for batches that we do not know of.
#[derive(Debug)]
pub struct BatchReconcile {
    /// How long lies between two searches.
    pub every: Duration,
}

/// The search needs to be told nothing.
#[derive(Debug, serde::Deserialize)]
pub struct Nothing {}

impl Handler for BatchReconcile {
    const EVENT_TYPES: &'static [&'static str] = &["batch.reconcile"];
    /// It is never given up: nothing else finds what webhooks missed, and no event would ever start it again.
    const RETRY: retry::Policy = retry::Policy { max_attempts: u32::MAX, ..retry::Policy::DEFAULT };
    const PATIENCE: Duration = retry::LONGEST;
    const TIMEOUT: Duration = Duration::from_secs(90);
    type Payload = Nothing;

    async fn handle(&self, cx: &mut Context<'_>, _: Nothing) -> handler::Result {
        if cx.event.source == "webhook" {
            // A second row that never ends would search beside the first.
            cx.set_result(&serde_json::json!({ "skipped": "the search is an event of Restante's own" }));
            return Ok(());
        }
        match self.search(cx).await {
            // Whatever one answer holds, the next may be without it.
            Err(Error::Permanent(error)) => Err(Error::Retryable(error)),
            other => other,
        }
    }
}

impl BatchReconcile {
    async fn search(&self, cx: &Context<'_>) -> handler::Result {
        let mut after = None;
        loop {
            let page = cx.api.batches(after.as_deref(), PAGE).await?;
            let found = take_in(cx, &page.data).await?;
            if found > 0 {
                tracing::info!(batches = found, "found ended batches that no webhook had announced");
            }
            cx.progress();
            // Newest first: behind one whose results have vanished there is nothing to be had.
            let is_past = page.data.last().is_some_and(has_vanished);
            match page.next_after_id {
                Some(id) if !is_past => after = Some(id),
                _ => return Err(Error::Snooze(self.every, SEARCHED.into())),
            }
        }
    }
}

/// Results can be had for 29 days from the creation of their batch (batch guide of the API).
fn has_vanished(batch: &Batch) -> bool {
    const DAYS: i64 = 29;
    batch.created_at.is_some_and(|created_at| chrono::Utc::now() - created_at > chrono::Duration::days(DAYS))
}

/// Notes the batches of a page, which has those watched that have not ended, and has the results of the others stored.
/// Returns how many of those nobody had told us of.
async fn take_in(cx: &Context<'_>, page: &[Batch]) -> Result<u64, Error> {
    let mut checkpoint = cx.checkpoint().await?;
    observe(&mut checkpoint, page).await?;
    let complete: Vec<String> = sqlx::query_scalar!(
        "select id from restante.batch where id = any ($1) and complete_at is not null",
        &page.iter().map(|batch| batch.id.clone()).collect::<Vec<_>>()
    )
    .fetch_all(&mut *checkpoint)
    .await?;
    let to_store: Vec<NewEvent> = page
        .iter()
        .filter(|batch| batch.is_terminal() && batch.archived_at.is_none() && !has_vanished(batch))
        .filter(|batch| !complete.contains(&batch.id))
        .map(ended)
        .collect();
    let found = outbox::insert_events(&mut *checkpoint, Source::Poll, &to_store).await?;
    checkpoint.commit().await?;
    Ok(found.new)
}

/// Puts the one row into the outbox, if it is not there, and revives it if it was given up. Workers do it by themselves.
///
/// # Errors
/// What the database says.
pub async fn schedule(pool: &PgPool) -> sqlx::Result<()> {
    ensure_standing_jobs(pool, &[RECONCILE]).await?;
    Ok(())
}
