//! The table `restante.batch`: what the API last said of each batch, and the jobs that see to its results.
//!
//! Every batch has a row of the outbox, `batch.poll` and then `batch.ended`, until it is complete or nothing is to be had. So
//! has the search for batches. `restante.ensure_standing_jobs`, which workers call, puts back what was called off, deleted or
//! given up, under an identifier that nobody has taken.

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{PgConnection, PgExecutor};

use crate::api::{self, Batch};
use crate::envelope::Subject;
use crate::event::{ANTHROPIC, Body, Event, NewEvent};
use crate::handler::{self, Context, Error};
use crate::registry::Registry;

/// Which batch. Official envelopes name it `id`, others `batch_id`.
#[derive(Debug, Deserialize)]
#[serde(from = "Subject")]
pub struct BatchRef(Subject);

impl From<Subject> for BatchRef {
    fn from(subject: Subject) -> Self {
        Self(subject)
    }
}

impl BatchRef {
    pub(crate) fn into_id(self) -> Result<String, Error> {
        let id = self.0.id.or(self.0.batch_id);
        id.ok_or_else(|| Error::Permanent(anyhow!("the event names no batch: neither `id` nor `batch_id`")))
    }
}

/// The event that has the results of an ended batch stored. Each batch has one, however often it is seen to have ended.
pub(crate) fn ended(batch: &Batch) -> NewEvent {
    NewEvent {
        sender: ANTHROPIC.to_owned(),
        account: Some(ANTHROPIC.to_owned()),
        event_id: format!("batch.ended:{}", batch.id),
        event_type: "batch.ended".to_owned(),
        key: Some(batch.id.clone()),
        workspace_id: None,
        created_at: batch.ended_at.unwrap_or_else(Utc::now),
        body: Body::Json(serde_json::json!({ "batch_id": batch.id }).to_string()),
    }
}

/// What is known of a batch before it is asked for.
pub(crate) struct Known {
    /// Every result is here.
    pub(crate) is_complete: bool,
    /// The results, if they are not here, have vanished.
    pub(crate) is_past: bool,
}

/// Results can be had for 29 days from the creation of their batch; where we do not know that, from when we heard of it.
pub(crate) async fn known(
    executor: impl PgExecutor<'_>,
    batch_id: &str,
    event: &Event,
) -> sqlx::Result<Known> {
    sqlx::query_as!(
        Known,
        r#"
        select coalesce(bool_or(b.complete_at is not null), false) as "is_complete!",
               coalesce(max(b.results_deadline), min(b.first_seen_at) + interval '29 days', $2::timestamptz + interval '29 days')
                 < clock_timestamp() as "is_past!"
          from restante.batch as b where b.id = $1
        "#,
        batch_id,
        event.received_at,
    )
    .fetch_one(executor)
    .await
}

/// Why nothing is waited for any more.
const VANISHED: &str = "the results could be had for 29 days, and these are over";

/// What an attempt at a batch means for it. Nothing is waited for any more once the results have vanished; and where none can
/// be had, that is noted at the batch, or its job would be begun again.
pub(crate) async fn conclude(
    cx: &Context<'_>,
    batch_id: &str,
    known: &Known,
    result: handler::Result,
) -> handler::Result {
    let reason = match result {
        Err(Error::Permanent(error)) => error,
        // Whatever is wrong with the database comes to its end by itself.
        Err(Error::Trouble(_, error)) if known.is_past && error.is::<api::Error>() => error.context(VANISHED),
        Err(Error::Retryable(error)) if known.is_past && !error.is::<sqlx::Error>() => {
            error.context(VANISHED)
        }
        other => return other,
    };
    let mut checkpoint = cx.checkpoint().await?;
    sqlx::query!(
        "update restante.batch set given_up_because = $2 where id = $1 and complete_at is null",
        batch_id,
        format!("{reason:#}").replace('\0', "\u{fffd}"),
    )
    .execute(&mut *checkpoint)
    .await?;
    checkpoint.commit().await?;
    Err(Error::Permanent(reason))
}

/// The engine's own jobs: they have to go on, whatever becomes of their events. `restante.standing_job` has the same.
pub const STANDING: [&str; 3] = ["batch.poll", "batch.ended", RECONCILE];

/// The search for batches that nobody told us of.
pub(crate) const RECONCILE: &str = "batch.reconcile";

/// Is the event one of the engine's own jobs? Workers without a handler for it leave it to those who have one.
pub(crate) fn is_standing(event: &Event) -> bool {
    event.subscriber.is_empty()
        && STANDING.contains(&event.event_type.as_str())
        && matches!(event.source.as_str(), "poll" | "worker")
}

/// The jobs that a worker with these handlers looks after.
pub(crate) fn standing_jobs(registry: &Registry) -> Vec<&'static str> {
    STANDING.into_iter().filter(|event_type| registry.names("", event_type)).collect()
}

/// Puts those of the jobs into the outbox that are not there, and answers how many that were.
pub(crate) async fn ensure_standing_jobs(
    executor: impl PgExecutor<'_>,
    event_types: &[&str],
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"select restante.ensure_standing_jobs($1) as "made!""#, event_types as &[&str],)
        .fetch_one(executor)
        .await
}

/// Notes what the API says of batches. Those that are complete stay as they are, and one that has ended does not begin
/// again because an older answer arrives late. Returns whether one of them should have ended long ago.
pub(crate) async fn observe(connection: &mut PgConnection, batches: &[Batch]) -> sqlx::Result<bool> {
    let column = |count: fn(&Batch) -> i64| batches.iter().map(count).collect::<Vec<i64>>();
    let overdue = sqlx::query_scalar!(
        r#"
        with observed as (
          insert into restante.batch as b
            (id, status, processing, succeeded, errored, canceled, expired, created_at, expires_at, ended_at, checked_at)
          select o.*, clock_timestamp()
            from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                        $8::timestamptz[], $9::timestamptz[], $10::timestamptz[]) as o
          -- One order for everybody, or two that observe the same batches could wait for each other.
           order by 1
          on conflict (id) do update
             set status = excluded.status, processing = excluded.processing, succeeded = excluded.succeeded,
                 errored = excluded.errored, canceled = excluded.canceled, expired = excluded.expired,
                 created_at = coalesce(excluded.created_at, b.created_at),
                 expires_at = coalesce(excluded.expires_at, b.expires_at),
                 ended_at = coalesce(excluded.ended_at, b.ended_at), checked_at = excluded.checked_at
           where b.complete_at is null and (b.ended_at is null or excluded.ended_at is not null)
          returning b.ended_at is null and b.expires_at < clock_timestamp() - interval '1 day' as overdue)
        select coalesce(bool_or(overdue), false) as "overdue!" from observed
        "#,
        &batches.iter().map(|batch| batch.id.clone()).collect::<Vec<_>>(),
        &batches.iter().map(|batch| batch.status.clone()).collect::<Vec<_>>() as &[Option<String>],
        &column(|batch| batch.request_counts.processing),
        &column(|batch| batch.request_counts.succeeded),
        &column(|batch| batch.request_counts.errored),
        &column(|batch| batch.request_counts.canceled),
        &column(|batch| batch.request_counts.expired),
        &batches.iter().map(|batch| batch.created_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &batches.iter().map(|batch| batch.expires_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &batches.iter().map(|batch| batch.ended_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
    )
    .fetch_one(connection)
    .await?;
    Ok(overdue)
}
