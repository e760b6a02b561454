//! Changes that no webhook told when the reconciler noticed them, as a worker meets them.

use std::time::Duration;

use sqlx::PgExecutor;

use crate::envelope;
use crate::event::Event;
use crate::outbox::claim::interval;

/// How far the time that a webhook gives may be from that of its change, by the one clock of the API. The API's documents do not say
/// how close they are. Less than what is read again of a session's history, so that a webhook meets the change before its own too.
pub const TOLERANCE: Duration = Duration::from_secs(30);

/// Has a change been noticed that no webhook told, within the last week?
///
/// # Errors
/// The database is away or did not answer.
pub async fn any(executor: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from restante.missed_change) as "any!""#)
        .fetch_one(executor)
        .await
}

/// Notes that this webhook tells of a change that was noticed, if it does. Returns the identifier of the event that was put into
/// the outbox for the change: it stands for the webhook.
///
/// # Errors
/// The database is away or did not answer.
pub async fn explain(executor: impl PgExecutor<'_>, webhook: &Event) -> sqlx::Result<Option<String>> {
    let Some(key) = &webhook.key else { return Ok(None) };
    sqlx::query_scalar!(
        "select restante.explain_change($1, $2, $3, $4, $5, $6, $7)",
        webhook.account,
        webhook.event_type,
        key,
        envelope::subject_of(&webhook.event_type, key, webhook.body.as_bytes()),
        webhook.event_id,
        webhook.created_at,
        interval(TOLERANCE) as _,
    )
    .fetch_one(executor)
    .await
}

/// How old a change may be that no webhook told and that has not been noticed, in seconds; 0 where nobody looks. Kinds that the
/// API refuses do not count: the account may not have them.
///
/// # Errors
/// The database is away or did not answer.
pub async fn unexplained_seconds(executor: impl PgExecutor<'_>) -> sqlx::Result<f64> {
    sqlx::query_scalar!(
        r#"
        select coalesce(extract(epoch from clock_timestamp() - min(coalesce(complete_at, since))), 0)::float8 as "seconds!"
          from restante.reconcile_state where complete_at is not null or fault is null
        "#
    )
    .fetch_one(executor)
    .await
}
