//! The doctor examines whether what has expired is deleted.

use super::check::{Check, Database, Needs};
use super::finding::{Finding, Remedy};

pub(super) const CHECKS: &[Check] =
    &[Check { subject: "retention", needs: Needs::Everything, ask: |database| Box::pin(examine(database)) }];

/// Looks for what should have been gone through a day ago.
async fn examine(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let (relations, first, waits, megabytes): (i64, Option<String>, Option<bool>, i64) = sqlx::query_as(
        "select count(*), min(relation), bool_or(pending_since is not null), coalesce(sum(bytes), 0)::bigint / 1000000
           from restante.retention_overview where is_overdue",
    )
    .fetch_one(&mut database.connection)
    .await?;
    let Some(first) = first else {
        return Ok(vec![Finding::fine("retention", "nothing has expired that is still here")]);
    };
    let says = format!(
        "{relations} tables or weeks with {megabytes} MB should have been gone through a day ago, such as {first}"
    );
    let why = "the database grows, and keeps what it was told to delete";
    let remedy: Remedy = if waits == Some(true) {
        "end what holds a lock on the outbox: select * from restante.outbox_horizon order by open_for desc"
            .into()
    } else {
        "keep a worker running, which deletes what has expired; its log says why it does not".into()
    };
    Ok(vec![Finding::wrong("retention", says, why, remedy)])
}
