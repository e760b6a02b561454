//! `message.unpack`: gives messages the answers of the batch that they were packed into.
//!
//! It comes with the commit that makes the batch complete, or that ends a part without one. Each page is a commit of its own, and
//! what an earlier attempt has unpacked is not unpacked again.

use std::time::Duration;

use serde::Deserialize;

use crate::handler::{self, Context, Error, Handler, Senders};
use crate::handlers::batch_results::BatchResults;
use crate::retry;

/// How many messages get their answers in one commit.
const PAGE: i32 = 1000;

/// How long to wait for a message that somebody else is changing.
const IN_USE: Duration = Duration::from_secs(1);

/// Gives messages the answers of their batch.
#[derive(Debug)]
pub struct MessageUnpack;

/// Which part of a submission.
#[derive(Debug, Deserialize)]
pub struct PartRef {
    part: i64,
}

impl Handler for MessageUnpack {
    const EVENT_TYPES: &'static [&'static str] = &["message.unpack"];
    const SENDERS: Senders = Senders::OfTheApi;
    /// As for the results: an outage must not keep an answer from its message.
    const RETRY: retry::Policy = retry::Policy { max_attempts: u32::MAX, ..BatchResults::RETRY };
    const PATIENCE: Duration = retry::LONGEST;
    const TIMEOUT: Duration = Duration::from_secs(300);
    type Payload = PartRef;

    async fn handle(&self, cx: &mut Context<'_>, PartRef { part }: PartRef) -> handler::Result {
        loop {
            let mut checkpoint = cx.checkpoint().await?;
            let page = sqlx::query!(
                r#"select unpacked as "unpacked!", left_over as "left_over!" from restante.unpack_messages($1, $2)"#,
                part,
                PAGE,
            )
            .fetch_one(&mut *checkpoint)
            .await?;
            checkpoint.commit().await?;
            cx.progress();
            if page.left_over == 0 {
                return Ok(());
            }
            if page.unpacked == 0 {
                return Err(Error::Snooze(IN_USE, "some of its messages are being changed".into()));
            }
        }
    }
}
