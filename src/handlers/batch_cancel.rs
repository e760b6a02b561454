//! `batch.cancel`: cancels a batch at the API, because a person called its submission off.
//!
//! It may be repeated at any time. The poll of the batch goes on: what had succeeded by the end is downloaded and kept.

use std::time::Duration;

use crate::api;
use crate::batch::{BatchRef, known, observe};
use crate::handler::{self, Context, Handler, Senders};
use crate::handlers::batch_results::BatchResults;
use crate::retry;

/// Cancels batches.
#[derive(Debug)]
pub struct BatchCancel;

impl Handler for BatchCancel {
    const EVENT_TYPES: &'static [&'static str] = &["batch.cancel"];
    const SENDERS: Senders = Senders::OfTheApi;
    /// Each request that is not cancelled costs money, so it is tried until the batch has ended.
    const RETRY: retry::Policy = retry::Policy { cap: Duration::from_secs(60), ..BatchResults::RETRY };
    const PATIENCE: Duration = retry::LONGEST;
    const TIMEOUT: Duration = Duration::from_secs(90);
    type Payload = BatchRef;

    fn needs_of_api(&self, _event_type: &str) -> Option<&'static str> {
        Some("batches")
    }

    async fn handle(&self, cx: &mut Context<'_>, payload: BatchRef) -> handler::Result {
        if cx.event.source == "webhook" {
            cx.set_result(&serde_json::json!({ "skipped": "only a person calls a submission off" }));
            return Ok(());
        }
        let id = payload.into_id()?;
        let known = known(&mut *cx.connection().await?, &id, cx.event).await?;
        if known.is_complete {
            return Ok(());
        }
        let batch = match cx.api.cancel_batch(&id).await {
            Ok(batch) => batch,
            // It may have ended before. The documents of the API do not say how it refuses that.
            Err(error @ api::Error::Refused(_)) => {
                let batch = cx.api.batch(&id).await?;
                if !batch.is_terminal() {
                    return Err(error.into());
                }
                batch
            }
            Err(error) => return Err(error.into()),
        };
        cx.set_result(&serde_json::json!({ "batch_id": batch.id, "status": batch.status }));
        let account = cx.event.account_or_default();
        observe(cx.tx().await?, account, std::slice::from_ref(&batch)).await?;
        Ok(())
    }
}
