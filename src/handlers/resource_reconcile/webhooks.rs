//! The webhooks that came about some objects, finished or not.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgExecutor;

use super::changes::Candidate;
use crate::envelope;

/// Before the first change, because a webhook of what happens once may give another time.
const BEFORE: TimeDelta = TimeDelta::hours(1);

/// A webhook that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Webhook {
    pub(super) event_id: String,
    pub(super) event_type: String,
    /// The object that it is about.
    pub(super) subject: String,
    pub(super) created_at: DateTime<Utc>,
}

/// The webhooks that may tell of these changes.
pub(super) async fn about(
    executor: impl PgExecutor<'_>,
    account: &str,
    candidates: &[Candidate],
) -> sqlx::Result<Vec<Webhook>> {
    let Some(first) = candidates.iter().map(|candidate| candidate.change.happened_at).min() else {
        return Ok(Vec::new());
    };
    let keys: Vec<&str> = candidates.iter().map(|candidate| candidate.key.as_str()).collect();
    let rows = sqlx::query!(
        r#"
        select event_id as "event_id!", type as "event_type!", key as "key!", created_at as "created_at!", body as "body!"
          from restante.webhooks_of($1, $2, $3)
        "#,
        account,
        &keys as &[&str],
        first - BEFORE,
    )
    .fetch_all(executor)
    .await?;
    let webhook = |row: (String, String, String, DateTime<Utc>, Vec<u8>)| {
        let (event_id, event_type, key, created_at, body) = row;
        Webhook { subject: envelope::subject_of(&event_type, &key, &body), event_id, event_type, created_at }
    };
    Ok(rows
        .into_iter()
        .map(|row| webhook((row.event_id, row.event_type, row.key, row.created_at, row.body)))
        .collect())
}
