//! `batch.delete`: deletes a batch and its results at the API, once every result is stored here.
//!
//! Workers store the event where `RESTANTE_BATCH_DELETE_AFTER` is set. A deleted batch is complete for good (a constraint of
//! `restante.batch` demands it), so nobody polls it or searches for it any more.

use std::time::Duration;

use crate::batch::{BatchRef, Kept, deleted, kept};
use crate::handler::{self, Context, Error, Handler, Senders};
use crate::handlers::batch_results::BatchResults;
use crate::retry;

/// How long to wait for a batch that is not complete; a person may have asked for its results once more.
const NOT_COMPLETE: Duration = Duration::from_secs(60 * 60);

/// Deletes complete batches at the API.
#[derive(Debug)]
pub struct BatchDelete;

impl Handler for BatchDelete {
    const EVENT_TYPES: &'static [&'static str] = &["batch.delete"];
    const SENDERS: Senders = Senders::OfTheApi;
    const RETRY: retry::Policy = BatchResults::RETRY;
    const PATIENCE: Duration = retry::LONGEST;
    const TIMEOUT: Duration = Duration::from_secs(90);
    type Payload = BatchRef;

    fn needs_of_api(&self, _event_type: &str) -> Option<&'static str> {
        Some("batches")
    }

    async fn handle(&self, cx: &mut Context<'_>, payload: BatchRef) -> handler::Result {
        if cx.event.source == "webhook" {
            cx.set_result(&serde_json::json!({ "skipped": "deleting is an event of Restante's own" }));
            return Ok(());
        }
        let id = payload.into_id()?;
        let account = cx.event.account_or_default();
        let kept = kept(&mut *cx.connection().await?, &id, account).await?;
        match kept {
            None => {
                cx.set_result(&serde_json::json!({ "skipped": "the batch is not known" }));
                return Ok(());
            }
            Some(Kept { is_deleted: true, .. }) => return Ok(()),
            Some(Kept { is_complete: false, .. }) => {
                let reason =
                    "the batch is not complete; it is deleted at the API once every result is stored";
                return Err(Error::Snooze(NOT_COMPLETE, reason.into()));
            }
            Some(_) => {}
        }
        cx.api.delete_batch(&id).await?;
        Ok(deleted(cx.tx().await?, &id, account).await?)
    }
}
