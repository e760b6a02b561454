//! Which answer belongs to which request, and which are missing: the only place that knows.

use futures_util::stream::BoxStream;
use sqlx::{PgConnection, Row};

/// A request whose answer is asked for.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Asked {
    pub(super) batch_id: Option<String>,
    pub(super) custom_id: String,
}

/// Answers that are missing, by the status of their requests.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Missing {
    pub(super) status: String,
    pub(super) requests: i64,
}

/// How many answers are missing, and why.
///
/// # Errors
/// If the query fails.
pub(super) async fn missing(
    connection: &mut PgConnection,
    submission: &str,
    account: &str,
) -> sqlx::Result<Vec<Missing>> {
    sqlx::query_as(
        "select r.status, count(*) as requests
           from restante.batch_request as r
          where r.submission = $1
            and not exists (select from restante.batch_result as a
                             where a.batch_id = r.batch_id and a.account = $2 and a.custom_id = r.custom_id)
          group by r.status order by r.status",
    )
    .bind(submission)
    .bind(account)
    .fetch_all(connection)
    .await
}

/// The line of each answer to these requests, in their order; one that is not there is left out.
pub(super) fn lines<'a>(
    connection: &'a mut PgConnection,
    account: &'a str,
    asked: &[Asked],
) -> BoxStream<'a, sqlx::Result<Vec<u8>>> {
    use futures_util::StreamExt as _;
    let batch_ids: Vec<Option<String>> = asked.iter().map(|one| one.batch_id.clone()).collect();
    let custom_ids: Vec<String> = asked.iter().map(|one| one.custom_id.clone()).collect();
    let rows = sqlx::query(
        "select a.line, a.raw
           from unnest($1::text[], $2::text[]) with ordinality as r (batch_id, custom_id, nth)
           join restante.batch_result as a
             on a.batch_id = r.batch_id and a.account = $3 and a.custom_id = r.custom_id
          order by r.nth",
    )
    .bind(batch_ids)
    .bind(custom_ids)
    .bind(account)
    .fetch(connection);
    rows.map(|row| {
        let row = row?;
        let line: Option<String> = row.try_get("line")?;
        Ok(line.map(String::into_bytes).or(row.try_get("raw")?).unwrap_or_default())
    })
    .boxed()
}
