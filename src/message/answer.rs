//! The answer of a message, into its row.

use sqlx::{Connection, PgConnection};

use super::{chunks, storable};
use crate::api::FinalMessage;
use crate::database;

/// Stores the answer that an attempt got. Returns whether it is the answer of the message: it is not if the message was called off, or
/// another attempt began.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn store_answer(
    connection: &mut PgConnection,
    id: i64,
    attempt: i32,
    answer: &FinalMessage,
) -> sqlx::Result<bool> {
    let is_stored = match as_json(connection, id, attempt, answer).await {
        // It may nest more deeply than Postgres reads JSON.
        Err(error) if database::is_refusal(&error) => as_bytes(connection, id, attempt, answer).await?,
        tried => tried?,
    };
    let is_answer = end(connection, id, attempt, is_stored, answer).await?;
    if is_stored {
        if attempt > 1 {
            forget_other_attempts(connection, id, attempt).await?;
        }
        chunks::tell(connection, id).await?;
    }
    Ok(is_answer)
}

/// In a savepoint, so that a refusal leaves the transaction usable.
async fn as_json(
    connection: &mut PgConnection,
    id: i64,
    attempt: i32,
    answer: &FinalMessage,
) -> sqlx::Result<bool> {
    let mut savepoint = connection.begin().await?;
    match done(&mut savepoint, id, attempt, answer, Body::Json).await {
        Ok(is_answer) => savepoint.commit().await.map(|()| is_answer),
        Err(error) => {
            savepoint.rollback().await?;
            Err(error)
        }
    }
}

async fn as_bytes(
    connection: &mut PgConnection,
    id: i64,
    attempt: i32,
    answer: &FinalMessage,
) -> sqlx::Result<bool> {
    done(connection, id, attempt, answer, Body::Bytes).await
}

/// Which column has the final message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Json,
    Bytes,
}

async fn done(
    connection: &mut PgConnection,
    id: i64,
    attempt: i32,
    answer: &FinalMessage,
    body: Body,
) -> sqlx::Result<bool> {
    let usage = &answer.usage;
    let done = sqlx::query!(
        "update restante.message
            set status = 'done', done_at = clock_timestamp(), reason = null, error_type = null, text = $3, body = $4::text::json, raw = $5,
                model = $6, stop_reason = $7, input_tokens = $8, output_tokens = $9, cache_creation_input_tokens = $10,
                cache_read_input_tokens = $11
          where id = $1 and attempt = $2 and status = 'sending'",
        id,
        attempt,
        answer.text,
        (body == Body::Json).then_some(answer.json.as_str()) as _,
        (body == Body::Bytes).then_some(answer.json.as_bytes()),
        answer.model.as_deref().map(storable),
        answer.stop_reason.as_deref().map(storable),
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_creation_input_tokens,
        usage.cache_read_input_tokens,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends the attempt. If its answer comes too late, what it used stays known. Returns whether it is the answer: it may have been
/// stored before, by a commit whose own answer was lost.
async fn end(
    connection: &mut PgConnection,
    id: i64,
    attempt: i32,
    is_stored: bool,
    answer: &FinalMessage,
) -> sqlx::Result<bool> {
    let usage = &answer.usage;
    let outcome = sqlx::query_scalar!(
        "update restante.message_attempt
            set ended_at = coalesce(ended_at, clock_timestamp()), outcome = case when $3 or outcome = 'answered' then 'answered' else 'unused' end, message_id = $4, model = $5,
                input_tokens = $6, output_tokens = $7, cache_creation_input_tokens = $8, cache_read_input_tokens = $9
          where message = $1 and attempt = $2 and (outcome is null or outcome = 'answered')
        returning outcome",
        id,
        attempt,
        is_stored,
        answer.id.as_deref().map(storable),
        answer.model.as_deref().map(storable),
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_creation_input_tokens,
        usage.cache_read_input_tokens,
    )
    .fetch_optional(connection)
    .await?;
    Ok(outcome.flatten().as_deref() == Some("answered"))
}

/// Deletes what attempts without an answer have said.
async fn forget_other_attempts(connection: &mut PgConnection, id: i64, attempt: i32) -> sqlx::Result<()> {
    sqlx::query!("delete from restante.message_chunk where message = $1 and attempt <> $2", id, attempt)
        .execute(connection)
        .await?;
    Ok(())
}
