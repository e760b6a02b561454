//! What a message says while it is being written: rows of `message_chunk`.

use sqlx::{PgConnection, PgExecutor};

/// The channel that names the messages of which there is something new, as numbers with commas between them. A hint: it may get
/// lost, and an empty one may be about any message.
pub(crate) const CHANNEL: &str = "restante_message";

/// The longest text of a hint that Postgres takes has 7,999 bytes.
const HINT_BYTES_MAX: usize = 7_999;

/// Some events of one attempt, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct NewChunk {
    pub(crate) message: i64,
    pub(crate) attempt: i32,
    /// The number of the last event.
    pub(crate) seq: i64,
    /// A JSON list of the events.
    pub(crate) events: String,
    /// The text in them.
    pub(crate) text: Option<String>,
}

/// Writes what several streams say, in one statement, and tells whoever reads along. What an attempt says that does not answer
/// its message any more is dropped. Safe to repeat.
///
/// # Errors
/// The database is away, or refuses a value.
pub(crate) async fn write_chunks(executor: impl PgExecutor<'_>, chunks: &[NewChunk]) -> sqlx::Result<()> {
    let column = |column: fn(&NewChunk) -> i64| chunks.iter().map(column).collect::<Vec<_>>();
    let events: Vec<&str> = chunks.iter().map(|chunk| chunk.events.as_str()).collect();
    let texts: Vec<Option<&str>> = chunks.iter().map(|chunk| chunk.text.as_deref()).collect();
    let attempts: Vec<i32> = chunks.iter().map(|chunk| chunk.attempt).collect();
    sqlx::query!(
        r#"
        with written as (
          insert into restante.message_chunk (message, attempt, seq, events, text)
          select c.message, c.attempt, c.seq, c.events::json, c.text
            from unnest($1::bigint[], $2::integer[], $3::bigint[], $4::text[], $5::text[]) as c (message, attempt, seq, events, text)
            join restante.message as m on m.id = c.message and m.attempt = c.attempt and m.status = 'sending'
          on conflict do nothing
          returning message)
        select pg_notify($6, $7) where exists (select from written)
        "#,
        &column(|chunk| chunk.message),
        &attempts,
        &column(|chunk| chunk.seq),
        &events as &[&str],
        &texts as &[Option<&str>],
        CHANNEL,
        hint(chunks.iter().map(|chunk| chunk.message)),
    )
    .fetch_optional(executor)
    .await?;
    Ok(())
}

/// The messages as the text of a hint; empty if it would be too long.
fn hint(messages: impl Iterator<Item = i64>) -> String {
    let mut hint = String::new();
    for message in messages {
        if !hint.is_empty() {
            hint.push(',');
        }
        hint.push_str(&message.to_string());
        if hint.len() > HINT_BYTES_MAX {
            return String::new();
        }
    }
    hint
}

/// Tells whoever reads along that a message has ended, once the transaction commits.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn tell(connection: &mut PgConnection, message: i64) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify($1, $2)", CHANNEL, message.to_string()).fetch_one(connection).await?;
    Ok(())
}

/// One page of a walk over the messages that have rows of partial text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgotten {
    /// How many messages lost their rows.
    pub(crate) messages: i64,
    /// Where the next page begins; none, when the rest is too young or this was the last.
    pub(crate) next_after: Option<i64>,
}

/// Deletes partial text that nobody needs any more, a page of messages at a time.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn forget_chunks(executor: impl PgExecutor<'_>, after: i64) -> sqlx::Result<Forgotten> {
    sqlx::query_as!(
        Forgotten,
        r#"select messages as "messages!", next_after from restante.forget_chunks($1)"#,
        after
    )
    .fetch_one(executor)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_messages_and_is_empty_where_it_would_be_too_long() {
        assert_eq!(hint([7, 12].into_iter()), "7,12");
        assert_eq!(hint(1..2_000), "");
        assert_eq!(hint(std::iter::empty()), "");
    }
}
