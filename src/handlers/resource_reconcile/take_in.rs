//! Explains what is new on a page, in commits of some objects each: what was asked about them is not asked again, whatever comes next.
//!
//! One session whose history the API does not give now holds up no other. It is asked for again when the others of the page are
//! through, and then left to the next look. Several in a row are trouble of the API, for which the look stops.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep_until};

use super::again;
use super::changes::{self, Candidate, Explained};
use super::history::{self, History};
use super::kinds::Listed;
use super::missed;
use super::page::Shown;
use super::state::{self, Look};
use super::stopped::Stopped;
use crate::handler::Context;
use crate::handlers::resources::store::{self, Place};
use crate::{api, envelope};

/// How many histories are asked for before that is noted.
const AT_ONCE: usize = 20;

/// So many histories in a row that are not given are trouble.
const IN_A_ROW: usize = 3;

/// Explains the objects of a page, and lets the look go on at `next`. If it stops before that, the look stays at the page, and what was
/// taken in of it is known when the page is read again.
pub(super) async fn take_in(
    cx: &Context<'_>,
    listed: &'static Listed,
    look: &mut Look,
    objects: Vec<Shown>,
    next: Option<String>,
    looked_at: DateTime<Utc>,
) -> Result<(), Stopped> {
    let ids: Vec<String> = objects.iter().map(|shown| shown.id.clone()).collect();
    let explained = explained(cx, listed, &ids).await?;
    let mut taking = Taking { cx, listed, look, explained, looked_at, taken: Taken::default() };
    if let Err(stopped) = taking.all(objects).await {
        // What stopped it is said first. If this fails too, it is only asked again.
        let _ = taking.keep().await;
        return Err(stopped);
    }
    let taken = std::mem::take(&mut taking.taken);
    look.cursor = next;
    keep(cx, listed, look, taken, looked_at, Some(&ids)).await
}

/// What was explained and is not noted yet.
#[derive(Default)]
struct Taken {
    changed: Vec<Changed>,
    candidates: Vec<Candidate>,
    histories: usize,
}

/// An object that is not as it was explained.
struct Changed {
    shown: Shown,
    stop_reason: Option<String>,
    explained_until: Option<DateTime<Utc>>,
    /// Its history was read to the end, if it has one.
    is_whole: bool,
}

/// The work on one page.
struct Taking<'a> {
    cx: &'a Context<'a>,
    listed: &'static Listed,
    look: &'a Look,
    explained: HashMap<String, Explained>,
    looked_at: DateTime<Utc>,
    taken: Taken,
}

impl Taking<'_> {
    async fn all(&mut self, objects: Vec<Shown>) -> Result<(), Stopped> {
        let (mut aside, mut in_a_row) = (Vec::new(), 0);
        for shown in objects {
            let before = self.explained.get(&shown.id);
            if before.is_some_and(|before| changes::is_explained(self.listed, before, &shown)) {
                continue;
            }
            if !self.has_history(&shown) {
                self.add(shown, None);
                continue;
            }
            match self.history(&shown).await {
                Ok(history) => {
                    in_a_row = 0;
                    self.add(shown, Some(history));
                }
                Err(error) if again::is_of_one_call(&error) && in_a_row + 1 < IN_A_ROW => {
                    in_a_row += 1;
                    aside.push((shown, again::pause_after(&error).map(|pause| Instant::now() + pause)));
                }
                Err(error) => return Err(error.into()),
            }
            self.cx.progress();
            if self.taken.histories >= AT_ONCE {
                self.keep().await?;
            }
        }
        for (shown, again_at) in aside {
            self.ask_again(shown, again_at).await?;
        }
        Ok(())
    }

    /// Asks once more for a history that was not given. If it is still not given, the session is left to the next look.
    async fn ask_again(&mut self, shown: Shown, again_at: Option<Instant>) -> Result<(), Stopped> {
        let mut history = History::default();
        if let Some(again_at) = again_at {
            self.cx.progress();
            sleep_until(again_at).await;
            match self.history(&shown).await {
                Ok(given) => history = given,
                Err(error) if again::is_of_one_call(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.add(shown, Some(history));
        Ok(())
    }

    /// Nothing is asked about what was there before the first look.
    fn has_history(&self, shown: &Shown) -> bool {
        let is_recent = shown.object.updated_at.max(shown.created_at) >= Some(self.look.since);
        self.listed.resource == "session" && (self.explained.contains_key(&shown.id) || is_recent)
    }

    async fn history(&self, shown: &Shown) -> Result<History, api::Error> {
        let before = self.explained.get(&shown.id);
        history::of_session(self.cx, &shown.id, before.and_then(|before| before.explained_until)).await
    }

    /// Explains an object by what its list shows, and by its history where it has one.
    fn add(&mut self, shown: Shown, history: Option<History>) {
        let before = self.explained.get(&shown.id);
        let mut found = changes::of(self.listed, before, &shown, self.looked_at);
        let explained_until = before.and_then(|before| before.explained_until);
        let mut one = Changed {
            explained_until: explained_until.or(shown.object.updated_at),
            stop_reason: None,
            is_whole: true,
            shown,
        };
        if let Some(history) = history {
            self.taken.histories += 1;
            one.is_whole = history.is_whole;
            // What was not read to its end is explained no further than it was read.
            let known = if history.is_whole { one.explained_until } else { explained_until };
            one.explained_until = known.filter(|_| before.is_some()).max(history.until);
            one.stop_reason =
                history.stop_reason.filter(|_| one.shown.object.status.as_deref() == Some("idle"));
            found.extend(history.changes);
            if history.is_refused {
                found.extend(changes::of_status(before, &one.shown, self.looked_at));
            }
        }
        found.retain(|change| change.happened_at >= self.look.since);
        let parent_id = self.look.parent_id.as_deref();
        let candidates =
            found.into_iter().map(|change| Candidate::of(self.listed, parent_id, &one.shown.id, change));
        self.taken.candidates.extend(candidates);
        self.taken.changed.push(one);
    }

    /// Notes what is explained so far. The look stays at the page.
    async fn keep(&mut self) -> Result<(), Stopped> {
        if self.taken.changed.is_empty() {
            return Ok(());
        }
        let taken = std::mem::take(&mut self.taken);
        keep(self.cx, self.listed, self.look, taken, self.looked_at, None).await
    }
}

/// Notes what is explained, in one commit; once these are all `of_page`, with the place where the look goes on.
async fn keep(
    cx: &Context<'_>,
    listed: &'static Listed,
    look: &Look,
    taken: Taken,
    looked_at: DateTime<Utc>,
    of_page: Option<&[String]>,
) -> Result<(), Stopped> {
    let account = cx.event.account_or_default();
    let explanation =
        missed::explanation(&mut *cx.connection().await?, account, taken.candidates, looked_at).await?;
    let mut checkpoint = cx.checkpoint().await?;
    let found = missed::notice(&mut checkpoint, account, listed, &explanation.unexplained).await?;
    for one in &taken.changed {
        store_object(&mut checkpoint, account, listed, look, one, looked_at).await?;
    }
    missed::note_told(&mut checkpoint, account, listed, &explanation).await?;
    match of_page {
        Some(ids) => {
            sqlx::query!(
                "update restante.reconciled set listed_at = clock_timestamp() where account = $1 and kind = $2 and id = any ($3)",
                account,
                listed.resource,
                ids,
            )
            .execute(&mut *checkpoint)
            .await?;
            state::note(&mut checkpoint, account, listed, look, found).await?;
        }
        None => state::note_found(&mut checkpoint, account, listed, found).await?,
    }
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

/// Notes an object as explained, and keeps it as handlers do, unless a handler was there first. One whose history was not read to its
/// end stays in the table as one that is not as a list shows it, and may still change: so the next look comes to it, and explains it.
async fn store_object(
    connection: &mut sqlx::PgConnection,
    account: &str,
    listed: &Listed,
    look: &Look,
    changed: &Changed,
    looked_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    let Changed { shown, stop_reason, explained_until, is_whole } = changed;
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
        shown.object.updated_at.filter(|_| *is_whole),
        shown.object.archived_at,
        shown.object.status.as_deref().filter(|_| *is_whole),
        listed.settings_of(&shown.value),
        *explained_until,
        *is_whole && changes::is_final(listed, shown),
    )
    .execute(&mut *connection)
    .await?;
    if !is_whole {
        return Ok(());
    }
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
