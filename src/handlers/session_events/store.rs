//! The table of what is sent to sessions: how far a send is, and how that is changed.
//!
//! What follows from a change stands in the triggers of `restante.session_send`, because a person may make the same changes.

use sqlx::PgExecutor;

/// What one call of `restante.send_session_events()` sends.
#[derive(Clone, Debug)]
pub(super) struct Send {
    pub(super) id: i64,
    pub(super) session: String,
    /// The list of events, as the application wrote it.
    pub(super) events: String,
    /// As `restante.session_send_status` has them.
    pub(super) status: String,
    pub(super) reason: Option<String>,
    /// The newest event of these types in the session before it was sent.
    pub(super) known_before: Option<String>,
    /// For how long it has been unclear whether the session has it, in seconds; 0 where nobody has noted that yet.
    pub(super) unclear_for_seconds: f64,
}

/// The send, if there is such a one.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn send(executor: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<Send>> {
    sqlx::query_as!(
        Send,
        r#"
        select s.id, s.session, s.events::text as "events!", s.status as "status!: String", s.reason, s.known_before,
               coalesce(extract(epoch from clock_timestamp() - s.unclear_since), 0)::float8 as "unclear_for_seconds!"
          from restante.session_send as s where s.id = $1
        "#,
        id
    )
    .fetch_optional(executor)
    .await
}

/// Notes that the first byte of a send is about to go out. Returns whether it may: nobody else has changed the send.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn begin(
    executor: impl PgExecutor<'_>,
    id: i64,
    known_before: Option<&str>,
) -> sqlx::Result<bool> {
    let begun = sqlx::query!(
        "update restante.session_send
            set status = 'sending', sent_at = clock_timestamp(), known_before = $2, attempt = attempt + 1
          where id = $1 and status = 'waiting'",
        id,
        known_before,
    )
    .execute(executor)
    .await?;
    Ok(begun.rows_affected() == 1)
}

/// Notes that the session does not have what was sent, why it waits, and whether anything had gone out.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn not_sent(
    executor: impl PgExecutor<'_>,
    id: i64,
    reason: Option<&str>,
    has_gone_out: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.session_send
            set status = 'waiting', sent_at = null, reason = $2,
                attempt = attempt - case when status = 'sending' and not $3 then 1 else 0 end
          where id = $1 and status in ('waiting', 'sending')",
        id,
        reason,
        has_gone_out,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Notes that it is unclear whether the session has what was sent, since the first such note.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn unclear(executor: impl PgExecutor<'_>, id: i64, reason: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.session_send set unclear_since = coalesce(unclear_since, clock_timestamp()), reason = $2
          where id = $1 and status = 'sending'",
        id,
        reason,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Notes that a send is `uncertain` or `refused`, with its reason; a person decides what becomes of it.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn give_up(
    executor: impl PgExecutor<'_>,
    id: i64,
    status: &str,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.session_send set status = $2, reason = $3 where id = $1 and status in ('waiting', 'sending')",
        id,
        status as _,
        reason,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Notes that the session has what was sent, under these identifiers.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn done(executor: impl PgExecutor<'_>, id: i64, event_ids: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.session_send set status = 'done', event_ids = $2 where id = $1 and status = 'sending'",
        id,
        event_ids,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Those of some events that no other send to the session of this one has.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn of_no_other(
    executor: impl PgExecutor<'_>,
    account: &str,
    send: &Send,
    event_ids: &[String],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        select e.id as "id!" from unnest($3::text[]) as e (id)
         where not exists (select from restante.session_send as s
                            where s.session = $2 and s.account = $1 and s.event_ids @> array[e.id])
        "#,
        account,
        send.session,
        event_ids,
    )
    .fetch_all(executor)
    .await
}
