//! The breaker: which parts of the API do not answer an account, as all workers know it together, and who tries them.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};

use crate::outbox::claim::interval;
use crate::outbox::trouble::KINDS;

/// The breaker of one account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Breaker {
    /// The account.
    pub account: String,
    /// The parts that do not answer; none while it is closed.
    pub parts: Vec<String>,
    /// The kind of the last error.
    pub kind: String,
    /// What the API said last.
    pub said: String,
    /// Since when it is open, in seconds.
    pub open_for_seconds: Option<f64>,
    /// Grows with each part that is added or taken out.
    pub generation: i64,
    /// Events that went into trouble are still to be made due.
    pub is_releasing: bool,
}

impl Breaker {
    /// The kind of the last error, by which events that wait for it are found again.
    pub fn known_kind(&self) -> &'static str {
        KINDS.into_iter().find(|kind| *kind == self.kind).unwrap_or("unavailable")
    }
}

/// What became of the news that a part does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// This worker was the first to say so of any part of the account.
    First,
    /// It is open for this part as well.
    Joined,
    /// Another worker has said so, or the news is older than what the workers know, or somebody has locked the row.
    Not,
}

/// The right to try one event, until its lease runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The event.
    pub event: i64,
    /// With it the try is kept and ended.
    pub token: i64,
}

/// What the end of a try has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All parts answer again, and this worker is the one to say so.
    Closed,
    /// This try is over.
    Over,
    /// Somebody has locked the row: try again.
    Busy,
}

/// How long a try lasts that is not kept, so that one of a worker that vanished is soon over.
pub const PROBE_LEASE: Duration = Duration::from_secs(10);

/// How many events one statement makes due.
const PAGE: i32 = 1000;

/// The breakers of these accounts, as far as there are any.
///
/// # Errors
/// The database is away or did not answer.
pub async fn of(executor: impl PgExecutor<'_>, accounts: &[String]) -> sqlx::Result<Vec<Breaker>> {
    sqlx::query_as!(
        Breaker,
        r#"
        select account, parts, coalesce(kind, '') as "kind!", coalesce(said, '') as "said!", generation, is_releasing,
               extract(epoch from clock_timestamp() - opened_at)::float8 as open_for_seconds
          from restante.api_breaker where account = any ($1)
        "#,
        accounts,
    )
    .fetch_all(executor)
    .await
}

/// The breakers that are open, in words; the first five.
///
/// # Errors
/// The database is away or did not answer.
pub async fn open_ones(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        select format('%s of the account %s, for %s: %s', array_to_string(parts, ', '), account,
                      restante.lasting(clock_timestamp() - opened_at), restante.cause(said)) as "words!"
          from restante.api_breaker where opened_at is not null order by opened_at, account limit 5
        "#
    )
    .fetch_all(executor)
    .await
}

/// Notes that a part does not answer. `generation` is that of the breaker when the worker looked last.
///
/// # Errors
/// The database is away or did not answer.
pub async fn open(
    executor: impl PgExecutor<'_>,
    (account, part): (&str, &str),
    (kind, said): (&str, &str),
    generation: i64,
) -> sqlx::Result<Opened> {
    let became = sqlx::query_scalar!(
        r#"select restante.open_breaker($1, $2, $3, $4, $5) as "became!""#,
        account,
        part,
        kind,
        said,
        generation,
    )
    .fetch_one(executor)
    .await?;
    Ok(match became.as_str() {
        "opened" => Opened::First,
        "joined" => Opened::Joined,
        _ => Opened::Not,
    })
}

/// Takes the try of an account, if it is nobody's now. `waits` is the pattern of the events that need the part.
///
/// # Errors
/// The database is away or did not answer.
pub async fn lease_probe(
    executor: impl PgExecutor<'_>,
    owner: &str,
    (account, part): (&str, &str),
    waits: &str,
) -> sqlx::Result<Option<Probe>> {
    let row = sqlx::query!(
        "select probe_event, probe_token from restante.lease_probe($1, $2, $3, $4, $5)",
        account,
        owner,
        part,
        waits,
        interval(PROBE_LEASE) as _,
    )
    .fetch_one(executor)
    .await?;
    Ok(row.probe_event.zip(row.probe_token).map(|(event, token)| Probe { event, token }))
}

/// Keeps a try that is under way. Returns false if it is another worker's by now.
///
/// # Errors
/// The database is away or did not answer.
pub async fn keep_probe(executor: impl PgExecutor<'_>, account: &str, token: i64) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select restante.keep_probe($1, $2, $3) as "is_kept!""#,
        account,
        token,
        interval(PROBE_LEASE) as _,
    )
    .fetch_one(executor)
    .await
}

/// Ends a try: the part has answered, or it has failed as this says.
///
/// # Errors
/// The database is away or did not answer.
pub async fn end_probe(
    executor: impl PgExecutor<'_>,
    (account, part): (&str, &str),
    token: i64,
    is_answered: bool,
    failure: Option<(&str, &str)>,
) -> sqlx::Result<Ended> {
    let (kind, said) = failure.unzip();
    let became = sqlx::query_scalar!(
        r#"select restante.end_probe($1, $2, $3, $4, $5, $6) as "became!""#,
        account,
        token,
        part,
        is_answered,
        kind,
        said,
    )
    .fetch_one(executor)
    .await?;
    Ok(match became.as_str() {
        "closed" => Ended::Closed,
        "busy" => Ended::Busy,
        _ => Ended::Over,
    })
}

/// Makes events due that went into trouble before the breaker of `account` was closed, page by page. `accounts` are its names in events.
/// Returns how many.
///
/// # Errors
/// The database is away or did not answer.
pub async fn release(connection: &mut PgConnection, account: &str, accounts: &[String]) -> sqlx::Result<u64> {
    let mut released = 0;
    loop {
        let page = sqlx::query_scalar!(
            r#"select restante.release_trouble($1, $2, $3, $4) as "events!""#,
            account,
            accounts,
            &KINDS as &[&str],
            PAGE,
        )
        .fetch_one(&mut *connection)
        .await?;
        released += u64::from(page.unsigned_abs());
        if page < PAGE {
            return Ok(released);
        }
    }
}
