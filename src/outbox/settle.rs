//! Settling: the end of an attempt, fenced by its lease.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::outbox::claim::{claimed_row, interval};
use crate::outbox::delivered::{Columns, Delivered};
use crate::outbox::outcome::{Finish, Verdict};
use crate::outbox::{Claimed, Lease};
use crate::trace;

/// An attempt that succeeded.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The lease of the attempt.
    pub lease: Lease,
    /// How it ended.
    pub finish: Finish,
    /// What the handler left as its result, as JSON.
    pub result: Option<String>,
    /// What it delivered to an endpoint, which is noted in the same commit.
    pub delivered: Option<Delivered>,
}

/// The worker that gets the lease of a successor when the head of its key is finished.
#[derive(Clone, Copy, Debug)]
pub struct Next<'a> {
    /// The worker's name.
    pub owner: &'a str,
    /// How long the lease lasts.
    pub lease: Duration,
    /// Leases only successors that were created then or earlier. Any worker may claim the others.
    pub until: DateTime<Utc>,
}

/// What a call of [`finish`] did.
#[derive(Clone, Debug, Default)]
pub struct Completed {
    /// The numbers of the events that are finished now. For a missing one, [`is_ours`] says whether its lease was lost.
    pub finished: Vec<i64>,
    /// How many successors any worker may claim now.
    pub unblocked: i64,
    /// The successors that were leased.
    pub next: Vec<Claimed>,
}

claimed_row!(FinishRow { finished: Vec<i64>, unblocked: i64 });

/// Calls one of the functions that finish; they return the same columns. `$8` says whether traces are kept.
macro_rules! finish {
    ($executor:expr, $function:literal, $($value:expr),*) => {{
        let rows = sqlx::query_as!(
            FinishRow,
            "select finished, unblocked, (next).*, case when $8 then restante.trace_of((next).id) end as traceparent from "
                + $function,
            $($value),*
        );
        let mut completed = Completed::default();
        for mut row in rows.fetch_all($executor).await? {
            completed.finished.extend(row.finished.take().into_iter().flatten());
            completed.unblocked += row.unblocked.unwrap_or(0);
            completed.next.extend(row.into_claimed());
        }
        Ok(completed)
    }};
}

/// Finishes events, notes what they delivered, and makes the successor in each key claimable or leases it as `next` says, in one
/// statement.
///
/// # Errors
/// The database is away or refuses a result; then nothing was finished, unless only the answer was lost: see
/// [`was_finished`].
pub async fn finish(
    executor: impl PgExecutor<'_>,
    attempts: &[Finished],
    next: Option<Next<'_>>,
) -> sqlx::Result<Completed> {
    let (owner, until) = (next.map(|next| next.owner), next.map(|next| next.until));
    let time = next.map(|next| interval(next.lease));
    if let [Finished { lease, finish, result, delivered: None }] = attempts {
        return finish!(
            executor,
            "restante.finish_event($1, $2, $3, $4, $5, $6, $7)",
            lease.id,
            lease.token,
            finish.outcome().as_str(),
            result.as_deref(),
            owner,
            time as _,
            until,
            trace::is_on()
        );
    }
    let ids: Vec<i64> = attempts.iter().map(|attempt| attempt.lease.id).collect();
    let tokens: Vec<i64> = attempts.iter().map(|attempt| attempt.lease.token).collect();
    let statuses: Vec<&str> = attempts.iter().map(|attempt| attempt.finish.outcome().as_str()).collect();
    let results: Vec<Option<&str>> = attempts.iter().map(|attempt| attempt.result.as_deref()).collect();
    let delivered =
        attempts.iter().filter_map(|attempt| Some((attempt.lease.id, attempt.delivered.as_ref()?)));
    let delivered = Columns::of(delivered);
    if delivered.outbox_ids.is_empty() {
        return finish!(
            executor,
            "restante.finish_events($1, $2, $3, $4, $5, $6, $7)",
            &ids,
            &tokens,
            &statuses as &[&str],
            &results as &[Option<&str>],
            owner,
            time as _,
            until,
            trace::is_on()
        );
    }
    // Only what was finished is noted: an attempt without its lease says nothing.
    finish!(
        executor,
        "(with done as materialized (select * from restante.finish_events($1, $2, $3, $4, $5, $6, $7)),
               noted as materialized (
                 select count(restante.note_delivery(d.endpoint, d.outbox_id, d.event_id, d.type, d.attempt, d.took, d.status, null, d.answer))
                   from unnest($9::bigint[], $10::text[], $11::text[], $12::text[], $13::integer[], $14::interval[], $15::integer[], $16::text[])
                     as d (outbox_id, endpoint, event_id, type, attempt, took, status, answer)
                  where d.outbox_id in (select unnest(f.finished) from done as f))
          select done.* from done cross join noted) as f",
        &ids,
        &tokens,
        &statuses as &[&str],
        &results as &[Option<&str>],
        owner,
        time as _,
        until,
        trace::is_on(),
        &delivered.outbox_ids,
        &delivered.endpoints as &[&str],
        &delivered.event_ids as &[&str],
        &delivered.event_types as &[&str],
        &delivered.attempts,
        &delivered.took,
        &delivered.statuses,
        &delivered.answers as &[&str]
    )
}

/// Is the event still running under this lease?
///
/// # Errors
/// The database is away or did not answer.
pub async fn is_ours(executor: impl PgExecutor<'_>, lease: Lease) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (select from restante.outbox_live
                        where id = $1 and lease_token = $2 and status = 'running') as "ours!"
        "#,
        lease.id,
        lease.token,
    )
    .fetch_one(executor)
    .await
}

/// Was the event finished under this lease? Asked after a commit whose answer was lost.
///
/// # Errors
/// The database is away or did not answer.
pub async fn was_finished(executor: impl PgExecutor<'_>, lease: Lease) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (select from restante.outbox
                        where id = $1 and lease_token = $2::bigint + 1 and status in ('done', 'ignored')) as "finished!"
        "#,
        lease.id,
        lease.token,
    )
    .fetch_one(executor)
    .await
}

/// Ends an attempt that did not succeed. Returns false, and changes nothing, if the lease was lost or another session
/// has locked the event; [`is_ours`] says which.
///
/// # Errors
/// The database is away or did not answer; then nothing was changed, unless only the answer was lost.
pub async fn fail(executor: impl PgExecutor<'_>, lease: Lease, verdict: &Verdict) -> sqlx::Result<bool> {
    let (word, is_failure, holds_key) = match verdict {
        Verdict::Retry { .. } => ("retry", true, false),
        Verdict::Snooze { .. } => ("snooze", false, false),
        Verdict::Defer { .. } => ("defer", false, false),
        Verdict::Trouble { .. } => ("trouble", false, false),
        Verdict::Dead { holds_key, .. } => ("dead", true, *holds_key),
    };
    let status = sqlx::query_scalar!(
        "select restante.fail($1, $2, $3, $4, $5, $6, $7, $8)",
        lease.id,
        lease.token,
        word,
        is_failure.then(|| verdict.outcome().as_str()),
        verdict.kind(),
        postgres_text(verdict.reason()),
        verdict.wait().map(interval) as _,
        holds_key,
    )
    .fetch_one(executor)
    .await?;
    Ok(status.is_some())
}

/// Hands events back unfinished. Any worker may claim them at once; their attempts do not count. Leaves those whose
/// lease was lost or that another session has locked. Returns how many were handed back.
///
/// # Errors
/// The database is away or did not answer.
pub async fn hand_back(executor: impl PgExecutor<'_>, leases: &[Lease]) -> sqlx::Result<i64> {
    let (ids, tokens): (Vec<i64>, Vec<i64>) = leases.iter().map(|lease| (lease.id, lease.token)).unzip();
    sqlx::query_scalar!(r#"select restante.hand_back($1, $2) as "count!""#, &ids, &tokens)
        .fetch_one(executor)
        .await
}

/// Hands back the events that `owner` has claimed at least `age` ago and that are not among `known`, because the answer
/// of their claim was lost. Returns how many there were.
///
/// # Errors
/// The database is away or did not answer.
pub async fn hand_back_strays(
    executor: impl PgExecutor<'_>,
    owner: &str,
    known: &[i64],
    age: Duration,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select restante.hand_back_strays($1, $2, $3) as "count!""#,
        owner,
        known,
        interval(age)
    )
    .fetch_one(executor)
    .await
}

/// The text as Postgres can store it, without NUL. A long one is cut, because an error may quote its whole input.
fn postgres_text(text: &str) -> String {
    const CHARACTERS: usize = 4000;
    text.chars().take(CHARACTERS).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}
