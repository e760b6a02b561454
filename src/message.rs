//! The tables of messages: what one is at, its attempts, and how they are changed.
//!
//! What follows from a change of the status (events of our own) stands in the triggers of `restante.message`, because a person or an
//! application may make the same changes. So every change here names the attempt that makes it, and changes nothing once the message
//! was called off or another attempt has begun.

mod answer;
mod chunks;
#[cfg(feature = "service")]
pub(crate) mod reading;

use sqlx::{PgConnection, PgExecutor};

use crate::api::SoFar;

pub(crate) use answer::store_answer;
pub(crate) use chunks::{NewChunk, forget_chunks, write_chunks};

/// A message, without what it asks.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// As `restante.message_status` has them.
    pub(crate) status: String,
    /// How often it was sent, as far as that may be paid.
    pub(crate) attempt: i32,
    /// How often it is sent at most.
    pub(crate) attempts_max: i32,
    /// Is its text shown while it is being written?
    pub(crate) partial: bool,
    /// The beta features that it needs.
    pub(crate) betas: Vec<String>,
    /// How its last attempt went out, if that one has not ended: `stream` or `batch`.
    pub(crate) open: Option<String>,
}

/// The message, if there is such a one.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn message(executor: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<Message>> {
    sqlx::query_as!(
        Message,
        r#"
        select m.status as "status!: String", m.attempt, m.attempts_max, m.partial, m.betas,
               (select a.sent_as from restante.message_attempt as a
                 where a.message = m.id and a.attempt = m.attempt and a.outcome is null) as open
          from restante.message as m where m.id = $1
        "#,
        id
    )
    .fetch_optional(executor)
    .await
}

/// The exact request of a message.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn request(executor: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(r#"select request::text as "request!" from restante.message where id = $1"#, id)
        .fetch_optional(executor)
        .await
}

/// Notes that the first byte of the next attempt is about to go out, and returns its number; `None` if the message is not as it
/// was: it was called off, or another attempt has begun.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn begin(
    executor: impl PgExecutor<'_>,
    id: i64,
    seen: &Message,
) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!(
        r#"
        with begun as (
          update restante.message set status = 'sending', attempt = attempt + 1, sent_at = clock_timestamp(), reason = null
           where id = $1 and attempt = $2 and status = $3::text::restante.message_status
          returning id, attempt)
        insert into restante.message_attempt as a (message, attempt)
        select id, attempt from begun
        -- A time that cannot be paid has left its row for this one.
        on conflict (message, attempt) do update
          set sent_as = 'stream', batch_id = null, sent_at = clock_timestamp(), ended_at = null, outcome = null, may_be_paid = true,
              error = null
          where not a.may_be_paid
        returning attempt
        "#,
        id,
        seen.attempt,
        seen.status,
    )
    .fetch_optional(executor)
    .await
}

/// What came of an attempt that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was called off.
    Unused,
    /// Its answer broke off.
    Cut,
    /// Nobody knows.
    Lost,
    /// The API does not take it.
    Refused,
    /// Nothing of it reached the API.
    NotSent,
}

impl Outcome {
    /// As `message_attempt.outcome` has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Cut => "cut",
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::NotSent => "not sent",
        }
    }

    /// May the API bill it?
    pub(crate) fn may_be_paid(self) -> bool {
        !matches!(self, Self::Refused | Self::NotSent)
    }
}

/// Ends an attempt that has no answer, with what it is known to have used. It may have ended before.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn end_attempt(
    executor: impl PgExecutor<'_>,
    id: i64,
    attempt: i32,
    outcome: Outcome,
    error: Option<&str>,
    so_far: &SoFar,
) -> sqlx::Result<()> {
    let usage = &so_far.usage;
    sqlx::query!(
        "update restante.message_attempt
            set ended_at = clock_timestamp(), outcome = $3, may_be_paid = $4, error = $5, message_id = $6, model = $7,
                input_tokens = $8, output_tokens = $9, cache_creation_input_tokens = $10, cache_read_input_tokens = $11
          where message = $1 and attempt = $2 and outcome is null",
        id,
        attempt,
        outcome.as_str(),
        outcome.may_be_paid(),
        error,
        so_far.id.as_deref().map(storable),
        so_far.model.as_deref().map(storable),
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_creation_input_tokens,
        usage.cache_read_input_tokens,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Has a message wait for its next attempt. An attempt that cannot be paid leaves its number to the next one. Returns whether the
/// message was still that of this attempt.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn wait(
    executor: impl PgExecutor<'_>,
    id: i64,
    attempt: i32,
    outcome: Outcome,
    reason: &str,
) -> sqlx::Result<bool> {
    let waits = sqlx::query!(
        "update restante.message set status = 'waiting', reason = $3, attempt = attempt - case when $4 then 0 else 1 end
          where id = $1 and attempt = $2 and status = 'sending'",
        id,
        attempt,
        reason,
        outcome.may_be_paid(),
    )
    .execute(executor)
    .await?;
    Ok(waits.rows_affected() == 1)
}

/// Gives a message up, with the reason, and with the type of the error as the API names it. Returns whether the message was still
/// that of this attempt.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn fail(
    connection: &mut PgConnection,
    id: i64,
    attempt: i32,
    reason: &str,
    error_type: Option<&str>,
) -> sqlx::Result<bool> {
    let failed = sqlx::query_scalar!(
        "update restante.message set status = 'failed', reason = $3, error_type = $4
          where id = $1 and attempt = $2 and status in ('waiting', 'sending') returning partial",
        id,
        attempt,
        reason,
        error_type,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if failed == Some(true) {
        chunks::tell(connection, id).await?;
    }
    Ok(failed.is_some())
}

/// Is this attempt still the one that answers its message?
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn is_under_way(executor: impl PgExecutor<'_>, id: i64, attempt: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from restante.message where id = $1 and attempt = $2 and status = 'sending') as "is!""#,
        id,
        attempt,
    )
    .fetch_one(executor)
    .await
}

/// The text without NUL, which no text of Postgres can hold.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
