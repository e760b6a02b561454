//! One look at a kind of object: its pages, each of which is one commit, and then what no list has any more.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::changes::{self, Candidate, Explained};
use super::gone;
use super::history;
use super::kinds::Listed;
use super::missed;
use super::page::{self, Page, Shown};
use super::state::{self, Look};
use super::stopped::Stopped;
use crate::handler::Context;
use crate::handlers::resources::kinds::Kind;
use crate::handlers::resources::store::{self, Place};
use crate::{api, envelope};

/// A list that goes on for longer does not end.
const PAGES_MAX: usize = 100_000;

/// How often a look begins anew because its cursor is refused.
const RESTARTS_MAX: i32 = 3;

/// Looks at a kind, or goes on with the look that was interrupted.
pub(super) async fn at(cx: &Context<'_>, listed: &'static Listed) -> Result<(), Stopped> {
    let mut look = state::begin(cx, listed).await?;
    if listed.parent.is_none() {
        list_all(cx, listed, &mut look).await?;
        gone::look_for(cx, listed, &look).await?;
    } else {
        loop {
            if look.cursor.is_none() {
                look.parent_id = state::parent_after(
                    &mut *cx.connection().await?,
                    cx.event.account_or_default(),
                    listed,
                    &look,
                )
                .await?;
            }
            if look.parent_id.is_none() {
                break;
            }
            list_all(cx, listed, &mut look).await?;
            gone::look_for(cx, listed, &look).await?;
        }
    }
    Ok(state::complete(cx, listed).await?)
}

/// The path of the list: that of an object without its last segment.
fn path_of<'a>(listed: &Listed, parent_id: Option<&'a str>) -> Vec<&'a str> {
    let collection = listed.kind().map(Kind::collection).unwrap_or_default();
    collection
        .iter()
        .map(|segment| if *segment == "{parent}" { parent_id.unwrap_or_default() } else { segment })
        .collect()
}

async fn list_all(cx: &Context<'_>, listed: &'static Listed, look: &mut Look) -> Result<(), Stopped> {
    let parent_id = look.parent_id.clone();
    let path = path_of(listed, parent_id.as_deref());
    for _ in 0..PAGES_MAX {
        let looked_at = store::now(&mut *cx.connection().await?).await?;
        let page = match page::list(cx, listed, &path, look.cursor.as_deref()).await {
            Ok(page) => page,
            Err(error) if is_of_cursor(&error, look) => {
                // It may have run out. What was taken in meanwhile stays; the look begins anew from the watermark.
                look.cursor = None;
                look.restarts += 1;
                let mut checkpoint = cx.checkpoint().await?;
                state::note(&mut checkpoint, cx.event.account_or_default(), listed, look, 0).await?;
                checkpoint.commit().await?;
                continue;
            }
            // The parent is gone, and its parts with it.
            Err(api::Error::NotFound(_)) if parent_id.is_some() => {
                look.cursor = None;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let is_past = listed.parent.is_none() && look.horizon.is_some_and(|horizon| page.is_before(horizon));
        look.cursor = if is_past { None } else { page.next.clone() };
        take_in(cx, listed, look, page, looked_at).await?;
        cx.progress();
        if look.cursor.is_none() {
            return Ok(());
        }
    }
    Err(Stopped::Kind(api::Error::Malformed { promised: "a list that ends" }))
}

fn is_of_cursor(error: &api::Error, look: &Look) -> bool {
    let is_refusal = matches!(error, api::Error::Refused(_) | api::Error::NotFound(_));
    is_refusal && look.cursor.is_some() && look.restarts < RESTARTS_MAX
}

/// An object that is not as it was explained.
struct Changed {
    shown: Shown,
    stop_reason: Option<String>,
    explained_until: Option<DateTime<Utc>>,
}

/// Explains what is new on a page, in one commit with the place where the look goes on.
async fn take_in(
    cx: &Context<'_>,
    listed: &'static Listed,
    look: &Look,
    page: Page,
    looked_at: DateTime<Utc>,
) -> Result<(), Stopped> {
    let account = cx.event.account_or_default();
    let ids: Vec<String> = page.objects.iter().map(|shown| shown.id.clone()).collect();
    let explained = explained(cx, listed, &ids).await?;
    let (mut changed, mut candidates) = (Vec::new(), Vec::new());
    for shown in page.objects {
        let before = explained.get(&shown.id);
        if before.is_some_and(|before| changes::is_explained(listed, before, &shown)) {
            continue;
        }
        let mut found = changes::of(listed, before, &shown, looked_at);
        let mut one = Changed {
            explained_until: before.and_then(|before| before.explained_until).or(shown.object.updated_at),
            stop_reason: None,
            shown,
        };
        // Nothing is asked about what was there before the first look.
        let is_recent = one.shown.object.updated_at.max(one.shown.created_at) >= Some(look.since);
        if listed.resource == "session" && (before.is_some() || is_recent) {
            let explained_until = before.and_then(|before| before.explained_until);
            let history = history::of_session(cx, &one.shown.id, explained_until).await?;
            one.explained_until = one.explained_until.filter(|_| before.is_some()).max(history.until);
            one.stop_reason =
                history.stop_reason.filter(|_| one.shown.object.status.as_deref() == Some("idle"));
            found.extend(history.changes);
            if history.is_refused {
                found.extend(changes::of_status(before, &one.shown, looked_at));
            }
        }
        found.retain(|change| change.happened_at >= look.since);
        candidates.extend(
            found
                .into_iter()
                .map(|change| Candidate::of(listed, look.parent_id.as_deref(), &one.shown.id, change)),
        );
        changed.push(one);
    }
    let explanation =
        missed::explanation(&mut *cx.connection().await?, account, candidates, looked_at).await?;
    let mut checkpoint = cx.checkpoint().await?;
    let found = missed::notice(&mut checkpoint, account, listed, &explanation.unexplained).await?;
    for one in &changed {
        store_object(&mut checkpoint, account, listed, look, one, looked_at).await?;
    }
    missed::note_told(&mut checkpoint, account, listed, &explanation).await?;
    sqlx::query!(
        "update restante.reconciled set listed_at = clock_timestamp() where account = $1 and kind = $2 and id = any ($3)",
        account,
        listed.resource,
        &ids,
    )
    .execute(&mut *checkpoint)
    .await?;
    state::note(&mut checkpoint, account, listed, look, found).await?;
    Ok(checkpoint.commit().await?)
}

async fn explained(
    cx: &Context<'_>,
    listed: &Listed,
    ids: &[String],
) -> sqlx::Result<HashMap<String, Explained>> {
    let rows = sqlx::query!(
        r#"select id, status, settings, updated_at, archived_at, explained_until, is_final, is_gone, listed_at, told::text as "told!"
           from restante.reconciled where account = $1 and kind = $2 and id = any ($3)"#,
        cx.event.account_or_default(),
        listed.resource,
        ids,
    )
    .fetch_all(&mut *cx.connection().await?)
    .await?;
    let explained = rows.into_iter().map(|row| {
        let explained = Explained {
            status: row.status,
            settings: row.settings,
            updated_at: row.updated_at,
            archived_at: row.archived_at,
            explained_until: row.explained_until,
            is_final: row.is_final,
            is_gone: row.is_gone,
            listed_at: row.listed_at,
            told: serde_json::from_str(&row.told).unwrap_or_default(),
        };
        (row.id, explained)
    });
    Ok(explained.collect())
}

/// Notes an object as explained, and keeps it as handlers do, unless a handler was there first.
async fn store_object(
    connection: &mut sqlx::PgConnection,
    account: &str,
    listed: &Listed,
    look: &Look,
    changed: &Changed,
    looked_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    let Changed { shown, stop_reason, explained_until } = changed;
    sqlx::query!(
        "insert into restante.reconciled as r
           (account, kind, id, parent_id, created_at, updated_at, archived_at, status, settings, explained_until, is_final, listed_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, clock_timestamp())
         on conflict (account, kind, id) do update
            set parent_id = excluded.parent_id, created_at = excluded.created_at, updated_at = excluded.updated_at,
                archived_at = excluded.archived_at, status = excluded.status, settings = excluded.settings,
                explained_until = excluded.explained_until, is_final = excluded.is_final, is_gone = false,
                listed_at = excluded.listed_at",
        account,
        listed.resource,
        shown.id,
        look.parent_id,
        shown.created_at,
        shown.object.updated_at,
        shown.object.archived_at,
        shown.object.status,
        listed.settings_of(&shown.value),
        *explained_until,
        changes::is_final(listed, shown),
    )
    .execute(&mut *connection)
    .await?;
    let is_known = sqlx::query_scalar!(
        r#"
        select exists (select from restante.resource
                        where type = $1 and id = $2 and account = $3 and updated_at = $4 and gone_at is null) as "is_known!"
        "#,
        listed.resource,
        shown.id,
        account,
        shown.object.updated_at,
    )
    .fetch_one(&mut *connection)
    .await?;
    if is_known {
        return Ok(());
    }
    let place = Place {
        account,
        resource: listed.resource,
        id: &shown.id,
        parent_id: look.parent_id.as_deref(),
        workspace_id: None,
    };
    let body = envelope::body(shown.json.get().as_bytes());
    store::observe(connection, &place, &body, &shown.object, stop_reason.as_deref(), looked_at).await?;
    store::evaluations(connection, &place, &shown.object.evaluations, looked_at).await
}
