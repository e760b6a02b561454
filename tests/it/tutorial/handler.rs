//! `message.completed`: Claude has answered, and the desk gets what it said of a letter.

use restante::handler::{self, Context, Handler};
use serde::Deserialize;

/// Puts the answers about letters on the desk.
#[derive(Debug)]
pub struct Letters;

/// What the event says of its message.
#[derive(Debug, Deserialize)]
pub struct Answered {
    id: i64,
    tag: Option<String>,
}

impl Handler for Letters {
    const EVENT_TYPES: &'static [&'static str] = &["message.completed"];
    type Payload = Answered;

    async fn handle(&self, cx: &mut Context<'_>, answered: Answered) -> handler::Result {
        // The messages of others complete too.
        if answered.tag.as_deref() != Some("letters") {
            return Ok(());
        }
        sqlx::query("insert into desk (letter, answer) select key, text from restante.message where id = $1")
            .bind(answered.id)
            .execute(cx.tx().await?)
            .await?;
        Ok(())
    }
}
