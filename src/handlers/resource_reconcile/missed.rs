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
use super::matching::{told_by, told_until};
use super::webhooks;
use crate::envelope;
use crate::event::{Body, NewEvent};
use crate::handler::{Context, Error};
use crate::outbox::{self, Source};
use crate::telemetry::metric;

/// How many changes are put into the outbox with one commit.
const AT_ONCE: i64 = 500;

/// What webhooks tell of some changes.
#[derive(Debug, Default)]
pub(super) struct Explanation {
    /// The changes that no webhook tells of so far.
    pub(super) unexplained: Vec<Candidate>,
    /// Of changes that have no time of their own and were told: the object, the type, and when the last webhook was made.
    told: Vec<(String, String, DateTime<Utc>)>,
}

/// Looks which of these changes webhooks tell of, which lists showed at `looked_at` or later.
pub(super) async fn explanation(
    connection: &mut PgConnection,
    account: &str,
    candidates: Vec<Candidate>,
    looked_at: DateTime<Utc>,
) -> sqlx::Result<Explanation> {
    let told = explained_by(connection, account, &candidates, looked_at).await?;
    let mut explanation = Explanation::default();
    for (candidate, told) in candidates.into_iter().zip(told) {
        match told {
            None => explanation.unexplained.push(candidate),
            Some(Told { until, .. }) if candidate.change.is_between() => {
                explanation.told.push((candidate.subject, candidate.change.event_type, until));
            }
            Some(_) => {}
        }
    }
    Ok(explanation)
}

/// The webhook that tells of a change.
struct Told {
    event_id: String,
    /// When the last one was made, if there are several.
    until: DateTime<Utc>,
}

/// For each change the webhook that tells of it.
async fn explained_by(
    connection: &mut PgConnection,
    account: &str,
    candidates: &[Candidate],
    looked_at: DateTime<Utc>,
) -> sqlx::Result<Vec<Option<Told>>> {
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
    let told = candidates.iter().zip(told_by(candidates, &webhooks, &taken)).map(|(candidate, webhook)| {
        webhook.map(|webhook| Told {
            event_id: webhook.event_id.clone(),
            until: told_until(candidate, webhook.created_at, &webhooks, looked_at),
        })
    });
    Ok(told.collect())
}

/// Notes what webhooks told of objects, so that none of them counts for a later change.
pub(super) async fn note_told(
    connection: &mut PgConnection,
    account: &str,
    listed: &Listed,
    explanation: &Explanation,
) -> sqlx::Result<()> {
    if explanation.told.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = explanation.told.iter().map(|(id, _, _)| id.as_str()).collect();
    let types: Vec<&str> = explanation.told.iter().map(|(_, event_type, _)| event_type.as_str()).collect();
    let until: Vec<DateTime<Utc>> = explanation.told.iter().map(|(_, _, until)| *until).collect();
    sqlx::query!(
        "update restante.reconciled as r
            set told = r.told || t.told
           from (select u.id, jsonb_object_agg(u.type, u.until) as told
                   from unnest($3::text[], $4::text[], $5::timestamptz[]) as u (id, type, until) group by u.id) as t
          where r.account = $1 and r.kind = $2 and r.id = t.id",
        account,
        listed.resource,
        &ids as &[&str],
        &types as &[&str],
        &until as &[DateTime<Utc>],
    )
    .execute(connection)
    .await?;
    Ok(())
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
            "insert into restante.missed_change (account, event_id, kind, type, key, subject, payload, happened_at, is_once, happened_after)
             values ($1, $2, $3, $4, $5, $6, $7::text::json, $8, $9, $10) on conflict (account, event_id) do nothing",
            account,
            event_id(one),
            listed.resource,
            one.change.event_type,
            one.key,
            one.subject,
            payload(listed, one),
            one.change.happened_at,
            one.change.which.is_none(),
            one.change.happened_after,
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
            select event_id, kind, type as event_type, key, subject, payload::text as "payload!", happened_at, happened_after, is_once
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
        // Objects are not looked at here, and nothing is noted of them.
        let told = explained_by(&mut checkpoint, account, &candidates, DateTime::UNIX_EPOCH).await?;
        let told: Vec<Option<String>> = told.into_iter().map(|told| told.map(|told| told.event_id)).collect();
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
    happened_after: Option<DateTime<Utc>>,
    is_once: bool,
}

impl Row {
    fn candidate(&self) -> Candidate {
        debug_assert!(LISTED.iter().any(|listed| listed.resource == self.kind), "{}", self.kind);
        let change = Change {
            event_type: self.event_type.clone(),
            happened_at: self.happened_at,
            happened_after: self.happened_after,
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
