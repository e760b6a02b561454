//! The doctor examines whether what has expired is deleted.

use sqlx::{PgConnection, Row};

use super::Finding;

/// Looks for what should have been gone through a day ago.
pub(super) async fn examine(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let behind = sqlx::query(
        "select count(*) as relations, min(relation) as first, bool_or(pending_since is not null) as waits,
                coalesce(sum(bytes), 0)::bigint / 1000000 as megabytes
           from restante.retention_overview where is_overdue",
    )
    .fetch_one(connection)
    .await?;
    let (relations, megabytes): (i64, i64) = (behind.get("relations"), behind.get("megabytes"));
    if relations == 0 {
        return Ok(Finding::fine("retention", "nothing has expired that is still here"));
    }
    let first: String = behind.get("first");
    let says = format!(
        "{relations} tables or weeks with {megabytes} MB should have been gone through a day ago, such as {first}"
    );
    let remedy = if behind.get("waits") {
        "end what holds a lock on the outbox: select * from restante.outbox_horizon order by open_for desc"
    } else {
        "keep a worker running, which deletes what has expired; its log says why it does not"
    };
    Ok(Finding::wrong("retention", says, remedy))
}
