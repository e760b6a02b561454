//! The table `restante.batch`: what the API last said of each batch, and the event that has its results stored.

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{PgConnection, PgExecutor};

use crate::api::Batch;
use crate::envelope::Subject;
use crate::event::{Body, NewEvent};
use crate::handler::Error;

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
        event_id: format!("batch.ended:{}", batch.id),
        event_type: "batch.ended".to_owned(),
        key: Some(batch.id.clone()),
        workspace_id: None,
        created_at: batch.ended_at.unwrap_or_else(Utc::now),
        body: Body::Json(serde_json::json!({ "batch_id": batch.id }).to_string()),
    }
}

/// Is every result of the batch here?
pub(crate) async fn is_complete(executor: impl PgExecutor<'_>, batch_id: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from restante.batch where id = $1 and complete_at is not null) as "complete!""#,
        batch_id
    )
    .fetch_one(executor)
    .await
}

/// Notes what the API says of batches. Those that are complete stay as they are, and one that has ended does not begin
/// again because an older answer arrives late. Answers whether one of them should have ended long ago.
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
