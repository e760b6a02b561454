//! `batch.reconcile`: lists all batches of the API from time to time, and takes in those that no event has named.
//!
//! It is one row of the outbox that never finishes: it snoozes from one search to the next. So one worker at a time
//! searches, however many there are.

use std::time::Duration;

use sqlx::PgPool;

use crate::api::Batch;
use crate::batch::{RECONCILE, ended, ensure_standing_jobs, observe};
use crate::event::{ANTHROPIC, NewEvent};
use crate::handler::{self, Context, Error, Handler, Senders};
use crate::outbox::{self, Source};
use crate::retry;

/// The most batches that the API returns in one page.
const PAGE: u16 = 1000;

/// Why the search waits.
const SEARCHED: &str = "the search for batches is done; this event begins the next one";

/// Searches for batches that are not in `restante.batch`, or whose end is not.
#[derive(Debug)]
pub struct BatchReconcile {
    /// The time between two searches.
    pub every: Duration,
}

/// The payload of the search: none of it is read.
#[derive(Debug, serde::Deserialize)]
pub struct Nothing {}

impl Handler for BatchReconcile {
    const EVENT_TYPES: &'static [&'static str] = &["batch.reconcile"];
    const SENDERS: Senders = Senders::OfTheApi;
    /// It is never given up, because nothing else finds batches that no event has named.
    const RETRY: retry::Policy = retry::Policy { max_attempts: u32::MAX, ..retry::Policy::DEFAULT };
    const PATIENCE: Duration = retry::LONGEST;
    const TIMEOUT: Duration = Duration::from_secs(90);
    type Payload = Nothing;

    fn needs_of_api(&self, _event_type: &str) -> Option<&'static str> {
        Some("batches")
    }

    async fn handle(&self, cx: &mut Context<'_>, _: Nothing) -> handler::Result {
        if cx.event.source == "webhook" {
            // Otherwise a second row that never ends would search as well.
            cx.set_result(&serde_json::json!({ "skipped": "the search is an event of Restante's own" }));
            return Ok(());
        }
        match self.search(cx).await {
            // A bad answer may be followed by a good one, so no error of the search is final.
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
            // The list is newest first: after a batch whose results have vanished, no older one has results.
            let is_past = page.data.last().is_some_and(has_vanished);
            match page.next_after_id {
                Some(id) if !is_past => after = Some(id),
                _ => return Err(Error::Snooze(self.every, SEARCHED.into())),
            }
        }
    }
}

/// The API keeps results for 29 days after their batch was created (batch guide of the API).
fn has_vanished(batch: &Batch) -> bool {
    const DAYS: i64 = 29;
    batch.created_at.is_some_and(|created_at| chrono::Utc::now() - created_at > chrono::Duration::days(DAYS))
}

/// Stores the batches of a page. Those that have not ended are polled from then on; for the others it stores the event
/// that fetches their results. Returns how many of these events were new.
async fn take_in(cx: &Context<'_>, page: &[Batch]) -> Result<u64, Error> {
    let account = cx.event.account_or_default();
    let mut checkpoint = cx.checkpoint().await?;
    observe(&mut checkpoint, account, page).await?;
    let complete: Vec<String> = sqlx::query_scalar!(
        "select id from restante.batch where id = any ($1) and account = $2 and complete_at is not null",
        &page.iter().map(|batch| batch.id.clone()).collect::<Vec<_>>(),
        account,
    )
    .fetch_all(&mut *checkpoint)
    .await?;
    let to_store: Vec<NewEvent> = page
        .iter()
        .filter(|batch| batch.is_terminal() && batch.archived_at.is_none() && !has_vanished(batch))
        .filter(|batch| !complete.contains(&batch.id))
        .map(|batch| ended(account, batch))
        .collect();
    let found = outbox::insert_events(&mut *checkpoint, Source::Poll, &to_store).await?;
    checkpoint.commit().await?;
    Ok(found.new)
}

/// Puts the row of the search for the account `anthropic` into the outbox if it is missing, and replays it if it was given
/// up. Workers also do that by themselves, for each account.
///
/// # Errors
/// The database is away, or the schema is missing.
pub async fn schedule(pool: &PgPool) -> sqlx::Result<()> {
    ensure_standing_jobs(&mut *pool.acquire().await?, &[RECONCILE], &[ANTHROPIC.to_owned()]).await?;
    Ok(())
}
