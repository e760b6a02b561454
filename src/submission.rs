//! The tables of submissions: what a part is at, and how it is changed.
//!
//! What follows from a change (the batch, the requests, the events of our own, the submission) stands in the triggers of
//! `restante.submission_part`, because a person may make the same changes.

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use sqlx::{PgExecutor, PgPool};

/// A part of a submission: what the API gets as one batch.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) id: i64,
    /// The name of its submission.
    pub(crate) submission: String,
    /// As `restante.submission_status` has them.
    pub(crate) status: String,
    pub(crate) requests: i64,
    pub(crate) bytes: i64,
    /// Beta features that it needs, beside those of the account.
    pub(crate) betas: Vec<String>,
    /// The newest batch of the account before the part was sent.
    pub(crate) known_before: Option<String>,
    /// For how long it has been unclear whether the API has it, in seconds; 0 where nobody has noted that yet.
    pub(crate) unclear_for_seconds: f64,
    /// Has a person called its submission off?
    pub(crate) is_cancelled: bool,
}

/// The part, if there is such a one.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn part(executor: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<Part>> {
    sqlx::query_as!(
        Part,
        r#"
        select p.id, p.submission, p.status as "status!: String", p.requests::bigint as "requests!", p.bytes, p.betas, p.known_before,
               coalesce(extract(epoch from clock_timestamp() - p.unclear_since), 0)::float8 as "unclear_for_seconds!",
               s.status = 'cancelled' as "is_cancelled!"
          from restante.submission_part as p join restante.submission as s on s.name = p.submission
         where p.id = $1
        "#,
        id
    )
    .fetch_optional(executor)
    .await
}

/// Notes that the first byte of a part is about to go out. Returns whether it may: nothing else has taken the part on.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn begin(
    executor: impl PgExecutor<'_>,
    id: i64,
    known_before: Option<&str>,
) -> sqlx::Result<bool> {
    let begun = sqlx::query!(
        "update restante.submission_part
            set status = 'sending', sent_at = clock_timestamp(), known_before = $2, reason = null, unclear_since = null
          where id = $1 and status = 'waiting'",
        id,
        known_before,
    )
    .execute(executor)
    .await?;
    Ok(begun.rows_affected() == 1)
}

/// Notes that the API does not have a part that was sent, and why it waits.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn not_sent(
    executor: impl PgExecutor<'_>,
    id: i64,
    reason: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.submission_part set status = 'waiting', reason = $2 where id = $1 and status = 'sending'",
        id,
        reason,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Notes that it is unclear whether the API has a part, since the first such note.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn unclear(executor: impl PgExecutor<'_>, id: i64, reason: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.submission_part set unclear_since = coalesce(unclear_since, clock_timestamp()), reason = $2
          where id = $1 and status = 'sending'",
        id,
        reason,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Ends a part as `uncertain` or `refused`, with its reason; a person decides what becomes of it.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn give_up(
    executor: impl PgExecutor<'_>,
    id: i64,
    status: &str,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.submission_part set status = $2, reason = $3 where id = $1 and status = 'sending'",
        id,
        status as _,
        reason,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Notes which batch a part is.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn adopt(executor: impl PgExecutor<'_>, id: i64, batch_id: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.submission_part set batch_id = $2 where id = $1 and status = 'sending'",
        id,
        batch_id
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Ends a part whose submission was called off before anything of it was sent.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn cancel(executor: impl PgExecutor<'_>, id: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "update restante.submission_part set status = 'cancelled' where id = $1 and status = 'waiting'",
        id
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Those of some batches that are of no part, and that we did not know before this part was sent.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn unknown_before(
    executor: impl PgExecutor<'_>,
    account: &str,
    part: i64,
    batch_ids: &[String],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        select b.id as "id!" from unnest($2::text[]) as b (id)
         where not exists (select from restante.submission_part as p where p.batch_id = b.id and p.account = $1)
           and not exists (select from restante.batch as k join restante.submission_part as p on p.id = $3
                            where k.id = b.id and k.account = $1 and k.first_seen_at < p.sent_at)
        "#,
        account,
        batch_ids,
        part,
    )
    .fetch_all(executor)
    .await
}

/// How many requests are read at once at most, and about how many bytes.
const PAGE_REQUESTS_MAX: i64 = 1000;
const PAGE_BYTES_MAX: i64 = 1_000_000;

/// The body of a part, as the API wants it, in chunks of about a megabyte: never is more of it held in memory. Each page is read
/// for itself, so that an exchange that breaks off leaves no connection in the middle of an answer.
pub(crate) fn body(pool: PgPool, part: i64) -> impl Stream<Item = sqlx::Result<Bytes>> + Send {
    stream::try_unfold(Some(0), move |after| {
        let pool = pool.clone();
        async move {
            let Some(after) = after else { return Ok(None) };
            let page = page(&pool, part, after).await?;
            let mut chunk =
                String::with_capacity(page.iter().map(|request| request.params.len() + 128).sum());
            if after == 0 {
                chunk.push_str(r#"{"requests":["#);
            }
            for (nth, Request { custom_id, params, .. }) in page.iter().enumerate() {
                if after != 0 || nth > 0 {
                    chunk.push(',');
                }
                chunk.push_str(r#"{"custom_id":""#);
                chunk.push_str(custom_id);
                chunk.push_str(r#"","params":"#);
                chunk.push_str(params);
                chunk.push('}');
            }
            let next = page.last().map(|request| request.position);
            if next.is_none() {
                chunk.push_str("]}");
            }
            Ok(Some((Bytes::from(chunk), next)))
        }
    })
}

struct Request {
    position: i64,
    custom_id: String,
    params: String,
}

async fn page(pool: &PgPool, part: i64, after: i64) -> sqlx::Result<Vec<Request>> {
    sqlx::query_as!(
        Request,
        r#"
        -- One walk of the index by (part, position), whatever the statistics say of a table that was just written. The parameters are
        -- stored apart, and only those of the page are read.
        select p.position as "position!", p.custom_id as "custom_id!", p.params::text as "params!"
          from (select q.position, q.custom_id, q.params, sum(q.bytes) over (order by q.position) - q.bytes as before
                  from (select b.position, b.custom_id, b.params, b.bytes from restante.batch_request as b
                         where b.part = $1 and b.position > $2 order by b.position limit $3) as q) as p
         where p.before < $4::bigint
         order by p.position
        "#,
        part,
        after,
        PAGE_REQUESTS_MAX,
        PAGE_BYTES_MAX,
    )
    .fetch_all(pool)
    .await
}
