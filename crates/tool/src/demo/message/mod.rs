//! The second scene: an application sends a message, its answer grows in a table, and a receiver is told by a signed webhook.

mod evidence;

use std::time::Instant;

use anyhow::bail;
use sqlx::{AssertSqlSafe, PgConnection};
use url::Url;

use self::evidence::Told;
use super::receiver::Notification;
use super::story::Story;
use super::world::World;
use super::{LOOK_EVERY, PATIENCE};
use crate::columns::indented;

/// How many more characters the text must have before it is shown again.
const STEP_CHARACTERS: usize = 100;

/// How much of its end is shown.
const END_CHARACTERS: usize = 40;

/// What an operator has written about the price of the model. The numbers are an example.
const PRICE: &str = "\
insert into restante.price (model, valid_from, input, output, cache_write_5m, cache_write_1h, cache_read)
values ('claude-opus-5-5', '2025-01-01', 5, 25, 6.25, 10, 0.5)";

/// The statement that sends the message, as a person would write it.
fn statement(callback: &Url) -> String {
    format!(
        "\
select restante.send_message(
  '{{\"model\": \"claude-opus-5-5\", \"max_tokens\": 1000,
    \"messages\": [{{\"role\": \"user\", \"content\": \"What do today''s letters ask for? Say it in five sentences.\"}}]}}',
  partial => true, callback => '{callback}');"
    )
}

/// Plays the scene.
///
/// # Errors
/// If the answer does not come, the receiver cannot verify what it gets, or that disagrees with the database.
pub(super) async fn play(world: &mut World, story: &mut Story) -> anyhow::Result<()> {
    story.title("A message, and its answer while it is written")?;
    sqlx::query(PRICE).execute(&mut world.connection).await?;
    let statement = statement(world.receiver.url());
    story.say(&indented(&statement))?;
    let sending = send(&mut world.application, statement);
    let id = story
        .during("an application sends a message in one statement:", sending, |id| format!("message {id}"))
        .await?;
    watch(world, id, story).await?;
    story
        .step(&format!("its row in restante.message: {}", evidence::row(&mut world.connection, id).await?))?;

    let arriving = world.receiver.next();
    let notification = story
        .during(
            "the receiver gets a webhook, and the library standardwebhooks verifies it:",
            arriving,
            |it| it.id.clone(),
        )
        .await?;
    story.say(&indented(&indented(&notification.body)))?;
    let noting = noted(world, id, &notification);
    let told = story
        .during("the worker notes how it was answered:", noting, |told| {
            format!("{}, at attempt {}", told.answer.unwrap_or_default(), told.attempts)
        })
        .await?;

    story.title("Is it the same everywhere?")?;
    let discrepancies = told.discrepancies(&notification);
    if !discrepancies.is_empty() {
        bail!("the message did not go as it should:\n  {}", discrepancies.join("\n  "));
    }
    story.say(&format!(
        "The {} pieces in restante.message_chunk make up the answer; the receiver got the bytes that are in the outbox.",
        told.pieces
    ))?;
    story.say("One SQL statement in, a streamed answer in the table, and a signed webhook that its receiver verified.")?;
    Ok(())
}

async fn send(connection: &mut PgConnection, statement: String) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(connection).await?)
}

/// What the table says of a message while it is being written.
#[derive(sqlx::FromRow)]
struct Written {
    status: String,
    reason: Option<String>,
    text: String,
}

impl Written {
    fn characters(&self) -> usize {
        self.text.chars().count()
    }

    /// The length and the end of the text, on one line.
    fn summary(&self) -> String {
        let characters = self.characters();
        let end = self.text.chars().skip(characters.saturating_sub(END_CHARACTERS));
        let is_blank = |char: char| char.is_whitespace() || char.is_control();
        let end: String = end.map(|char| if is_blank(char) { ' ' } else { char }).collect();
        let done = if self.status == "done" { ", and it is done" } else { "" };
        format!("{characters} characters, …{end}{done}")
    }
}

/// Prints how far the text is, until its message is done.
async fn watch(world: &mut World, id: i64, story: &mut Story) -> anyhow::Result<()> {
    let mut seen = 0;
    loop {
        let growing = grown(world, id, seen + STEP_CHARACTERS);
        let written = story.during("the text in restante.message_chunk:", growing, Written::summary).await?;
        if written.status == "done" {
            return Ok(());
        }
        seen = written.characters();
    }
}

/// Waits until the text has so many characters, or its message is done. Reads as the application may.
async fn grown(world: &mut World, id: i64, characters: usize) -> anyhow::Result<Written> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let written: Written = sqlx::query_as(
            "select m.status::text as status, m.reason, coalesce(string_agg(c.text, '' order by c.seq), '') as text
               from restante.message as m
               left join restante.message_chunk as c on c.message = m.id and c.attempt = m.attempt
              where m.id = $1 group by m.id",
        )
        .bind(id)
        .fetch_one(&mut world.application)
        .await?;
        if written.status == "done" || written.characters() >= characters {
            return Ok(written);
        }
        world.check()?;
        let is_lost = ["failed", "cancelled"].contains(&written.status.as_str());
        if is_lost || Instant::now() >= deadline {
            let reason = written.reason.unwrap_or_else(|| "no reason is known".to_owned());
            bail!(world.worker.fault(&format!("sent message {id}, which is {} ({reason})", written.status)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the notification is settled, and reads what the database says of it and of its message.
async fn noted(world: &mut World, id: i64, notification: &Notification) -> anyhow::Result<Told> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = evidence::told(&mut world.connection, id, notification).await?;
        if told.is_settled() {
            return Ok(told);
        }
        world.check()?;
        if Instant::now() >= deadline {
            bail!(world.worker.fault(&format!("did not settle the notification {}", notification.id)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_text_its_length_and_its_end_are_told_on_one_line() {
        let text = format!("{}first\nsecond\u{2028}third", "x".repeat(40));
        let written = Written { status: "sending".into(), reason: None, text };

        let end = format!("{}first second third", "x".repeat(22));
        assert_eq!(written.summary(), format!("58 characters, …{end}"));
    }
}
