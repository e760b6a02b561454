//! `message.pack`: packs messages that wait into a batch, at half the price.
//!
//! There is one such event for each account, model and set of betas while messages wait. `restante.pack_messages` decides when it is
//! time, and for which messages a batch would come too late.

use std::time::Duration;

use serde::Deserialize;
use sqlx::PgExecutor;

use crate::handler::{self, Context, Error, Handler, Senders};
use crate::handlers::batch_results::BatchResults;
use crate::retry;

/// Packs messages into batches.
#[derive(Debug)]
pub struct MessagePack;

/// Which messages: those of the event's account that have this value.
#[derive(Debug, Deserialize)]
pub struct Lane {
    packs_with: String,
}

struct Look {
    packed: i32,
    sent_directly: i32,
    /// In seconds; `None` if no message waits.
    look_again_in: Option<f64>,
}

impl Handler for MessagePack {
    const EVENT_TYPES: &'static [&'static str] = &["message.pack"];
    const SENDERS: Senders = Senders::OfTheApi;
    /// As for the results: an outage must not end it while messages wait.
    const RETRY: retry::Policy = retry::Policy { max_attempts: u32::MAX, ..BatchResults::RETRY };
    const PATIENCE: Duration = retry::LONGEST;
    /// A full batch is written in one commit.
    const TIMEOUT: Duration = Duration::from_secs(300);
    type Payload = Lane;

    async fn handle(&self, cx: &mut Context<'_>, lane: Lane) -> handler::Result {
        let account = cx.event.account_or_default();
        loop {
            let mut checkpoint = cx.checkpoint().await?;
            let found = look(&mut *checkpoint, account, &lane.packs_with).await?;
            checkpoint.commit().await?;
            if found.packed > 0 || found.sent_directly > 0 {
                tracing::info!(
                    account,
                    packed = found.packed,
                    sent_directly = found.sent_directly,
                    "messages that waited for a batch were packed into one, or are sent by themselves"
                );
            }
            match found.look_again_in {
                Some(seconds) if seconds <= 0.0 => cx.progress(),
                Some(seconds) => return Err(wait(seconds)),
                None => break,
            }
        }
        // Once more, in the commit that ends the event: a message that is stored at this moment is either seen, or gets an event of its own.
        match look(cx.tx().await?, account, &lane.packs_with).await?.look_again_in {
            None => Ok(()),
            Some(seconds) => Err(wait(seconds)),
        }
    }
}

async fn look(executor: impl PgExecutor<'_>, account: &str, packs_with: &str) -> sqlx::Result<Look> {
    sqlx::query_as!(
        Look,
        r#"select packed as "packed!", sent_directly as "sent_directly!", look_again_in from restante.pack_messages($1, $2)"#,
        account,
        packs_with,
    )
    .fetch_one(executor)
    .await
}

fn wait(seconds: f64) -> Error {
    let wait = Duration::try_from_secs_f64(seconds).unwrap_or(retry::LONGEST);
    Error::Snooze(wait, "messages wait to be packed into a batch with others".into())
}
