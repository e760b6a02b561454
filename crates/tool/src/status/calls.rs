//! How many calls go to the API.

use serde::Serialize;
use sqlx::{FromRow, PgConnection};

/// How many classes of call are listed at most.
const CALLS_MAX: i64 = 6;

/// How many calls go to the API for an account and class of call.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(super) struct Calls {
    pub(super) account: String,
    pub(super) class: String,
    /// Calls a second that the API allows; null where it has named no limit.
    pub(super) limit_per_second: Option<f64>,
    /// Calls a second at present; null where no limit is known.
    pub(super) pace_per_second: Option<f64>,
    /// Places for calls that were leased in the last minute.
    pub(super) used_last_minute: i64,
    /// How often the API answered 429.
    pub(super) times_limited: i64,
    /// Why not more, in words.
    pub(super) stands: String,
}

/// Those with the most calls in the last minute.
pub(super) async fn look(tx: &mut PgConnection) -> sqlx::Result<Vec<Calls>> {
    sqlx::query_as(
        "select account, class, limit_per_second, pace_per_second, used_last_minute, times_limited, stands
           from restante.governor_overview order by used_last_minute desc, account, class limit $1",
    )
    .bind(CALLS_MAX)
    .fetch_all(tx)
    .await
}

/// How many there are besides.
pub(super) async fn not_listed(tx: &mut PgConnection) -> sqlx::Result<i64> {
    let known: i64 = sqlx::query_scalar("select count(*) from restante.api_budget").fetch_one(tx).await?;
    Ok((known - CALLS_MAX).max(0))
}
