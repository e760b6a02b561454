//! What no list has any more: it is asked for by itself, and what the API does not find was deleted.

use chrono::{DateTime, Utc};

use super::changes::{Candidate, Change};
use super::kinds::Listed;
use super::missed;
use super::state::{self, Look};
use super::stopped::Stopped;
use crate::api;
use crate::handler::Context;
use crate::handlers::resources::store::{self, Place};

/// How many are asked for before that is noted.
const AT_ONCE: i64 = 20;

/// What a list had once, and has no more.
struct Missing {
    id: String,
    /// When it had it last.
    listed_at: DateTime<Utc>,
}

/// Asks for what a look should have listed and has not, once its lists are read.
pub(super) async fn look_for(cx: &Context<'_>, listed: &'static Listed, look: &Look) -> Result<(), Stopped> {
    loop {
        let missing = missing(cx, listed, look).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let looked_at = store::now(&mut *cx.connection().await?).await?;
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for one in missing {
            let is_there = is_there(cx, listed, look, &one.id).await?;
            if is_there { &mut there } else { &mut gone }.push(one);
            cx.progress();
        }
        note(cx, listed, look, &gone, &there, looked_at).await?;
    }
}

async fn missing(cx: &Context<'_>, listed: &Listed, look: &Look) -> sqlx::Result<Vec<Missing>> {
    let account = cx.event.account_or_default();
    match &look.parent_id {
        None => {
            sqlx::query_as!(
                Missing,
                "select id, listed_at from restante.reconciled
                  where account = $1 and kind = $2 and not is_gone and listed_at < $3
                    and ($4::timestamptz is null
                         or (created_at >= $4
                             and (not is_final or (status = 'terminated' and archived_at is null
                                                   and updated_at > clock_timestamp() - interval '1 day'))))
                  order by id limit $5",
                account,
                listed.resource,
                look.looking_since,
                look.horizon,
                AT_ONCE,
            )
            .fetch_all(&mut *cx.connection().await?)
            .await
        }
        Some(parent_id) => {
            sqlx::query_as!(
                Missing,
                "select id, listed_at from restante.reconciled
                  where account = $1 and kind = $2 and parent_id = $3 and not is_final and not is_gone and listed_at < $4
                  order by id limit $5",
                account,
                listed.resource,
                parent_id,
                look.looking_since,
                AT_ONCE,
            )
            .fetch_all(&mut *cx.connection().await?)
            .await
        }
    }
}

async fn is_there(cx: &Context<'_>, listed: &Listed, look: &Look, id: &str) -> Result<bool, Stopped> {
    let Some(kind) = listed.kind() else { return Ok(true) };
    let reference = listed.reference(look.parent_id.as_deref(), id);
    let Some(path) = kind.path(&reference) else { return Ok(true) };
    match cx.api.get_json(&path, &[], kind.beta.as_slice()).await {
        Ok(_) => Ok(true),
        Err(api::Error::NotFound(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn note(
    cx: &Context<'_>,
    listed: &'static Listed,
    look: &Look,
    gone: &[Missing],
    there: &[Missing],
    looked_at: DateTime<Utc>,
) -> Result<(), Stopped> {
    let account = cx.event.account_or_default();
    // Threads and runs go with what they belong to, and no webhook says so.
    let is_told = !matches!(listed.resource, "session_thread" | "deployment_run");
    let deleted = |one: &Missing| {
        let change = Change::once(format!("{}.deleted", listed.resource), looked_at).after(one.listed_at);
        Candidate::of(listed, look.parent_id.as_deref(), &one.id, change)
    };
    let candidates = gone.iter().filter(|_| is_told).map(deleted).collect();
    let explanation =
        missed::explanation(&mut *cx.connection().await?, account, candidates, looked_at).await?;
    let mut checkpoint = cx.checkpoint().await?;
    let found = missed::notice(&mut checkpoint, account, listed, &explanation.unexplained).await?;
    let ids = |some: &[Missing]| some.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    sqlx::query!(
        "update restante.reconciled set is_gone = id = any ($3), listed_at = clock_timestamp()
          where account = $1 and kind = $2 and (id = any ($3) or id = any ($4))",
        account,
        listed.resource,
        &ids(gone),
        &ids(there),
    )
    .execute(&mut *checkpoint)
    .await?;
    for Missing { id, .. } in gone.iter().filter(|_| !is_told) {
        let place = Place {
            account,
            resource: listed.resource,
            id,
            parent_id: look.parent_id.as_deref(),
            workspace_id: None,
        };
        store::gone(&mut checkpoint, &place, looked_at, "not_found", looked_at).await?;
    }
    state::note(&mut checkpoint, account, listed, look, found).await?;
    Ok(checkpoint.commit().await?)
}
