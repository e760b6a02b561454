//! The table `restante.batch`: what the API last said about each batch, and the jobs that fetch its results.
//!
//! Every batch has a row in the outbox, first `batch.poll`, then `batch.ended`, until it is complete or its results are
//! gone. The search for batches has a row, too. Workers call `restante.ensure_standing_jobs`, which puts a job back
//! that was cancelled, deleted or given up, under an identifier that is free.

mod duties;

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{PgConnection, PgExecutor};

use crate::api::{self, Batch};
use crate::envelope::Subject;
use crate::event::{Body, Event, NewEvent};
use crate::handler::{self, Context, Error};
use crate::registry::Registry;

pub(crate) use duties::{Kept, delete_complete, deleted, kept, note_at_risk};

/// The batch that an event names. Official envelopes call it `id`, others `batch_id`.
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

/// The event whose handler stores the results of an ended batch. Each batch has one, so it is stored once.
pub(crate) fn ended(account: &str, batch: &Batch) -> NewEvent {
    NewEvent {
        // The sender too, so that the identifiers of two accounts are not the same.
        sender: account.to_owned(),
        account: Some(account.to_owned()),
        event_id: format!("batch.ended:{}", batch.id),
        event_type: "batch.ended".to_owned(),
        key: Some(batch.id.clone()),
        workspace_id: None,
        created_at: batch.ended_at.unwrap_or_else(Utc::now),
        body: Body::Json(serde_json::json!({ "batch_id": batch.id }).to_string()),
        traceparent: None,
    }
}

/// What we know of a batch before we ask the API.
pub(crate) struct Known {
    /// Every result is stored.
    pub(crate) is_complete: bool,
    /// The API no longer has the results.
    pub(crate) is_past: bool,
}

/// The API keeps results for 29 days after their batch was created. If we do not know when that was, we count from when
/// we first heard of the batch.
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
          from restante.batch as b where b.id = $1 and b.account = $3
        "#,
        batch_id,
        event.received_at,
        event.account_or_default(),
    )
    .fetch_one(executor)
    .await
}

/// Why an attempt for a batch is the last one.
const VANISHED: &str = "the API keeps results for 29 days, and these are over";

/// Decides what an attempt for a batch means. Once the results have vanished, a failure is final. A final failure is
/// noted in the batch's row; otherwise its job would be started again.
pub(crate) async fn conclude(
    cx: &Context<'_>,
    batch_id: &str,
    known: &Known,
    result: handler::Result,
) -> handler::Result {
    let reason = match result {
        Err(Error::Permanent(error)) => error,
        // A failure of the database is never final: it passes by itself.
        Err(Error::Trouble(_, error)) if known.is_past && error.is::<api::Error>() => error.context(VANISHED),
        Err(Error::Retryable(error)) if known.is_past && !error.is::<sqlx::Error>() => {
            error.context(VANISHED)
        }
        other => return other,
    };
    let mut checkpoint = cx.checkpoint().await?;
    sqlx::query!(
        "update restante.batch set given_up_because = $2 where id = $1 and account = $3 and complete_at is null",
        batch_id,
        format!("{reason:#}").replace('\0', "\u{fffd}"),
        cx.event.account_or_default(),
    )
    .execute(&mut *checkpoint)
    .await?;
    checkpoint.commit().await?;
    Err(Error::Permanent(reason))
}

/// The types of the standing jobs, which `restante.standing_job` has too. They have to go on even if one of their events is
/// cancelled, deleted or given up.
pub const STANDING: [&str; 4] = ["batch.poll", "batch.ended", RECONCILE, RESOURCES];

/// The search for batches that no event has named.
pub(crate) const RECONCILE: &str = "batch.reconcile";

/// The look for changes of other objects that no webhook told.
const RESOURCES: &str = "resource.reconcile";

/// Is the event a standing job? A worker without a handler for it leaves it to other workers.
pub(crate) fn is_standing(event: &Event) -> bool {
    event.subscriber.is_empty()
        && STANDING.contains(&event.event_type.as_str())
        && matches!(event.source.as_str(), "poll" | "worker")
}

/// The standing jobs that a worker with these handlers looks after.
pub(crate) fn standing_jobs(registry: &Registry) -> Vec<&'static str> {
    STANDING.into_iter().filter(|event_type| registry.names("", event_type)).collect()
}

/// Puts missing ones of these jobs of these accounts into the outbox, and replays those that were given up. Returns how
/// many.
pub(crate) async fn ensure_standing_jobs(
    connection: &mut PgConnection,
    event_types: &[&str],
    accounts: &[String],
) -> sqlx::Result<i32> {
    let of_batches: Vec<&str> = event_types.iter().copied().filter(|name| *name != RESOURCES).collect();
    let mut made = sqlx::query_scalar!(
        r#"select restante.ensure_standing_jobs($1, $2) as "made!""#,
        &of_batches as &[&str],
        accounts,
    )
    .fetch_one(&mut *connection)
    .await?;
    if event_types.contains(&RESOURCES) {
        made += sqlx::query_scalar!(
            r#"select restante.ensure_account_jobs($1, $2) as "made!""#,
            RESOURCES,
            accounts
        )
        .fetch_one(connection)
        .await?;
    }
    Ok(made)
}

/// Stores what the API says about batches of an account. A complete batch stays as it is, and an ended one does not become open again
/// because an older answer arrives late. Returns whether one of them should have ended a day ago.
pub(crate) async fn observe(
    connection: &mut PgConnection,
    account: &str,
    batches: &[Batch],
) -> sqlx::Result<bool> {
    let column = |count: fn(&Batch) -> i64| batches.iter().map(count).collect::<Vec<i64>>();
    let overdue = sqlx::query_scalar!(
        r#"
        with observed as (
          insert into restante.batch as b
            (id, status, processing, succeeded, errored, canceled, expired, created_at, expires_at, ended_at, checked_at,
             account)
          select o.*, clock_timestamp(), $11
            from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                        $8::timestamptz[], $9::timestamptz[], $10::timestamptz[]) as o
          -- One order for everybody, or two that observe the same batches could wait for each other.
           order by 1
          on conflict (id, account) do update
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
        account,
    )
    .fetch_one(connection)
    .await?;
    Ok(overdue)
}
