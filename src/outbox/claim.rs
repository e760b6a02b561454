//! Claiming: taking events that may run now, with a lease on each.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::types::PgInterval;

use crate::event::Event;
use crate::outbox::Lease;
use crate::trace;

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
    /// The trace that it belongs to, if it has one and this process traces.
    pub traceparent: Option<String>,
}

/// A row that brings a `restante.claimed_event` and its trace, after the columns that only its statement has. A column that the SQL type has and this
/// list does not have, or the other way round, does not compile.
macro_rules! claimed_row {
    ($Row:ident { $($own:ident: $Own:ty),* $(,)? }) => {
        struct $Row {
            $($own: Option<$Own>,)*
            id: Option<i64>,
            event_id: Option<String>,
            event_type: Option<String>,
            subscriber: Option<String>,
            key: Option<String>,
            workspace_id: Option<String>,
            source: Option<String>,
            created_at: Option<::chrono::DateTime<::chrono::Utc>>,
            received_at: Option<::chrono::DateTime<::chrono::Utc>>,
            payload: Option<String>,
            raw: Option<Vec<u8>>,
            attempt: Option<i32>,
            max_attempts: Option<i32>,
            crashes: Option<i32>,
            lease_token: Option<i64>,
            sender: Option<String>,
            account: Option<String>,
            keys_settled: Option<i64>,
            keys_left: Option<i64>,
            traceparent: Option<String>,
        }

        impl $Row {
            /// The event; none, where the row brings none.
            fn into_claimed(self) -> Option<$crate::outbox::Claimed> {
                debug_assert!(self.id.is_none() || (self.keys_settled, self.keys_left) == (None, None), "an event or keys");
                let body = match self.payload {
                    Some(text) => $crate::event::Body::Json(text),
                    None => $crate::event::Body::Raw(self.raw.unwrap_or_default()),
                };
                Some($crate::outbox::Claimed {
                    lease: $crate::outbox::Lease { id: self.id?, token: self.lease_token? },
                    max_attempts: self.max_attempts,
                    crashes: self.crashes?,
                    traceparent: self.traceparent,
                    event: $crate::event::Event {
                        id: self.id?,
                        sender: self.sender?,
                        account: self.account,
                        event_id: self.event_id?,
                        event_type: self.event_type?,
                        subscriber: self.subscriber?,
                        key: self.key,
                        workspace_id: self.workspace_id,
                        source: self.source?,
                        created_at: self.created_at?,
                        received_at: self.received_at?,
                        body,
                        attempt: self.attempt?,
                    },
                })
            }
        }
    };
}
pub(super) use claimed_row;

claimed_row!(ClaimRow {});

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
    pub cursor: Option<DateTime<Utc>>,
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
    claim_except(executor, ask, None, &[]).await
}

/// As [`claim`], and leaves out the events whose `restante.need_name()` matches this pattern of Postgres, but for these.
///
/// # Errors
/// As for [`claim`].
pub async fn claim_except(
    executor: impl PgExecutor<'_>,
    ask: Ask<'_>,
    pattern: Option<&str>,
    but_for: &[i64],
) -> sqlx::Result<Claims> {
    let rows = sqlx::query_as!(
        ClaimRow,
        // Nothing is claimed for a subscriber that a person has paused.
        r#"
        select c.*, case when $10 then restante.trace_of(c.id) end as traceparent from restante.claim_except(
          $1,
          array(select s.subscriber from unnest($2::text[]) as s (subscriber)
                 where not exists (select from restante.paused_type as t where t.type = 'subscriber:' || s.subscriber)),
          $3, $4, coalesce($5, '-infinity'::timestamptz), $6, $7, $8, $9) as c
        "#,
        ask.owner,
        ask.subscribers,
        ask.limit,
        interval(ask.lease),
        ask.cursor,
        BYTES_MAX,
        ask.settles,
        pattern,
        but_for,
        trace::is_on(),
    )
    .fetch_all(executor)
    .await?;
    let mut claims = Claims::default();
    for row in rows {
        claims.keys_settled += row.keys_settled.unwrap_or(0);
        claims.keys_left += row.keys_left.unwrap_or(0);
        claims.claimed.extend(row.into_claimed());
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
           where o.key = $1 and coalesce(o.account, o.sender) = $5 and o.subscriber = $2 and o.created_at > $3 and o.id <> $4 and o.attempt > 0
             -- What happened later was finished later: older weeks of the history need no look. The hour is for clocks.
             and o.finished_at >= $3::timestamptz - interval '1 hour') as "late!"
        "#,
        key,
        event.subscriber,
        event.created_at as DateTime<Utc>,
        event.id,
        event.account.as_ref().unwrap_or(&event.sender),
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
