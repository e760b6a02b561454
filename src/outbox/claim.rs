//! Claiming: taking events that may run now, with a lease on each.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::types::PgInterval;

use crate::event::{Body, Event};
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

/// Claims up to `limit` events for `subscribers`, the oldest `created_at` first, and leases each for `lease`.
///
/// A new event, a retry that is due, and an event whose lease ran out are all claimed here: there is no other process
/// that could fail to bring one back. At most one event of a key is claimed at a time, because at most one is ever in
/// a state to be claimed (`outbox_live_head`).
///
/// # Errors
/// What the database says; then nothing was claimed.
pub async fn claim(
    executor: impl PgExecutor<'_>,
    owner: &str,
    subscribers: &[String],
    limit: i64,
    lease: Duration,
) -> sqlx::Result<Vec<Claimed>> {
    let rows = sqlx::query!(
        r#"
        with ready as materialized (
          select l.id, l.created_at, l.status
            from unnest($1::text[]) as s (subscriber)
            cross join lateral (
                  select r.id, r.created_at, r.status from restante.outbox_live as r
                   where r.lane = 0 and r.subscriber = s.subscriber and r.lease_until <= clock_timestamp()
                   order by r.created_at, r.id limit $2 for update skip locked) as l),
        -- Retries and scheduled events, those that have been due for longest. The statement's time, because a condition
        -- on a clock that moves meanwhile can not bound the walk of the index: it would read the whole backlog.
        due as materialized (
          select l.id, l.created_at, l.status
            from unnest($1::text[]) as s (subscriber)
            cross join lateral (
                  select d.id, d.created_at, d.status from restante.outbox_live as d
                   where d.lane = 1 and d.subscriber = s.subscriber and d.run_at <= statement_timestamp()
                     and d.status <> 'dead'
                   order by d.run_at, d.id limit $2 for update skip locked) as l),
        picked as materialized (
          select id, status from (select * from ready union all select * from due) as both_kinds
           order by created_at, id limit $2),
        claimed as (
          update restante.outbox_live as o
             set status = 'running', lane = 0, attempt = o.attempt + 1, lease_owner = $3,
                 lease_token = o.lease_token + 1, lease_until = clock_timestamp() + $4,
                 crashes = o.crashes + (picked.status = 'running')::integer
            from picked where o.id = picked.id
          returning o.*, picked.status as status_before),
        -- A lease that ran out means that a worker vanished: that attempt has failed, and nobody else can say so.
        crashed as (
          insert into restante.failure (outbox_id, event_id, attempt, outcome, error)
          select c.id, c.event_id, c.attempt - 1, 'crashed', 'the lease ran out: the worker vanished or stood still'
            from claimed as c where c.status_before = 'running')
        select id as "id!", event_id as "event_id!", type as "event_type!", subscriber as "subscriber!", key,
               workspace_id, source as "source!", created_at as "created_at!", received_at as "received_at!",
               payload::text as payload, raw, attempt as "attempt!", max_attempts, crashes as "crashes!",
               lease_token as "lease_token!"
          from claimed order by created_at, id
        "#,
        subscribers,
        limit,
        owner,
        interval(lease),
    )
    .fetch_all(executor)
    .await?;

    Ok(rows
        .into_iter()
        .map(|row| Claimed {
            lease: Lease { id: row.id, token: row.lease_token },
            max_attempts: row.max_attempts,
            crashes: row.crashes,
            event: Event {
                id: row.id,
                event_id: row.event_id,
                event_type: row.event_type,
                subscriber: row.subscriber,
                key: row.key,
                workspace_id: row.workspace_id,
                source: row.source,
                created_at: row.created_at,
                received_at: row.received_at,
                body: match row.payload {
                    Some(text) => Body::Json(text),
                    None => Body::Raw(row.raw.unwrap_or_default()),
                },
                attempt: row.attempt,
            },
        })
        .collect())
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

/// A duration as Postgres takes it. Longer ones than Postgres can hold are cut to that.
pub(super) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
