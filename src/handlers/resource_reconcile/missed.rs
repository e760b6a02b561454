//! The table `restante.missed_change`: changes that no webhook had told when they were noticed.
//!
//! A change is noticed first, and put into the outbox only later, if no webhook has come by then. So a worker that runs a webhook
//! sees the row of its change before the event of the change can be there, and one of the two is enough.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, PgExecutor};

use super::changes::{Candidate, Change};
use super::kinds::{LISTED, Listed};
use super::matching::told_by;
use super::webhooks;
use crate::envelope;
use crate::event::{Body, NewEvent};
use crate::handler::{Context, Error};
use crate::outbox::{self, Source};
use crate::telemetry::metric;

/// How many changes are put into the outbox with one commit.
const AT_ONCE: i64 = 500;

/// The changes of these that no webhook tells of so far.
pub(super) async fn unexplained(
    connection: &mut PgConnection,
    account: &str,
    candidates: Vec<Candidate>,
) -> sqlx::Result<Vec<Candidate>> {
    let told = explained_by(connection, account, &candidates).await?;
    Ok(candidates.into_iter().zip(told).filter(|(_, told)| told.is_none()).map(|(one, _)| one).collect())
}

/// For each change the identifier of the webhook that tells of it.
async fn explained_by(
    connection: &mut PgConnection,
    account: &str,
    candidates: &[Candidate],
) -> sqlx::Result<Vec<Option<String>>> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<&str> = candidates.iter().map(|candidate| candidate.key.as_str()).collect();
    let taken: HashSet<String> = sqlx::query_scalar!(
        r#"select explained_by as "event_id!" from restante.missed_change
            where account = $1 and key = any ($2) and explained_by is not null"#,
        account,
        &keys as &[&str],
    )
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .collect();
    let webhooks = webhooks::about(connection, account, candidates).await?;
    let told = told_by(candidates, &webhooks, &taken);
    Ok(told.into_iter().map(|webhook| webhook.map(|webhook| webhook.event_id.clone())).collect())
}

/// Notes changes that no webhook tells of. Returns how many were not noted before.
pub(super) async fn notice(
    connection: &mut PgConnection,
    account: &str,
    listed: &Listed,
    missed: &[Candidate],
) -> sqlx::Result<u64> {
    let mut noticed = 0;
    for one in missed {
        let stored = sqlx::query!(
            "insert into restante.missed_change (account, event_id, kind, type, key, subject, payload, happened_at, is_once)
             values ($1, $2, $3, $4, $5, $6, $7::text::json, $8, $9) on conflict (account, event_id) do nothing",
            account,
            event_id(one),
            listed.resource,
            one.change.event_type,
            one.key,
            one.subject,
            payload(listed, one),
            one.change.happened_at,
            one.change.which.is_none(),
        )
        .execute(&mut *connection)
        .await?;
        noticed += stored.rows_affected();
    }
    metrics::counter!(metric::MISSED_CHANGES_TOTAL, "kind" => listed.resource).increment(noticed);
    Ok(noticed)
}

/// The identifier of a change: the same however often it is seen.
fn event_id(missed: &Candidate) -> String {
    let Candidate { subject, change, .. } = missed;
    let id = format!("poll:{}:{subject}", change.event_type);
    envelope::bounded(match &change.which {
        Some(which) => format!("{id}:{which}"),
        None => id,
    })
}

/// What the webhook would have as its `data`.
fn payload(listed: &Listed, missed: &Candidate) -> String {
    let reference = listed.reference(missed.parent_id.as_deref(), &missed.subject);
    let mut data = serde_json::json!({ "type": missed.change.event_type, "id": reference.id });
    if let Some(thread) = reference.session_thread_id {
        data["session_thread_id"] = thread.into();
    }
    if let Some(vault) = reference.vault_id {
        data["vault_id"] = vault.into();
    }
    data.to_string()
}

/// Puts into the outbox what was noticed so long ago, and what no webhook tells of to this day.
pub(super) async fn put_in(cx: &Context<'_>, grace: Duration) -> Result<(), Error> {
    let account = cx.event.account_or_default();
    let grace =
        PgInterval { months: 0, days: 0, microseconds: i64::try_from(grace.as_micros()).unwrap_or(i64::MAX) };
    loop {
        let mut checkpoint = cx.checkpoint().await?;
        let rows = sqlx::query_as!(
            Row,
            r#"
            select event_id, kind, type as event_type, key, subject, payload::text as "payload!", happened_at, is_once
              from restante.missed_change
             where account = $1 and polled_at is null and explained_by is null and noticed_at <= clock_timestamp() - $2::interval
             order by happened_at, event_id limit $3 for update skip locked
            "#,
            account,
            grace as _,
            AT_ONCE,
        )
        .fetch_all(&mut *checkpoint)
        .await?;
        if rows.is_empty() {
            return checkpoint.commit().await;
        }
        let candidates: Vec<Candidate> = rows.iter().map(Row::candidate).collect();
        let told = explained_by(&mut checkpoint, account, &candidates).await?;
        let ids: Vec<&str> = rows.iter().map(|row| row.event_id.as_str()).collect();
        sqlx::query!(
            "update restante.missed_change as c
                set explained_by = t.told, polled_at = case when t.told is null then clock_timestamp() end
               from unnest($2::text[], $3::text[]) as t (event_id, told)
              where c.account = $1 and c.event_id = t.event_id",
            account,
            &ids as &[&str],
            &told as &[Option<String>],
        )
        .execute(&mut *checkpoint)
        .await?;
        let missed = rows.iter().zip(&told).filter(|(_, told)| told.is_none());
        let events: Vec<NewEvent> = missed.map(|(row, _)| row.event(account)).collect();
        if !events.is_empty() {
            outbox::insert_events(&mut *checkpoint, Source::Poll, &events).await?;
        }
        checkpoint.commit().await?;
        cx.progress();
        if !events.is_empty() {
            tracing::info!(
                changes = events.len(),
                account,
                "put changes into the outbox that no webhook had told"
            );
        }
    }
}

struct Row {
    event_id: String,
    kind: String,
    event_type: String,
    key: String,
    subject: String,
    payload: String,
    happened_at: DateTime<Utc>,
    is_once: bool,
}

impl Row {
    fn candidate(&self) -> Candidate {
        debug_assert!(LISTED.iter().any(|listed| listed.resource == self.kind), "{}", self.kind);
        let change = Change {
            event_type: self.event_type.clone(),
            happened_at: self.happened_at,
            which: (!self.is_once).then(|| self.event_id.clone()),
        };
        Candidate { key: self.key.clone(), subject: self.subject.clone(), parent_id: None, change }
    }

    fn event(&self, account: &str) -> NewEvent {
        NewEvent {
            // The sender too, so that the identifiers of two accounts are not the same.
            sender: account.to_owned(),
            account: Some(account.to_owned()),
            event_id: self.event_id.clone(),
            event_type: self.event_type.clone(),
            key: Some(self.key.clone()),
            workspace_id: None,
            created_at: self.happened_at,
            body: Body::Json(self.payload.clone()),
            traceparent: None,
        }
    }
}

/// Is there a change that is not in the outbox yet?
pub(super) async fn waits(executor: impl PgExecutor<'_>, account: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (select from restante.missed_change
                        where account = $1 and polled_at is null and explained_by is null) as "waits!"
        "#,
        account
    )
    .fetch_one(executor)
    .await
}

/// Forgets changes of more than a week ago: a sender repeats a webhook for minutes, and a gateway for days.
pub(super) async fn forget_old(executor: impl PgExecutor<'_>, account: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from restante.missed_change
          where account = $1 and noticed_at < clock_timestamp() - interval '7 days'
            and (polled_at is not null or explained_by is not null)",
        account
    )
    .execute(executor)
    .await?;
    Ok(())
}
