//! The keys of the services and their uses, in `restante.key_use`.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::key_use::Use;

/// Adds what a service reports of its keys. `process` names it among the others of its `program`. One statement, which commits by
/// itself and waits for no lock for longer than 200 ms.
///
/// # Errors
/// The error of the statement: then nothing is added, unless only the answer was lost.
pub async fn note_key_use(
    executor: impl PgExecutor<'_>,
    process: &str,
    program: &str,
    uses: &[Use],
) -> sqlx::Result<()> {
    let kinds: Vec<&str> = uses.iter().map(|used| used.key.kind.as_str()).collect();
    let parties: Vec<&str> = uses.iter().map(|used| used.key.party.as_str()).collect();
    let fingerprints: Vec<String> = uses.iter().map(|used| used.key.fingerprint.to_string()).collect();
    let are_held: Vec<bool> = uses.iter().map(|used| used.is_held).collect();
    let counts: Vec<i64> = uses.iter().map(|used| used.uses).collect();
    let used_ats: Vec<Option<DateTime<Utc>>> = uses.iter().map(|used| used.last_used_at).collect();
    let needed_ats: Vec<Option<DateTime<Utc>>> = uses.iter().map(|used| used.last_needed_at).collect();
    sqlx::query!(
        r#"select restante.note_key_use($1, $2, $3, $4, $5, $6, $7, $8, $9) as "noted""#,
        process,
        program,
        &kinds as &[&str],
        &parties as &[&str],
        &fingerprints,
        &are_held,
        &counts,
        &used_ats as &[Option<DateTime<Utc>>],
        &needed_ats as &[Option<DateTime<Utc>>],
    )
    .fetch_one(executor)
    .await?;
    Ok(())
}
