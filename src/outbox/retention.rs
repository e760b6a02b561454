//! Retention: what people no longer want kept is deleted, a portion at a time, by whichever worker comes by.

use std::time::Duration;

use sqlx::PgExecutor;

/// What one portion did.
#[derive(Clone, Debug, PartialEq)]
pub struct Portion {
    /// What became due, if anything did.
    pub done: Done,
    /// How many rows were deleted; of a dropped week, how many Postgres estimated. At the end of a run, those of the whole run.
    pub rows: u64,
    /// How many weeks were dropped, likewise.
    pub weeks: u64,
    /// In how long something is due.
    pub next_in: Duration,
    /// For how long a week has waited for a lock that somebody holds on the outbox.
    pub pending: Duration,
}

/// What a portion was of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing is due, or another session does it.
    Nothing,
    /// One step with one table.
    Step {
        /// The table, without its schema.
        relation: String,
        /// Its kind, as `restante.retention.what` says.
        what: &'static str,
    },
    /// A run has ended: everything was gone through.
    Run,
}

/// The kinds of rows that have a time, as the constraint of `restante.retention` lists them (a test compares the two).
pub const KINDS: [&str; 12] = [
    "event",
    "result",
    "message",
    "session_send",
    "resource",
    "seen",
    "failure",
    "delivery_differs",
    "endpoint_delivery",
    "operation",
    "replay",
    "throughput",
];

/// Does one portion of retention.
///
/// # Errors
/// What the database says.
pub async fn retain_portion(executor: impl PgExecutor<'_>) -> sqlx::Result<Portion> {
    let row = sqlx::query!(
        r#"select relation, what, step, rows as "rows!", weeks as "weeks!",
                  coalesce(next_in_seconds, 0) as "next_in_seconds!", pending_seconds as "pending_seconds!"
             from restante.retain_portion()"#
    )
    .fetch_one(executor)
    .await?;
    let done = match (row.relation, row.step.as_deref()) {
        (Some(relation), _) => Done::Step { relation, what: known(row.what.as_deref()) },
        (None, Some(_)) => Done::Run,
        (None, None) => Done::Nothing,
    };
    Ok(Portion {
        done,
        rows: row.rows.unsigned_abs(),
        weeks: u64::from(row.weeks.unsigned_abs()),
        next_in: Duration::from_secs_f64(row.next_in_seconds.max(0.0)),
        pending: Duration::from_secs_f64(row.pending_seconds.max(0.0)),
    })
}

/// What a portion of a forgetting did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgot {
    /// No call of `restante.forget` is due.
    Nothing,
    /// So many rows were erased; 0 while something has to happen first.
    Rows(u64),
    /// One is complete.
    All,
}

/// Erases a portion of what a person wants forgotten.
///
/// # Errors
/// What the database says.
pub async fn forget_portion(executor: impl PgExecutor<'_>) -> sqlx::Result<Forgot> {
    let rows = sqlx::query_scalar!("select restante.forget_portion()").fetch_one(executor).await?;
    Ok(match rows {
        None => Forgot::Nothing,
        Some(rows) => u64::try_from(rows).map_or(Forgot::All, Forgot::Rows),
    })
}

/// Our own copy of the word, so that it can be the label of a metric.
fn known(what: Option<&str>) -> &'static str {
    KINDS.into_iter().find(|kind| what == Some(kind)).unwrap_or("other")
}
