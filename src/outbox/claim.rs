//! Claiming: taking events that may run now, with a lease on each.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::types::PgInterval;

use crate::event::Event;
use crate::outbox::Lease;

/// An event that was claimed, with what the worker has to know about it.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The event.
    pub event: Event,
    /// The right to run and settle it.
    pub lease: Lease,
    /// How many attempts a person allows for this event, where they differ from the handler's policy.
    pub max_attempts: Option<i32>,
    /// How many workers have vanished while they ran it.
    pub crashes: i32,
}

/// The event in the columns of a `restante.claimed`, whichever statement they came with; none, where all is null.
macro_rules! claimed {
    ($row:expr) => {
        (|| {
            Some($crate::outbox::Claimed {
                lease: $crate::outbox::Lease { id: $row.id?, token: $row.lease_token? },
                max_attempts: $row.max_attempts,
                crashes: $row.crashes?,
                event: $crate::event::Event {
                    id: $row.id?,
                    event_id: $row.event_id?,
                    event_type: $row.event_type?,
                    subscriber: $row.subscriber?,
                    key: $row.key,
                    workspace_id: $row.workspace_id,
                    source: $row.source?,
                    created_at: $row.created_at?,
                    received_at: $row.received_at?,
                    body: match $row.payload {
                        Some(text) => $crate::event::Body::Json(text),
                        None => $crate::event::Body::Raw($row.raw.unwrap_or_default()),
                    },
                    attempt: $row.attempt?,
                },
            })
        })()
    };
}
pub(super) use claimed;

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The worker's name.
    pub owner: &'a str,
    /// Whose events: the empty name stands for the handlers of the types.
    pub subscribers: &'a [String],
    /// The most events.
    pub limit: i64,
    /// How long each lease lasts.
    pub lease: Duration,
    /// Of the events that wait for no time only those are looked at that were created then or later.
    pub floor: Option<DateTime<Utc>>,
    /// Do keys that are noted get their heads before?
    pub settles: bool,
}

/// What a claim brought.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// The events, oldest first.
    pub claimed: Vec<Claimed>,
    /// How many keys that were noted have their heads now.
    pub keys_settled: i64,
    /// How many had to be left, because somebody holds them.
    pub keys_left: i64,
}

/// About how many bytes of bodies one claim brings, beside its first event.
const BYTES_MAX: i64 = 16 * 1024 * 1024;

/// Claims events, the oldest `created_at` first, and leases each.
///
/// A new event, a retry that is due, and an event whose lease ran out are all claimed here: there is no other process
/// that could fail to bring one back. At most one event of a key is claimed at a time, because at most one is ever in
/// a state to be claimed (`outbox_live_head`).
///
/// # Errors
/// What the database says; then nothing was claimed, unless its answer was lost.
pub async fn claim(executor: impl PgExecutor<'_>, ask: Ask<'_>) -> sqlx::Result<Claims> {
    let rows = sqlx::query!(
        "select * from restante.claim($1, $2, $3, $4, coalesce($5, '-infinity'::timestamptz), $6, $7)",
        ask.owner,
        ask.subscribers,
        ask.limit,
        interval(ask.lease),
        ask.floor,
        BYTES_MAX,
        ask.settles,
    )
    .fetch_all(executor)
    .await?;
    let mut claims = Claims::default();
    for row in rows {
        claims.keys_settled += row.keys_settled.unwrap_or(0);
        claims.keys_left += row.keys_left.unwrap_or(0);
        claims.claimed.extend(claimed!(row));
    }
    Ok(claims)
}

/// Has a younger event of this event's key and subscriber been handled already?
///
/// # Errors
/// What the database says.
pub async fn is_late(executor: impl PgExecutor<'_>, event: &Event) -> sqlx::Result<bool> {
    let Some(key) = &event.key else { return Ok(false) };
    sqlx::query_scalar!(
        r#"
        select exists (
          select from restante.outbox as o
           where o.key = $1 and o.subscriber = $2 and o.created_at > $3 and o.id <> $4 and o.attempt > 0
             -- What happened later was finished later: older weeks of the history need no look. The hour is for clocks.
             and o.finished_at >= $3::timestamptz - interval '1 hour') as "late!"
        "#,
        key,
        event.subscriber,
        event.created_at as DateTime<Utc>,
        event.id,
    )
    .fetch_one(executor)
    .await
}

/// A duration as Postgres takes it, cut to ten years: added to the time, a longer one might leave what Postgres knows of time.
pub(super) fn interval(duration: Duration) -> PgInterval {
    const DURATION_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
    let microseconds = i64::try_from(duration.min(DURATION_MAX).as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
