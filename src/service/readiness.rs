//! Whether a service can do its work at this moment: it tries, and rolls back.
//!
//! It is not enough that the database answers: a standby answers too, and so does a database that does not let this
//! login write.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::config::Program;
use crate::database;
use crate::event::{ANTHROPIC, Body, NewEvent};
use crate::ops::{Check, Problem};
use crate::outbox::claim::Ask;
use crate::outbox::{self, Source};

/// How long an answer is used again, however many requests come.
const FRESH: Duration = Duration::from_millis(250);

/// How long the try may take. The rest of the second that a check has is for finding out why the try did not end.
const TRY_TIMEOUT: Duration = Duration::from_millis(600);
const WHY_TIMEOUT: Duration = Duration::from_millis(300);

type Outcome = Result<(), Problem>;

/// Holds while the service can do its work: ingest stores events, a worker claims them.
pub(super) fn check(program: Program, pool: PgPool) -> Check {
    let mend = match program {
        Program::Ingest => "Start Postgres, correct DATABASE_URL, or grant restante_ingest to its login",
        _ => "Start Postgres, correct DATABASE_URL, or grant restante_worker to its login",
    };
    let last = Arc::new(Mutex::new(None));
    Check::new("database", mend, move || {
        let (pool, last) = (pool.clone(), Arc::clone(&last));
        async move { unless_fresh(&last, look(program, &pool)).await }
    })
}

/// The last outcome, or a new one if it is too old. Requests that come meanwhile wait for the new one.
async fn unless_fresh(
    last: &Mutex<Option<(Instant, Outcome)>>,
    look: impl Future<Output = Outcome>,
) -> Outcome {
    let mut last = last.lock().await;
    if let Some((at, outcome)) = &*last
        && at.elapsed() < FRESH
    {
        return outcome.clone();
    }
    let outcome = look.await;
    *last = Some((Instant::now(), outcome.clone()));
    outcome
}

async fn look(program: Program, pool: &PgPool) -> Outcome {
    match timeout(TRY_TIMEOUT, database::tried(pool, async |connection| work(program, connection).await))
        .await
    {
        Ok(Ok(())) => Ok(()),
        Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => Err(why_not(pool).await),
        Ok(Err(error)) => Err(sentence(&error)),
    }
}

/// The usual work of the service, with an event of no meaning, or with a claim of no events.
async fn work(program: Program, connection: &mut PgConnection) -> sqlx::Result<()> {
    if program == Program::Ingest {
        let event = NewEvent {
            sender: ANTHROPIC.to_owned(),
            account: Some(ANTHROPIC.to_owned()),
            event_id: format!("readyz:{:032x}", rand::random::<u128>()),
            event_type: "readyz".to_owned(),
            key: None,
            workspace_id: None,
            created_at: chrono::Utc::now(),
            body: Body::Json("{}".to_owned()),
            traceparent: None,
        };
        outbox::insert_events(connection, Source::Webhook, &[event]).await?;
    } else {
        let nothing = Ask {
            owner: "readyz",
            subscribers: &[],
            limit: 0,
            lease: Duration::from_secs(1),
            cursor: None,
            settles: false,
        };
        outbox::claim(connection, nothing).await?;
    }
    Ok(())
}

/// Why the pool gave no connection in time. A new connection outside the pool gets a more precise error.
async fn why_not(pool: &PgPool) -> Problem {
    let options = pool.connect_options();
    let asked = timeout(WHY_TIMEOUT, async {
        let mut connection = options.connect().await?;
        let is_standby = sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(is_standby)
    });
    match asked.await {
        Ok(Ok(true)) => READ_ONLY.into(),
        Ok(Ok(false)) => "the database answers, but every connection of the pool is in use".into(),
        Ok(Err(error)) => sentence(&error),
        Err(_) => "the database does not answer".into(),
    }
}

const READ_ONLY: &str = "the database takes no writes: it is a standby, or read-only";

/// What an error means for the operator. Only the code of the database's message is shown.
fn sentence(error: &sqlx::Error) -> Problem {
    let code = match error {
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return "no server listens at the address of the database".into();
        }
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            return READ_ONLY.into();
        }
        sqlx::Error::Database(error) => error.code().unwrap_or(Cow::Borrowed("-")),
        _ => return "the database does not answer".into(),
    };
    let known = match &*code {
        "25006" => READ_ONLY,
        "42501" => "this login lacks the rights for the work",
        "28P01" | "28000" => "the database refuses the login",
        "3D000" => "the server has no such database",
        "3F000" | "42P01" | "42883" => "the schema restante is missing, or belongs to another release",
        "53100" => "the disk of the database is full",
        "53300" => "the database takes no further connection",
        "57P01" | "57P02" | "57P03" => "the database is starting or stopping",
        _ => return format!("the database refuses the work, with SQLSTATE {code}").into(),
    };
    known.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_cost_one_look_and_a_later_one_looks_again() {
        let last = Mutex::new(None);
        assert_eq!(unless_fresh(&last, async { Err("down".into()) }).await, Err(Problem::from("down")));
        assert_eq!(unless_fresh(&last, async { Ok(()) }).await, Err(Problem::from("down")));

        tokio::time::advance(FRESH).await;

        assert_eq!(unless_fresh(&last, async { Ok(()) }).await, Ok(()));
    }
}
