//! One look at a kind of object: its pages, and then what no list has any more.

use super::again;
use super::gone;
use super::kinds::Listed;
use super::page;
use super::state::{self, Look};
use super::stopped::Stopped;
use super::take_in::take_in;
use crate::api;
use crate::handler::Context;
use crate::handlers::resources::kinds::Kind;
use crate::handlers::resources::store;

/// A list that goes on for longer does not end.
const PAGES_MAX: usize = 100_000;

/// How often a look begins anew because its cursor is refused. After that it is given up, and the next one begins at its time.
const RESTARTS_MAX: i32 = 3;

/// Of the list of a parent, in place of a cursor.
const FIRST_PAGE: &str = "";

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
        let cursor = look.cursor.as_deref();
        let mut page = page::list(cx, listed, &path, cursor).await;
        // Where the first call of a look fails, the API may answer nobody, and nothing is lost by stopping.
        let is_first = cursor.is_none() && parent_id.is_none() && look.restarts == 0;
        if !is_first && again::pauses(cx, &page).await {
            page = page::list(cx, listed, &path, cursor).await;
        }
        let page = match page {
            Ok(page) => page,
            Err(error) if is_of_cursor(&error, look) && look.restarts < RESTARTS_MAX => {
                // It may have run out. What was taken in meanwhile stays.
                begin_anew(cx, listed, look).await?;
                continue;
            }
            // The parent is gone, and its parts with it.
            Err(api::Error::NotFound(_)) if parent_id.is_some() => {
                look.cursor = None;
                return Ok(());
            }
            Err(error) => {
                if is_of_cursor(&error, look) {
                    state::give_up(cx, listed).await?;
                }
                return Err(error.into());
            }
        };
        let is_past = listed.parent.is_none() && look.horizon.is_some_and(|horizon| page.is_before(horizon));
        let next = page.next.filter(|_| !is_past);
        take_in(cx, listed, look, page.objects, next, looked_at).await?;
        cx.progress();
        if look.cursor.is_none() {
            return Ok(());
        }
    }
    Err(Stopped::Kind(api::Error::Malformed { promised: "a list that ends" }))
}

/// Is it the cursor that the API refuses?
fn is_of_cursor(error: &api::Error, look: &Look) -> bool {
    let is_refusal = matches!(error, api::Error::Refused(_) | api::Error::NotFound(_));
    is_refusal && look.cursor.as_deref().is_some_and(|cursor| cursor != FIRST_PAGE)
}

/// Lists from the watermark on again, or from the first page of the parent.
async fn begin_anew(cx: &Context<'_>, listed: &Listed, look: &mut Look) -> Result<(), Stopped> {
    // With none, a look that goes on here would take the parent for done.
    look.cursor = look.parent_id.is_some().then(|| FIRST_PAGE.to_owned());
    look.restarts += 1;
    let mut checkpoint = cx.checkpoint().await?;
    state::note(&mut checkpoint, cx.event.account_or_default(), listed, look, 0).await?;
    Ok(checkpoint.commit().await?)
}
