//! What ingests say of their journals, in `restante.journal`.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

/// A journal, as its ingest tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalReport {
    /// The identifier of the journal, which stays the same wherever its folder is moved.
    pub journal: String,
    /// The machine and the folder where it is.
    pub place: String,
    /// Since when deliveries go to it; none while they go to the database.
    pub since: Option<DateTime<Utc>>,
    /// How many events are not in the outbox yet.
    pub events: u64,
    /// The size of its files, in bytes.
    pub bytes: u64,
    /// The largest size that it may have, in bytes.
    pub bytes_max: u64,
    /// When the oldest of its events was delivered.
    pub oldest_at: Option<DateTime<Utc>>,
    /// How many files were kept aside.
    pub aside: usize,
    /// Whether it takes no more events.
    pub is_full: bool,
    /// Whether the ingest stops after this report.
    pub is_last: bool,
}

/// Notes what an ingest says of its journal. One statement, which commits by itself and waits for no lock for longer than 200 ms.
///
/// # Errors
/// The error of the statement: then nothing is noted, unless only the answer was lost.
pub async fn note_journal(executor: impl PgExecutor<'_>, report: &JournalReport) -> sqlx::Result<()> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query!(
        r#"select restante.note_journal($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) as "noted""#,
        report.journal,
        report.place,
        report.since,
        number(report.events),
        number(report.bytes),
        number(report.bytes_max),
        report.oldest_at,
        i32::try_from(report.aside).unwrap_or(i32::MAX),
        report.is_full,
        report.is_last,
    )
    .fetch_one(executor)
    .await?;
    Ok(())
}
