//! `openai.batch.completed`: OpenAI has translated a batch of descriptions. The event comes from another sender than the Claude
//! API, whose name in the configuration of `restante-ingest` is `openai`.

use restante::handler::{self, Context, Handler, Senders};
use serde::Deserialize;

/// Notes which batch can be fetched.
///
/// An event of another sender belongs to no account of the API, so there is nobody to ask: what the event says is all there
/// is to read. The sender may deliver it twice, and a person may replay it; the row is there once.
#[derive(Debug)]
pub struct NoteTranslation;

/// What the event says of its batch.
#[derive(Debug, Deserialize)]
pub struct Batch {
    id: String,
}

impl Handler for NoteTranslation {
    const EVENT_TYPES: &'static [&'static str] = &["openai.batch.completed"];
    /// Whoever else sends a type of this name is not meant.
    const SENDERS: Senders = Senders::Named(&["openai"]);
    type Payload = Batch;

    async fn handle(&self, cx: &mut Context<'_>, batch: Batch) -> handler::Result {
        let event = cx.event;
        sqlx::query(
            "insert into orders.translation_batch (batch_id, event_id, completed_at) values ($1, $2, $3)
             on conflict (batch_id) do nothing",
        )
        .bind(&batch.id)
        .bind(&event.event_id)
        .bind(event.created_at)
        .execute(cx.tx().await?)
        .await?;
        Ok(())
    }
}
