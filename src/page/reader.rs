//! The page's door to Postgres: short transactions under two roles of their own.
//!
//! What is read is read by `restante_page` in a read-only transaction. What is replayed is replayed by `restante_page_replay`, which
//! may call two functions and cannot read a table. So a fault of the page can show or change no more than these roles may.

use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgRow};
use sqlx::{AssertSqlSafe, PgPool, PgTransaction};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::database::{self, Address};
use crate::outbox::life;

/// How many connections a door has, however many browsers look.
const CONNECTIONS: u32 = 2;

/// How long one statement may take, and wait for a lock. Beside a million waiting events a panel takes some seconds. None takes more
/// than one process of the server: the page is for looking, and what works comes first.
const READS: &str = "set local role restante_page; set local statement_timeout = '10s'; set local lock_timeout = '1s'; \
                     set local max_parallel_workers_per_gather = 0";
const REPLAYS: &str = "set local role restante_page_replay; set local statement_timeout = '10s'";

/// How long a question waits for its answer. After that the database is said not to answer.
const PATIENCE: Duration = Duration::from_secs(12);
const PATIENCE_FOR_REPLAYS: Duration = Duration::from_secs(12);

/// Why there is no answer, as a sentence for the page.
pub(super) type Problem = String;

/// Why something was not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotDone {
    /// What was given cannot be used.
    Given(Problem),
    /// The database, or the login of the page, does not do it, whatever was given.
    Here(Problem),
}

/// A statement to read with, and the texts for its `$1`, `$2`, ...
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) sql: &'static str,
    pub(super) values: Vec<String>,
}

impl Query {
    pub(super) fn new(sql: &'static str) -> Self {
        Self { sql, values: Vec::new() }
    }

    pub(super) fn with(sql: &'static str, values: impl IntoIterator<Item = String>) -> Self {
        Self { sql, values: values.into_iter().collect() }
    }

    /// The statement with its values in it, as a person would paste it. What stands in a value is never taken for a place.
    pub(super) fn to_paste(&self) -> String {
        let mut parts = self.sql.split('$');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (place, rest) = part.split_at(digits);
            let value = place.parse::<usize>().ok().and_then(|place| self.values.get(place.checked_sub(1)?));
            match value {
                Some(value) => text += &format!("'{}'{rest}", value.replace('\'', "''")),
                None => text += &format!("${part}"),
            }
        }
        text
    }
}

pub(super) struct Reader {
    pool: PgPool,
    _kept: AbortOnDropHandle<()>,
}

impl Reader {
    /// # Errors
    /// As for [`database::pool`].
    pub(super) fn new(address: &Address) -> Result<Self, database::Error> {
        let pool = database::pool(&address.now(), "restante page", CONNECTIONS)?;
        Ok(Self { _kept: database::keep_at(&pool, address)?, pool })
    }

    /// Whether this login may read for the page. It is asked without an error in the log of the server, which nobody has to mend if
    /// nobody uses the page.
    pub(super) async fn may_read(&self) -> bool {
        const MAY_READ: &str = "select exists (select from pg_roles as r where r.rolname = 'restante_page' and pg_has_role(r.oid, 'member'))";
        in_time(PATIENCE, sqlx::query_scalar(MAY_READ).fetch_one(&self.pool)).await.unwrap_or(false)
    }

    /// The rows of a query.
    pub(super) async fn rows(&self, query: &Query) -> Result<Vec<PgRow>, Problem> {
        let read = async {
            let mut transaction = self.begin().await?;
            let mut statement = sqlx::query(query.sql);
            for value in &query.values {
                statement = statement.bind(value);
            }
            let found = statement.fetch_all(&mut *transaction).await?;
            transaction.rollback().await?;
            Ok(found)
        };
        in_time(PATIENCE, read).await
    }

    /// The rows of each of several statements, as text, of one moment.
    pub(super) async fn texts(&self, statements: &[String]) -> Result<Vec<Vec<PgRow>>, Problem> {
        let read = async {
            let mut transaction = self.begin().await?;
            let mut found = Vec::new();
            for statement in statements {
                // The simple protocol gives every value as the text that a person would see.
                found.push(
                    sqlx::raw_sql(AssertSqlSafe(statement.as_str())).fetch_all(&mut *transaction).await?,
                );
            }
            transaction.rollback().await?;
            Ok(found)
        };
        in_time(PATIENCE, read).await
    }

    /// The rows of the event of which one has this number.
    pub(super) async fn event(&self, id: i64) -> Result<Vec<life::Row>, Problem> {
        let read = async {
            let mut transaction = self.begin().await?;
            let found = life::of_number(&mut transaction, id).await?;
            transaction.rollback().await?;
            Ok(found)
        };
        in_time(PATIENCE, read).await
    }

    /// A transaction that cannot write, with the rights of what the page shows.
    async fn begin(&self) -> sqlx::Result<PgTransaction<'static>> {
        let mut transaction = self.pool.begin_with("begin isolation level repeatable read read only").await?;
        sqlx::raw_sql(READS).execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// What a statement that replays returns, in a text. It is committed when this returns.
    pub(super) async fn replay(&self, query: &Query) -> Result<String, NotDone> {
        let replay = async {
            let mut transaction = self.pool.begin().await?;
            sqlx::raw_sql(REPLAYS).execute(&mut *transaction).await?;
            let mut statement = sqlx::query_scalar(query.sql);
            for value in &query.values {
                statement = statement.bind(value);
            }
            let said: String = statement.fetch_one(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(said)
        };
        timed(PATIENCE_FOR_REPLAYS, replay).await.map_err(|error| match error.as_ref().and_then(refused) {
            Some(problem) => NotDone::Given(problem),
            None => NotDone::Here(error.as_ref().map_or_else(no_answer, sentence)),
        })
    }
}

async fn in_time<T>(patience: Duration, work: impl Future<Output = sqlx::Result<T>>) -> Result<T, Problem> {
    timed(patience, work).await.map_err(|error| error.as_ref().map_or_else(no_answer, sentence))
}

/// The error is none if the time ran out.
async fn timed<T>(
    patience: Duration,
    work: impl Future<Output = sqlx::Result<T>>,
) -> Result<T, Option<sqlx::Error>> {
    match timeout(patience, work).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => Err(None),
        Ok(Err(error)) => Err(Some(error)),
    }
}

fn no_answer() -> Problem {
    "The database does not answer.".to_owned()
}

/// What our functions say of arguments that they do not take. Postgres has the same code for a role that is not there, but its words do
/// not begin with our name.
fn refused(error: &sqlx::Error) -> Option<Problem> {
    let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    let said = error.message().strip_prefix("restante").filter(|_| error.code() == "22023")?;
    let (_, said) = said.split_once(": ")?;
    Some(format!("Not done: {said}. {}", error.hint().unwrap_or_default()).trim_end().to_owned())
}

fn sentence(error: &sqlx::Error) -> Problem {
    let told = database::told(error);
    match error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() {
        // Undefined role, or no member of it.
        Some("22023" | "42501") => {
            format!(
                "The login of the page lacks a right: {told}. Let `restante migrate` finish, then grant restante_page (and \
                 restante_page_replay, to replay) to the login of RESTANTE_OPS_DATABASE_URL."
            )
        }
        Some("57014") => "It takes the database more than 10 s to answer this.".to_owned(),
        Some("55P03") => {
            "Somebody has locked what this reads: see pg_stat_activity for a transaction that is left open."
                .to_owned()
        }
        Some("3F000" | "42P01" | "42883") => {
            format!("The schema is missing or older: {told}. Run `restante migrate`.")
        }
        _ if database::is_unavailable(error) => no_answer(),
        _ => format!("The database refuses this: {told}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_has_its_values_and_a_quote_stays_a_part_of_them() {
        let query = Query::with("select $1, $2::bigint", ["it's".to_owned(), "7".to_owned()]);
        assert_eq!(query.to_paste(), "select 'it''s', '7'::bigint");
    }

    #[test]
    fn a_value_that_looks_like_a_place_is_pasted_as_it_is() {
        let values = ["'; drop table orders; --", "$1", "$3 $$ $x"].map(str::to_owned);
        assert_eq!(
            Query::with("select $1, $2, $3", values).to_paste(),
            "select '''; drop table orders; --', '$1', '$3 $$ $x'"
        );
    }
}
