//! `batch.poll`: polls the API about a batch until it has ended.
//!
//! The API sends no webhook for batches, so this is how we learn that one has ended. An insert into `restante.batch`
//! starts it (trigger `batch_is_watched`).

use std::time::Duration;

use anyhow::anyhow;
use rand::Rng;

use crate::batch::{BatchRef, conclude, ended, known, observe};
use crate::handler::{self, Context, Error, Handler, Senders};
use crate::handlers::batch_results::{BatchResults, NOT_ENDED};
use crate::outbox::Source;
use crate::retry;

/// Watches a batch until it has ended.
#[derive(Debug)]
pub struct BatchPoll {
    /// The time between two polls.
    pub every: Duration,
}

impl Handler for BatchPoll {
    const EVENT_TYPES: &'static [&'static str] = &["batch.poll"];
    const SENDERS: Senders = Senders::OfTheApi;
    /// As for the results: an outage that the results survive must not end the poll.
    const RETRY: retry::Policy = BatchResults::RETRY;
    const PATIENCE: Duration = BatchResults::PATIENCE;
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
        let result = self.look(cx, &id).await;
        conclude(cx, &id, &known, result).await
    }
}

impl BatchPoll {
    async fn look(&self, cx: &mut Context<'_>, id: &str) -> handler::Result {
        let account = cx.event.account_or_default();
        let batch = cx.api.batch(id).await?;
        let mut checkpoint = cx.checkpoint().await?;
        let is_overdue = observe(&mut checkpoint, account, std::slice::from_ref(&batch)).await?;
        checkpoint.commit().await?;
        if batch.is_terminal() {
            return cx.enqueue(Source::Poll, ended(account, &batch)).await;
        }
        if is_overdue {
            // The API says that batches end within 24 hours. One that does not is trouble, so that an operator sees it.
            let error = anyhow!("the batch should have ended a day ago, and the API says that it has not");
            return Err(Error::Trouble(self.every.max(Duration::from_secs(3600)), error));
        }
        // At random, so that batches which were created together are not polled in the same moment.
        let every = self.every.min(retry::LONGEST);
        Err(Error::Snooze(every.mul_f64(rand::rng().random_range(0.9..1.1)), NOT_ENDED.into()))
    }
}
