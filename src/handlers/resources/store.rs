//! The tables `resource` and `outcome_evaluation`, and the rule that an older look never replaces a newer one.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};

use crate::event::{Body, Event};
use crate::handlers::resources::object::{Evaluation, Object};

/// What is known of an object, before it is asked for.
pub(in crate::handlers) struct Known {
    /// An event said that it was deleted.
    pub(in crate::handlers) is_deleted: bool,
    /// The API has shown it to us.
    pub(in crate::handlers) was_seen: bool,
    /// For how long the API has not been asked for it, in seconds; null if it never was.
    pub(in crate::handlers) seconds_since_asked: Option<f64>,
    /// The database's time: what is fetched from now on is at least as new.
    pub(in crate::handlers) now: DateTime<Utc>,
}

pub(in crate::handlers) async fn known(
    executor: impl PgExecutor<'_>,
    place: &Place<'_>,
) -> sqlx::Result<Known> {
    sqlx::query_as!(
        Known,
        r#"
        select clock_timestamp() as "now!",
               (select extract(epoch from clock_timestamp() - observed_at)::float8 from restante.resource
                 where type = $1 and id = $2 and account = $3 and (body is not null or raw is not null)) as seconds_since_asked,
               exists (select from restante.resource
                        where type = $1 and id = $2 and account = $3 and gone_because = 'deleted') as "is_deleted!",
               exists (select from restante.resource
                        where type = $1 and id = $2 and account = $3 and (body is not null or raw is not null)) as "was_seen!"
        "#,
        place.resource,
        place.id,
        place.account,
    )
    .fetch_one(executor)
    .await
}

/// The database's time.
pub(in crate::handlers) async fn now(executor: impl PgExecutor<'_>) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(executor).await
}

/// Does an event wait behind this one that says that the object was deleted?
pub(in crate::handlers) async fn deletion_waits(
    executor: impl PgExecutor<'_>,
    event: &Event,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (select from restante.outbox_live
                        where restante.order_key(account, sender, key) = restante.order_key($3, $4, $1) and subscriber = $2 and lane = 'b'
                          and type like '%.deleted') as "waits!"
        "#,
        event.key,
        event.subscriber,
        event.account,
        event.sender,
    )
    .fetch_one(executor)
    .await
}

/// Where an object stands among others.
pub(in crate::handlers) struct Place<'a> {
    pub(in crate::handlers) account: &'a str,
    pub(in crate::handlers) resource: &'a str,
    pub(in crate::handlers) id: &'a str,
    pub(in crate::handlers) parent_id: Option<&'a str>,
    pub(in crate::handlers) workspace_id: Option<&'a str>,
}

/// Notes an object as it was seen at `observed_at`. What was seen later, or has a later change in it, stays.
pub(in crate::handlers) async fn observe(
    connection: &mut PgConnection,
    place: &Place<'_>,
    body: &Body,
    object: &Object,
    stop_reason: Option<&str>,
    observed_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    let (json, raw) = match body {
        Body::Json(text) => (Some(text.as_str()), None),
        Body::Raw(bytes) => (None, Some(bytes.as_slice())),
    };
    sqlx::query!(
        r#"
        insert into restante.resource as r
          (type, id, parent_id, workspace_id, body, raw, status, stop_reason, error_type, error_message, updated_at,
           archived_at, observed_at, account)
        values ($1, $2, $3, $4, $5::text::json, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        on conflict (type, id, account) do update
           set parent_id = coalesce(excluded.parent_id, r.parent_id),
               workspace_id = coalesce(excluded.workspace_id, r.workspace_id),
               body = excluded.body, raw = excluded.raw, status = excluded.status, stop_reason = excluded.stop_reason,
               error_type = excluded.error_type, error_message = excluded.error_message,
               updated_at = excluded.updated_at, archived_at = excluded.archived_at, observed_at = excluded.observed_at,
               gone_at = null, gone_because = null
         where excluded.observed_at >= r.observed_at
           and (excluded.updated_at is null or r.updated_at is null or excluded.updated_at >= r.updated_at)
           and r.gone_because is distinct from 'deleted'
        "#,
        place.resource,
        place.id,
        place.parent_id.or(object.parent_id.as_deref()),
        place.workspace_id,
        json,
        raw,
        object.status,
        stop_reason,
        object.error_type,
        object.error_message,
        object.updated_at,
        object.archived_at,
        observed_at,
        place.account,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that an object is no more, or cannot be found. What was last seen of it is kept.
pub(in crate::handlers) async fn gone(
    connection: &mut PgConnection,
    place: &Place<'_>,
    gone_at: DateTime<Utc>,
    because: &str,
    observed_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into restante.resource as r (type, id, parent_id, workspace_id, gone_at, gone_because, observed_at, account)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        on conflict (type, id, account) do update
           set gone_at = excluded.gone_at, gone_because = excluded.gone_because,
               observed_at = greatest(excluded.observed_at, r.observed_at)
         -- That it was deleted is final. That it was not found is the word of its hour.
         where r.gone_because is distinct from 'deleted'
           and (excluded.gone_because = 'deleted' or excluded.observed_at >= r.observed_at)
        "#,
        place.resource,
        place.id,
        place.parent_id,
        place.workspace_id,
        gone_at,
        because,
        observed_at,
        place.account,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that a credential could not be refreshed.
pub(in crate::handlers) async fn refresh_failed(
    connection: &mut PgConnection,
    place: &Place<'_>,
    failed_at: DateTime<Utc>,
    observed_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into restante.resource as r (type, id, parent_id, workspace_id, refresh_failed_at, observed_at, account)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (type, id, account) do update
           set refresh_failed_at = greatest(r.refresh_failed_at, excluded.refresh_failed_at)
        "#,
        place.resource,
        place.id,
        place.parent_id,
        place.workspace_id,
        failed_at,
        observed_at,
        place.account,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes the iterations that a session shows. Earlier ones, which it shows no more, stay.
pub(in crate::handlers) async fn evaluations(
    connection: &mut PgConnection,
    session: &Place<'_>,
    evaluations: &[Evaluation],
    observed_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    for evaluation in evaluations {
        let Some(outcome_id) = &evaluation.outcome_id else { continue };
        sqlx::query!(
            r#"
            insert into restante.outcome_evaluation as e
              (session_id, outcome_id, iteration, result, description, explanation, completed_at, observed_at, account)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            on conflict (session_id, account, outcome_id, iteration) do update
               set result = excluded.result, description = excluded.description, explanation = excluded.explanation,
                   completed_at = excluded.completed_at, observed_at = excluded.observed_at
             where excluded.observed_at >= e.observed_at
            "#,
            session.id,
            outcome_id,
            evaluation.iteration.unwrap_or(0),
            evaluation.result,
            evaluation.description,
            evaluation.explanation,
            evaluation.completed_at,
            observed_at,
            session.account,
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
