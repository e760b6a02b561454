//! Events that wait behind the event of an attempt, and are settled with it.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::event::{Body, Event};

/// The most events that one attempt settles beside its own.
const SETTLED_MAX: i64 = 1000;

/// The events that waited behind this one at a time, oldest first; without a time, when its attempt began.
///
/// # Errors
/// The database is away or did not answer.
pub async fn behind(
    executor: impl PgExecutor<'_>,
    event: &Event,
    asked_at: Option<DateTime<Utc>>,
) -> sqlx::Result<Vec<Event>> {
    let rows = sqlx::query!(
        r#"
        select w.id, w.sender, w.account, w.event_id, w.type as event_type, w.subscriber, w.key, w.workspace_id,
               w.source as "source!: String", w.created_at, w.received_at, w.payload::text as payload, w.raw, w.attempt
          from restante.outbox_live as e
         -- With a limit of its own, so that Postgres looks for one key, whatever it takes the table to be when it plans.
         cross join lateral (
               select w.* from restante.outbox_live as w
                where restante.order_key(w.account, w.sender, w.key) = restante.order_key(e.account, e.sender, e.key)
                  and w.subscriber = e.subscriber and w.lane = 'b' and w.received_at <= coalesce($3, e.started_at)
                order by w.created_at, w.id limit $2) as w
         where e.id = $1
         order by w.created_at, w.id
        "#,
        event.id,
        SETTLED_MAX,
        asked_at,
    )
    .fetch_all(executor)
    .await?;
    let event = rows.into_iter().map(|row| Event {
        id: row.id,
        sender: row.sender,
        account: row.account,
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
    });
    Ok(event.collect())
}

/// Finishes these events, in the transaction that finishes the event `event_id`, which their results name. Leaves those that another
/// session has locked. Returns how many it finished.
///
/// # Errors
/// The database is away or did not answer.
pub async fn settle(executor: impl PgExecutor<'_>, ids: &[i64], event_id: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select restante.settle_waiting($1, $2) as "settled!""#, ids, event_id)
        .fetch_one(executor)
        .await
}
