//! The table `restante.reconcile_state`: which kinds are due, and how far the look at each is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, PgExecutor};

use super::kinds::{LISTED, Listed};
use crate::api;
use crate::handler::{Context, Error};

/// A look at one kind of object.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Changes from before need no event.
    pub(super) since: DateTime<Utc>,
    pub(super) looking_since: DateTime<Utc>,
    pub(super) is_full: bool,
    /// Objects that were created before are explained for good.
    pub(super) horizon: Option<DateTime<Utc>>,
    pub(super) parent_id: Option<String>,
    pub(super) cursor: Option<String>,
    pub(super) restarts: i32,
}

/// The kinds whose look is due or was interrupted, those first that were tried longest ago.
pub(super) async fn due(cx: &Context<'_>, every: Duration) -> Result<Vec<&'static Listed>, Error> {
    let kinds: Vec<&str> = LISTED.iter().map(|listed| listed.resource).collect();
    let every =
        PgInterval { months: 0, days: 0, microseconds: i64::try_from(every.as_micros()).unwrap_or(i64::MAX) };
    let mut checkpoint = cx.checkpoint().await?;
    sqlx::query!(
        "insert into restante.reconcile_state as s (account, kind, since, every)
         select $1, k.kind, clock_timestamp() - interval '10 minutes', $3 from unnest($2::text[]) as k (kind)
         on conflict (account, kind) do update set every = excluded.every where s.every <> excluded.every",
        cx.event.account_or_default(),
        &kinds as &[&str],
        every as _,
    )
    .execute(&mut *checkpoint)
    .await?;
    checkpoint.commit().await?;
    let due = sqlx::query_scalar!(
        "select kind from restante.reconcile_state
          where account = $1
            and (tried_at is null or tried_at <= clock_timestamp() - every or (looking_since is not null and fault is null))
          order by tried_at nulls first, array_position($2::text[], kind)",
        cx.event.account_or_default(),
        &kinds as &[&str],
    )
    .fetch_all(&mut *cx.connection().await?)
    .await?;
    Ok(due.iter().filter_map(|kind| LISTED.iter().find(|listed| listed.resource == kind)).collect())
}

/// How long it is until a kind is due; a second at least.
pub(super) async fn until_next(executor: impl PgExecutor<'_>, account: &str) -> sqlx::Result<Duration> {
    let seconds = sqlx::query_scalar!(
        r#"
        select coalesce(extract(epoch from min(tried_at + every) - clock_timestamp()), 1)::float8 as "seconds!"
          from restante.reconcile_state where account = $1
        "#,
        account,
    )
    .fetch_one(executor)
    .await?;
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default().max(Duration::from_secs(1)))
}

/// Begins a look, unless one is in progress: then that one goes on.
pub(super) async fn begin(cx: &Context<'_>, listed: &Listed) -> Result<Look, Error> {
    let account = cx.event.account_or_default();
    let mut checkpoint = cx.checkpoint().await?;
    sqlx::query!(
        "update restante.reconcile_state as s
            set looking_since = clock_timestamp(), tried_at = clock_timestamp(), parent_id = null, cursor = null, restarts = 0,
                is_full = f.is_full,
                -- What was created since the last look, with an overlap, and whatever may still change.
                horizon = case when not f.is_full then least(
                  s.complete_at - interval '10 minutes',
                  (select min(r.created_at) from restante.reconciled as r
                    where r.account = s.account and r.kind = s.kind and not r.is_final and not r.is_gone),
                  -- And what was terminated lately: it may be archived, or deleted.
                  (select min(r.created_at) from restante.reconciled as r
                    where r.account = s.account and r.kind = s.kind and r.status = 'terminated' and r.archived_at is null
                      and not r.is_gone and r.updated_at > clock_timestamp() - interval '1 day')) end
           from (select coalesce(t.full_at < clock_timestamp() - interval '1 day', true) as is_full
                   from restante.reconcile_state as t where t.account = $1 and t.kind = $2) as f
          where s.account = $1 and s.kind = $2 and s.looking_since is null",
        account,
        listed.resource,
    )
    .execute(&mut *checkpoint)
    .await?;
    let look = sqlx::query_as!(
        Look,
        r#"select since, looking_since as "looking_since!", is_full, horizon, parent_id, cursor, restarts
             from restante.reconcile_state where account = $1 and kind = $2"#,
        account,
        listed.resource,
    )
    .fetch_one(&mut *checkpoint)
    .await?;
    checkpoint.commit().await?;
    Ok(look)
}

/// Notes how far a look is, and how many changes it has found on the page.
pub(super) async fn note(
    connection: &mut PgConnection,
    account: &str,
    listed: &Listed,
    look: &Look,
    found: u64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.reconcile_state
            set parent_id = $3, cursor = $4, restarts = $5, found = found + $6, fault = null, fault_since = null
          where account = $1 and kind = $2",
        account,
        listed.resource,
        look.parent_id,
        look.cursor,
        look.restarts,
        i64::try_from(found).unwrap_or(i64::MAX),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes how many changes a look has found on the page where it stays.
pub(super) async fn note_found(
    connection: &mut PgConnection,
    account: &str,
    listed: &Listed,
    found: u64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.reconcile_state set found = found + $3 where account = $1 and kind = $2",
        account,
        listed.resource,
        i64::try_from(found).unwrap_or(i64::MAX),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a look: what changed before it began is explained.
pub(super) async fn complete(cx: &Context<'_>, listed: &Listed) -> Result<(), Error> {
    let mut checkpoint = cx.checkpoint().await?;
    sqlx::query!(
        "update restante.reconcile_state
            set complete_at = looking_since, full_at = case when is_full then looking_since else full_at end,
                took = clock_timestamp() - looking_since, looking_since = null, parent_id = null, cursor = null,
                fault = null, fault_since = null
          where account = $1 and kind = $2",
        cx.event.account_or_default(),
        listed.resource,
    )
    .execute(&mut *checkpoint)
    .await?;
    checkpoint.commit().await
}

/// Gives a look up whose cursors are refused, so that the next one begins anew and not at a cursor that is never taken again.
pub(super) async fn give_up(cx: &Context<'_>, listed: &Listed) -> Result<(), Error> {
    let mut checkpoint = cx.checkpoint().await?;
    sqlx::query!(
        "update restante.reconcile_state set looking_since = null, parent_id = null, cursor = null, restarts = 0
          where account = $1 and kind = $2",
        cx.event.account_or_default(),
        listed.resource,
    )
    .execute(&mut *checkpoint)
    .await?;
    checkpoint.commit().await
}

/// Notes why a kind cannot be looked at, and says so once.
pub(super) async fn failed(
    executor: impl PgExecutor<'_>,
    account: &str,
    listed: &Listed,
    error: &api::Error,
) -> sqlx::Result<()> {
    let fault = error.to_string().replace('\0', "\u{fffd}");
    let is_new = sqlx::query_scalar!(
        r#"
        with before as (select fault from restante.reconcile_state where account = $1 and kind = $2)
        update restante.reconcile_state as s
           set fault = $3, fault_since = coalesce(s.fault_since, clock_timestamp()), tried_at = clock_timestamp()
          from before as b where s.account = $1 and s.kind = $2
        returning b.fault is null as "is_new!"
        "#,
        account,
        listed.resource,
        fault,
    )
    .fetch_optional(executor)
    .await?;
    if is_new == Some(true) {
        let kind = listed.resource;
        tracing::warn!(account, kind, %error, "cannot look for changes that no webhook told: see restante.reconcile_overview");
    }
    Ok(())
}

/// The parent after this one whose list is to be looked at: one that lives, has changed since the last look, or had parts when it
/// went. A full look looks at all. Of idle sessions those of the last day count as living.
pub(super) async fn parent_after(
    executor: impl PgExecutor<'_>,
    account: &str,
    listed: &Listed,
    look: &Look,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select p.id from restante.reconciled as p
           join restante.reconcile_state as s on s.account = p.account and s.kind = $4
          where p.account = $1 and p.kind = $2 and p.id > coalesce($3, '')
            and (($5 and not p.is_gone)
                 or (not p.is_gone and p.updated_at >= coalesce(s.complete_at - interval '10 minutes', s.since))
                 or (not p.is_final and not p.is_gone
                     and (p.kind <> 'session' or p.status is distinct from 'idle' or p.updated_at > clock_timestamp() - interval '1 day'))
                 or ((p.is_gone or p.updated_at > clock_timestamp() - interval '1 day')
                     and exists (select from restante.reconciled as c
                                  where c.account = p.account and c.kind = $4 and c.parent_id = p.id
                                    and not c.is_final and not c.is_gone)))
          order by p.id limit 1",
        account,
        listed.parent.unwrap_or_default(),
        look.parent_id,
        listed.resource,
        look.is_full,
    )
    .fetch_optional(executor)
    .await
}
