//! The tables of endpoints: what the worker reads of one, and what it notes.
//!
//! What follows from a note (an endpoint that is disabled, what waits for it) stands in `migrations/0016_endpoint.sql`, because a
//! person may make the same changes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sqlx::PgExecutor;
use sqlx::postgres::types::PgInterval;
use tokio::time::Instant;

use crate::event::Event;

/// An endpoint, as it was when it was read.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: String,
    pub(super) secrets: SecretString,
    pub(super) is_enabled: bool,
    pub(super) enabled_at: DateTime<Utc>,
    pub(super) per_second: Option<i32>,
    pub(super) concurrency: usize,
    /// Not later than the row was read, by the database's clock.
    read_at: DateTime<Utc>,
    /// The same, by the clock of this process.
    asked_at: Instant,
}

impl Endpoint {
    /// The database's time now, in Unix seconds: receivers compare it with theirs.
    pub(super) fn now(&self) -> i64 {
        let passed = chrono::Duration::from_std(self.asked_at.elapsed()).unwrap_or_default();
        (self.read_at + passed).timestamp()
    }

    /// May what was stored at this time, by the database's clock, be sent by this row, if it was read within `fresh`?
    pub(super) fn serves(&self, stored_at: DateTime<Utc>, fresh: Duration) -> bool {
        stored_at <= self.read_at && self.asked_at.elapsed() < fresh
    }
}

/// The endpoint of this name, if there is one.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn endpoint(executor: impl PgExecutor<'_>, name: &str) -> sqlx::Result<Option<Endpoint>> {
    let asked_at = Instant::now();
    // The time of the statement is before what the statement sees.
    let row = sqlx::query!(
        r#"
        select e.url, e.secret, e.status = 'enabled' as "is_enabled!", e.enabled_at, e.per_second, e.concurrency,
               statement_timestamp() as "read_at!"
          from restante.endpoint as e where e.name = $1
        "#,
        name
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| Endpoint {
        url: row.url,
        secrets: row.secret.into(),
        is_enabled: row.is_enabled,
        enabled_at: row.enabled_at,
        per_second: row.per_second,
        concurrency: usize::try_from(row.concurrency).unwrap_or(1),
        read_at: row.read_at,
        asked_at,
    }))
}

/// Adds the endpoint that callbacks to one origin share, if the transaction that stored the callback could not.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn add_for_callback(executor: impl PgExecutor<'_>, url: &str) -> sqlx::Result<()> {
    sqlx::query!(r#"select restante.endpoint_of_callback($1) as "name!""#, url).fetch_one(executor).await?;
    Ok(())
}

/// Parks what comes for a disabled endpoint.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn hold(executor: impl PgExecutor<'_>, name: &str) -> sqlx::Result<()> {
    sqlx::query!("select restante.hold_notifications($1)", name).execute(executor).await?;
    Ok(())
}

/// Takes the right to send one notification now. Returns for how long to wait, zero if it is taken.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn take_slot(
    executor: impl PgExecutor<'_>,
    name: &str,
    per_second: i32,
) -> sqlx::Result<Duration> {
    let seconds = sqlx::query_scalar!(r#"select restante.take_slot($1, $2) as "seconds!""#, name, per_second)
        .fetch_one(executor)
        .await?;
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// An attempt to deliver a notification that failed.
#[derive(Debug)]
pub(super) struct Delivery<'a> {
    pub(super) endpoint: &'a str,
    /// The type of the event that it tells of.
    pub(super) event_type: &'a str,
    pub(super) took: Duration,
    pub(super) status: Option<u16>,
    /// Why it failed.
    pub(super) error: &'a str,
    /// The beginning of the body of the answer.
    pub(super) answer: Option<&'a str>,
}

/// Notes an attempt. Returns why the endpoint was disabled by it, if it was.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn note(
    executor: impl PgExecutor<'_>,
    notification: &Event,
    delivery: &Delivery<'_>,
) -> sqlx::Result<Option<String>> {
    let microseconds = i64::try_from(delivery.took.as_micros()).unwrap_or(i64::MAX);
    sqlx::query_scalar!(
        "select restante.note_delivery($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        delivery.endpoint,
        notification.id,
        notification.event_id,
        delivery.event_type,
        notification.attempt,
        PgInterval { months: 0, days: 0, microseconds },
        delivery.status.map(i32::from),
        delivery.error,
        delivery.answer,
    )
    .fetch_one(executor)
    .await
}
