//! Requests that ingest refused, in `restante.refusal`.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

/// Requests that were refused for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The sender whose path was asked, by the name of its configuration; `-` for a path that is no sender's.
    pub sender: String,
    /// Why, in a word that `restante.refusal_hint` knows.
    pub reason: &'static str,
    /// How many there were.
    pub requests: i64,
    /// When the first of them came.
    pub first_at: DateTime<Utc>,
    /// When the last of them came.
    pub last_at: DateTime<Utc>,
}

/// Adds them to what was reported before. One statement, which commits by itself and waits for no lock for longer than 200 ms.
///
/// # Errors
/// The error of the statement: then none is added, unless only the answer was lost.
pub async fn note_refusals(executor: impl PgExecutor<'_>, refused: &[Refused]) -> sqlx::Result<()> {
    let senders: Vec<&str> = refused.iter().map(|refused| refused.sender.as_str()).collect();
    let reasons: Vec<&str> = refused.iter().map(|refused| refused.reason).collect();
    let requests: Vec<i64> = refused.iter().map(|refused| refused.requests).collect();
    let first_ats: Vec<DateTime<Utc>> = refused.iter().map(|refused| refused.first_at).collect();
    let last_ats: Vec<DateTime<Utc>> = refused.iter().map(|refused| refused.last_at).collect();
    sqlx::query!(
        r#"select restante.note_refusals($1, $2, $3, $4, $5) as "noted""#,
        &senders as &[&str],
        &reasons as &[&str],
        &requests,
        &first_ats,
        &last_ats,
    )
    .fetch_one(executor)
    .await?;
    Ok(())
}
