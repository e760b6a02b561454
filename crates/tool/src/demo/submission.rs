//! What the application of the demo submits, in SQL and with the rights of an application.

use std::time::Instant;

use anyhow::bail;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{LOOK_EVERY, PATIENCE};

/// The name of the submission.
const NAME: &str = "letters";

/// The statement that submits `requests` requests, as a person would write it.
pub(super) fn statement(requests: u32) -> String {
    format!(
        "\
select restante.submit_batch(name => '{NAME}', requests => (
  select json_agg(json_build_object(
           'custom_id', to_char(n, 'FM\"letter-\"000000'),
           'params', json_build_object('model', 'claude-opus-5-5', 'max_tokens', 256, 'messages', json_build_array(
             json_build_object('role', 'user', 'content',
               format('Does letter %s of today''s post ask for an answer? Say yes or no, and why, in two sentences.', n))))))
    from generate_series(1, {requests}) as n));"
    )
}

/// The `custom_id` of the n-th request.
pub(super) fn custom_id(n: u32) -> String {
    format!("letter-{n:06}")
}

/// Submits, and returns the number of the submission.
///
/// # Errors
/// If the statement fails.
pub(super) async fn submit(connection: &mut PgConnection, requests: u32) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(AssertSqlSafe(statement(requests))).fetch_one(connection).await?)
}

/// Waits until the API has the batch, and returns its id.
///
/// # Errors
/// If a query fails, or that takes too long: with the reason, if there is one.
pub(super) async fn sent(connection: &mut PgConnection) -> anyhow::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (batch_id, status, reason): (Option<String>, String, Option<String>) = sqlx::query_as(
            "select batch_id, status::text, reason from restante.submission_part where submission = $1",
        )
        .bind(NAME)
        .fetch_one(&mut *connection)
        .await?;
        if let Some(batch_id) = batch_id {
            return Ok(batch_id);
        }
        if Instant::now() >= deadline {
            bail!("the worker has not sent the batch: it is {status} ({})", reason.unwrap_or_default());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
