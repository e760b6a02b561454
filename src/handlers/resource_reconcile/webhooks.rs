//! The webhooks that came about some objects, finished or not.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use super::changes::{APART, Candidate, Change};
use crate::envelope;

/// A webhook that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Webhook {
    pub(super) event_id: String,
    pub(super) event_type: String,
    /// The object that it is about.
    pub(super) subject: String,
    pub(super) created_at: DateTime<Utc>,
}

/// No webhook from before tells of the change. One of what happens once may give another time.
fn earliest(change: &Change) -> DateTime<Utc> {
    let before = change.happened_at - APART;
    match change.which {
        None => change.happened_after.map_or(before, |after| after.min(before)),
        Some(_) => change.happened_after.unwrap_or(before),
    }
}

/// The webhooks that may tell of these changes: of their keys and types, each key since its own time.
pub(super) async fn about(
    executor: impl PgExecutor<'_>,
    account: &str,
    candidates: &[Candidate],
) -> sqlx::Result<Vec<Webhook>> {
    let keys: Vec<&str> = candidates.iter().map(|candidate| candidate.key.as_str()).collect();
    let types: Vec<&str> = candidates.iter().map(|candidate| candidate.change.event_type.as_str()).collect();
    let since: Vec<DateTime<Utc>> = candidates.iter().map(|candidate| earliest(&candidate.change)).collect();
    let rows = sqlx::query!(
        r#"
        select w.event_id as "event_id!", w.type as "event_type!", w.key as "key!", w.created_at as "created_at!", w.body as "body!"
          from (select u.key, array_agg(u.type) as types, min(u.since) as since
                  from unnest($2::text[], $3::text[], $4::timestamptz[]) as u (key, type, since) group by u.key) as k
          cross join lateral restante.webhooks_of($1, array[k.key], k.since) as w
         where w.type = any (k.types)
        "#,
        account,
        &keys as &[&str],
        &types as &[&str],
        &since as &[DateTime<Utc>],
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
