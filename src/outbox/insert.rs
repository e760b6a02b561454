//! Storing events, each once.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::event::NewEvent;

/// Who puts an event into the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A signed delivery.
    Webhook,
    /// A question to the API.
    Poll,
    /// A handler.
    Worker,
}

impl Source {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Poll => "poll",
            Self::Worker => "worker",
        }
    }
}

/// What became of a call of [`insert_events`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// How many of the events were new.
    pub new: u64,
    /// How long the database worked, without its commit.
    pub worked: Duration,
}

/// Stores the events that are not stored yet and answers how many were new. Of several with one identifier the first counts.
///
/// One statement: all of them or none, and committed when it returns, unless `executor` is inside a transaction.
/// To call it again with the same events changes nothing.
///
/// # Errors
/// What the database says. [`crate::database::is_unavailable`] tells an outage from a row that it refuses.
pub async fn insert_events(
    executor: impl PgExecutor<'_>,
    source: Source,
    events: &[NewEvent],
) -> sqlx::Result<Stored> {
    match events {
        [event] => insert_one(executor, source, event).await,
        _ => insert_many(executor, source, events).await,
    }
}

/// To the database a lone event is half of the work that a set of one would be.
async fn insert_one(executor: impl PgExecutor<'_>, source: Source, event: &NewEvent) -> sqlx::Result<Stored> {
    let row = sqlx::query!(
        r#"
        select restante.insert_event($1, $2, $3, $4, $5, $6, $7, null, $8) is not null as "new!",
               extract(epoch from clock_timestamp() - statement_timestamp())::float8 as "worked_seconds!"
        "#,
        event.event_id,
        event.event_type,
        event.key.as_deref(),
        event.workspace_id.as_deref(),
        event.created_at,
        event.body.as_json(),
        event.body.as_raw(),
        source.as_str(),
    )
    .fetch_one(executor)
    .await?;
    Ok(Stored { new: row.new.into(), worked: duration(row.worked_seconds) })
}

async fn insert_many(
    executor: impl PgExecutor<'_>,
    source: Source,
    events: &[NewEvent],
) -> sqlx::Result<Stored> {
    let mut identifiers = HashSet::with_capacity(events.len());
    let events: Vec<&NewEvent> =
        events.iter().filter(|event| identifiers.insert(event.event_id.as_str())).collect();
    let event_ids: Vec<&str> = events.iter().map(|event| event.event_id.as_str()).collect();
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    let keys: Vec<Option<&str>> = events.iter().map(|event| event.key.as_deref()).collect();
    let workspace_ids: Vec<Option<&str>> = events.iter().map(|event| event.workspace_id.as_deref()).collect();
    let created_ats: Vec<DateTime<Utc>> = events.iter().map(|event| event.created_at).collect();
    let payloads: Vec<Option<&str>> = events.iter().map(|event| event.body.as_json()).collect();
    let raws: Vec<Option<&[u8]>> = events.iter().map(|event| event.body.as_raw()).collect();
    let row = sqlx::query!(
        r#"
        select restante.insert_events($1, $2, $3, $4, $5, $6, $7, $8) as "new!",
               extract(epoch from clock_timestamp() - statement_timestamp())::float8 as "worked_seconds!"
        "#,
        &event_ids as &[&str],
        &types as &[&str],
        &keys as &[Option<&str>],
        &workspace_ids as &[Option<&str>],
        &created_ats,
        &payloads as &[Option<&str>],
        &raws as &[Option<&[u8]>],
        source.as_str(),
    )
    .fetch_one(executor)
    .await?;
    Ok(Stored { new: u64::try_from(row.new).unwrap_or(0), worked: duration(row.worked_seconds) })
}

/// The database's clock may be set back while it works.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
