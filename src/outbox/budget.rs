//! The budget of calls toward the API: a row for each account and class of call.

use std::time::Duration;

use sqlx::PgExecutor;

use crate::outbox::claim::interval;

/// Places for calls that follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Places {
    /// Somebody else holds the budget at this moment.
    pub is_busy: bool,
    /// How many there are.
    pub granted: u32,
    /// How long it is until the first.
    pub starts_in: Duration,
    /// Their pace; `None` if no limit is known.
    pub per_second: Option<f64>,
}

/// What answers of the API told.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The limit on requests that the headers name.
    pub limit_per_second: Option<f64>,
    /// How many calls a second the process makes.
    pub seen_per_second: f64,
    /// The answer was a 429.
    pub is_limited: bool,
    /// How long the API wants no calls.
    pub wait: Option<Duration>,
    /// The API answers again after trouble.
    pub is_recovered: bool,
    /// The limit on the scarcest kind of token, and how many are left of it.
    pub tokens: Option<(i64, i64)>,
}

/// Leases the next places for so many calls, as far as they lie within `ahead`.
///
/// # Errors
/// The database is away or did not answer.
pub async fn lease(
    executor: impl PgExecutor<'_>,
    account: &str,
    class: &str,
    wanted: u32,
    ahead: Duration,
) -> sqlx::Result<Places> {
    let row = sqlx::query!(
        r#"select is_busy as "is_busy!", granted as "granted!", starts_in_seconds as "starts_in_seconds!", pace_per_second
             from restante.lease_calls($1, $2, $3, $4)"#,
        account,
        class,
        i32::try_from(wanted).unwrap_or(i32::MAX),
        interval(ahead) as _,
    )
    .fetch_one(executor)
    .await?;
    Ok(Places {
        is_busy: row.is_busy,
        granted: u32::try_from(row.granted).unwrap_or(0),
        starts_in: Duration::try_from_secs_f64(row.starts_in_seconds).unwrap_or_default(),
        per_second: row.pace_per_second,
    })
}

/// What the calls of each account and class used of their limit, in words; the busiest five.
///
/// # Errors
/// The database is away or did not answer.
pub async fn in_words(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        select format('%s of %s: limit %s/s, pace %s/s, %s in the last minute, %s times limited', class, account,
                      coalesce(round(limit_per_second::numeric, 2)::text, '?'), coalesce(round(pace_per_second::numeric, 2)::text, '?'),
                      used_last_minute, times_limited) as "words!"
          from restante.governor_overview order by used_last_minute desc, account, class limit 5
        "#
    )
    .fetch_all(executor)
    .await
}

/// Notes what answers told. Returns whether it could: a budget that somebody else holds is left.
///
/// # Errors
/// The database is away or did not answer.
pub async fn note(
    executor: impl PgExecutor<'_>,
    account: &str,
    class: &str,
    told: Told,
) -> sqlx::Result<bool> {
    let (tokens_limit, tokens_left) = told.tokens.unzip();
    sqlx::query_scalar!(
        r#"select restante.note_limit($1, $2, $3, $4, $5, $6, $7, $8, $9) as "noted!""#,
        account,
        class,
        told.limit_per_second,
        told.seen_per_second,
        told.is_limited,
        told.wait.map(interval) as _,
        told.is_recovered,
        tokens_limit,
        tokens_left,
    )
    .fetch_one(executor)
    .await
}
