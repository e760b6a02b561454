//! Settling: the end of an attempt, fenced by its lease.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::outbox::claim::{claimed, interval};
use crate::outbox::{Claimed, Lease};

/// How an event ends well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A handler dealt with it.
    Done,
    /// There is no handler for its type.
    Ignored,
}

impl Finish {
    fn status(self) -> &'static str {
        match self {
            Finish::Done => "done",
            Finish::Ignored => "ignored",
        }
    }
}

/// An attempt that succeeded.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The attempt's right to say so.
    pub lease: Lease,
    /// How it ended.
    pub finish: Finish,
    /// What the handler left as its result, as JSON.
    pub result: Option<String>,
}

/// To whom the next event of a key is leased when its head is finished.
#[derive(Clone, Copy, Debug)]
pub struct Next<'a> {
    /// The worker's name.
    pub owner: &'a str,
    /// How long the lease lasts.
    pub lease: Duration,
    /// Whose turn it is: events that were created then or earlier. Others may be claimed by anybody.
    pub until: DateTime<Utc>,
}

/// What became of a call of [`finish`].
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The leases whose events are finished now. For one that is missing, [`is_ours`] tells whether it was lost.
    pub finished: Vec<i64>,
    /// How many successors anybody may claim now.
    pub unblocked: i64,
    /// The successors that were leased.
    pub next: Vec<Claimed>,
}

/// Calls one of the functions that finish, which answer alike.
macro_rules! finish {
    ($executor:expr, $function:literal, $($value:expr),*) => {{
        let rows = sqlx::query!("select finished, unblocked, (next).* from " + $function, $($value),*);
        let mut settled = Settled::default();
        for row in rows.fetch_all($executor).await? {
            settled.finished.extend(row.finished.into_iter().flatten());
            settled.unblocked += row.unblocked.unwrap_or(0);
            settled.next.extend(claimed!(row));
        }
        Ok(settled)
    }};
}

/// Finishes events and lets the next of each key go, or leases it as `next` says, in one statement.
///
/// # Errors
/// What the database says; then nothing was finished.
pub async fn finish(
    executor: impl PgExecutor<'_>,
    attempts: &[Finished],
    next: Option<Next<'_>>,
) -> sqlx::Result<Settled> {
    let (owner, until) = (next.map(|next| next.owner), next.map(|next| next.until));
    let time = next.map(|next| interval(next.lease));
    if let [Finished { lease, finish, result }] = attempts {
        return finish!(
            executor,
            "restante.finish_one($1, $2, $3, $4, $5, $6, $7)",
            lease.id,
            lease.token,
            finish.status(),
            result.as_deref(),
            owner,
            time as _,
            until
        );
    }
    let ids: Vec<i64> = attempts.iter().map(|attempt| attempt.lease.id).collect();
    let tokens: Vec<i64> = attempts.iter().map(|attempt| attempt.lease.token).collect();
    let statuses: Vec<&str> = attempts.iter().map(|attempt| attempt.finish.status()).collect();
    let results: Vec<Option<&str>> = attempts.iter().map(|attempt| attempt.result.as_deref()).collect();
    finish!(
        executor,
        "restante.finish($1, $2, $3, $4, $5, $6, $7)",
        &ids,
        &tokens,
        &statuses as &[&str],
        &results as &[Option<&str>],
        owner,
        time as _,
        until
    )
}

/// Is the event still running under this lease?
///
/// # Errors
/// What the database says.
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

/// Was the event finished under this lease? The answer to whether a commit arrived of which nothing was heard.
///
/// # Errors
/// What the database says.
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

/// What happens to an event whose attempt did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It failed, and runs again after a while.
    Retry {
        /// How it failed, as the table `failure` says it.
        outcome: &'static str,
        /// How long it waits.
        wait: Duration,
    },
    /// It was too early; the attempt does not count.
    Snooze {
        /// How long it waits.
        wait: Duration,
    },
    /// It is given up.
    Dead {
        /// How it failed, as the table `failure` says it.
        outcome: &'static str,
        /// Its successors must not pass.
        holds_key: bool,
    },
}

/// Ends an attempt that did not succeed. Answers false where the lease was lost; then nothing was changed.
///
/// # Errors
/// What the database says; then nothing was changed.
pub async fn fail(
    executor: impl PgExecutor<'_>,
    lease: Lease,
    verdict: &Verdict,
    error: Option<&str>,
) -> sqlx::Result<bool> {
    let (outcome, wait, counts, holds_key) = match verdict {
        Verdict::Retry { outcome, wait } => (*outcome, Some(*wait), true, false),
        Verdict::Snooze { wait } => ("snoozed", Some(*wait), false, false),
        Verdict::Dead { outcome, holds_key } => (*outcome, None, true, *holds_key),
    };
    let status = sqlx::query_scalar!(
        "select restante.fail($1, $2, $3, $4, $5, $6, $7)",
        lease.id,
        lease.token,
        outcome,
        error.map(postgres_text),
        wait.map(interval) as _,
        counts,
        holds_key,
    )
    .fetch_one(executor)
    .await;
    match status {
        Ok(status) => Ok(status.is_some()),
        // It was moved to the history by hand while we waited for it.
        Err(error) if crate::database::is_moved_row(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives events back unfinished, to be claimed at once by anybody; their attempts do not count.
/// Answers how many were still ours.
///
/// # Errors
/// What the database says.
pub async fn hand_back(executor: impl PgExecutor<'_>, leases: &[Lease]) -> sqlx::Result<u64> {
    let (ids, tokens): (Vec<i64>, Vec<i64>) = leases.iter().map(|lease| (lease.id, lease.token)).unzip();
    let handed_back = sqlx::query!(
        r#"
        update restante.outbox_live as l
           set status = 'pending', lane = 0, run_at = '-infinity', attempt = l.attempt - 1, lease_token = l.lease_token + 1,
               lease_until = '-infinity'
          from unnest($1::bigint[], $2::bigint[]) as t (id, token)
         where l.id = t.id and l.lease_token = t.token and l.status = 'running'
        "#,
        &ids,
        &tokens,
    )
    .execute(executor)
    .await?;
    Ok(handed_back.rows_affected())
}

/// The text as Postgres can hold it: it knows no NUL. Long ones are cut, since an error may quote what it choked on.
fn postgres_text(text: &str) -> String {
    const CHARACTERS: usize = 4000;
    text.chars().take(CHARACTERS).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}
