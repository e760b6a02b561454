//! What is done for batches again and again beside their standing jobs: results at risk are told, and complete batches are
//! deleted at the API where an operator wants that.

use std::time::Duration;

use sqlx::PgExecutor;

/// Stores the event `batch.at_risk`, once, for each batch of the accounts whose results may vanish before they are here. Returns
/// how many were new.
pub(crate) async fn note_at_risk(executor: impl PgExecutor<'_>, accounts: &[String]) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"select restante.note_at_risk($1) as "made!""#, accounts).fetch_one(executor).await
}

/// Stores the event `batch.delete`, once, for each batch of the accounts that has been complete for so long. Returns how many
/// were new.
pub(crate) async fn delete_complete(
    executor: impl PgExecutor<'_>,
    accounts: &[String],
    after: Duration,
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"select restante.delete_complete($1, make_interval(secs => $2)) as "made!""#,
        accounts,
        after.as_secs_f64(),
    )
    .fetch_one(executor)
    .await
}

/// How far a batch is, as its deletion has to know.
pub(crate) struct Kept {
    /// Every result is stored.
    pub(crate) is_complete: bool,
    /// It has been deleted at the API.
    pub(crate) is_deleted: bool,
}

/// The batch, if we know it.
pub(crate) async fn kept(
    executor: impl PgExecutor<'_>,
    batch_id: &str,
    account: &str,
) -> sqlx::Result<Option<Kept>> {
    sqlx::query_as!(
        Kept,
        r#"
        select complete_at is not null as "is_complete!", deleted_at is not null as "is_deleted!"
          from restante.batch where id = $1 and account = $2
        "#,
        batch_id,
        account,
    )
    .fetch_optional(executor)
    .await
}

/// Notes that a complete batch has been deleted at the API.
pub(crate) async fn deleted(
    executor: impl PgExecutor<'_>,
    batch_id: &str,
    account: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.batch set deleted_at = clock_timestamp() where id = $1 and account = $2 and deleted_at is null",
        batch_id,
        account,
    )
    .execute(executor)
    .await?;
    Ok(())
}
