//! What whoever reads along has to know of a message.

use sqlx::PgExecutor;

pub(crate) use super::chunks::CHANNEL;

/// How far a message is, as whoever reads along has to know.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) id: i64,
    pub(crate) status: String,
    pub(crate) attempt: i32,
    pub(crate) reason: Option<String>,
    pub(crate) error_type: Option<String>,
    pub(crate) stop_reason: Option<String>,
    /// The number of the last event of this attempt that is stored; 0 without any.
    pub(crate) seq: i64,
}

/// How far these messages are. One that does not exist is left out.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn progress(executor: impl PgExecutor<'_>, ids: &[i64]) -> sqlx::Result<Vec<Progress>> {
    sqlx::query_as!(
        Progress,
        r#"
        select m.id, m.status as "status!: String", m.attempt, m.reason, m.error_type, m.stop_reason,
               coalesce((select c.seq from restante.message_chunk as c where c.message = m.id and c.attempt = m.attempt
                          order by c.seq desc limit 1), 0) as "seq!"
          from restante.message as m where m.id = any ($1)
        "#,
        ids
    )
    .fetch_all(executor)
    .await
}

/// A stored row.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) seq: i64,
    pub(crate) events: String,
}

/// The next rows of an attempt, in order; about 64 KiB at most, and one row at least if there is one.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn chunks_after(
    executor: impl PgExecutor<'_>,
    message: i64,
    attempt: i32,
    seq: i64,
) -> sqlx::Result<Vec<Chunk>> {
    sqlx::query_as!(
        Chunk,
        r#"
        select c.seq, c.events::text as "events!"
          from (select seq, events, sum(octet_length(events::text)) over (order by seq) - octet_length(events::text) as before
                  from (select k.seq, k.events from restante.message_chunk as k
                         where k.message = $1 and k.attempt = $2 and k.seq > $3 order by k.seq limit 200) as page) as c
         where c.before < 65536 order by c.seq
        "#,
        message,
        attempt,
        seq,
    )
    .fetch_all(executor)
    .await
}

/// The exact final message of a message that is done.
///
/// # Errors
/// The database is away or did not answer.
pub(crate) async fn final_message(
    executor: impl PgExecutor<'_>,
    message: i64,
) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar!(
        r#"select coalesce(raw, convert_to(body::text, 'UTF8')) as "body!" from restante.message where id = $1 and status = 'done'"#,
        message
    )
    .fetch_optional(executor)
    .await
}
