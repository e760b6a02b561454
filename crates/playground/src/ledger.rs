//! A handler that writes a line for each run, so that tests can count effects and see their order.

#![expect(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

use std::time::Duration;

use restante::handler::{self, Context, Error, Handler};
use restante::retry;
use serde::Deserialize;
use sqlx::PgPool;

/// Does what the event's payload says, and writes one line into the table `ledger` in the event's transaction.
#[derive(Debug)]
pub struct Ledger;

/// What an event tells the ledger's handler to do.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Play {
    /// Fail the attempts before this number, after writing.
    fail_until_attempt: i32,
    /// Return a permanent error, after writing.
    permanent: bool,
    /// Snooze on the first run only, without writing.
    snooze: bool,
    /// Panic, after writing.
    panic: bool,
    /// Never return, after writing.
    hang: bool,
}

impl Handler for Ledger {
    const EVENT_TYPES: &'static [&'static str] = &["test.ledger", "session.*"];
    const TIMEOUT: Duration = Duration::from_secs(3);
    const RETRY: retry::Policy =
        retry::Policy { max_attempts: 3, first: Duration::from_secs(60), cap: Duration::from_secs(60) };
    type Payload = Play;

    async fn handle(&self, cx: &mut Context<'_>, play: Play) -> handler::Result {
        let event = cx.event;
        if play.snooze {
            let mut checkpoint = cx.checkpoint().await?;
            let first = sqlx::query("insert into snoozed values ($1) on conflict do nothing")
                .bind(&event.event_id)
                .execute(&mut *checkpoint)
                .await?;
            checkpoint.commit().await?;
            if first.rows_affected() == 1 {
                return Err(Error::Snooze(Duration::from_secs(60), "told that it is too early".into()));
            }
        }
        sqlx::query("insert into ledger (event_id, key, subscriber, attempt) values ($1, $2, $3, $4)")
            .bind(&event.event_id)
            .bind(&event.key)
            .bind(&event.subscriber)
            .bind(event.attempt)
            .execute(cx.tx().await?)
            .await?;
        if play.hang {
            std::future::pending::<()>().await;
        }
        assert!(!play.panic, "told to panic");
        if play.permanent {
            return Err(Error::Permanent(anyhow::anyhow!("told that it will never work")));
        }
        if event.attempt < play.fail_until_attempt {
            return Err(Error::Retryable(anyhow::anyhow!("told to fail")));
        }
        Ok(())
    }
}

/// Makes the tables that [`Ledger`] writes to.
pub(crate) async fn make_tables(pool: &PgPool) {
    sqlx::raw_sql(
        "create table ledger (line bigint generated always as identity, event_id text, key text, subscriber text,
                              attempt integer, written_at timestamptz default clock_timestamp());
         create table snoozed (event_id text primary key)",
    )
    .execute(pool)
    .await
    .unwrap();
}

/// The events with a line in the ledger, in the order of the lines.
pub(crate) async fn ledger(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select event_id from ledger order by line").fetch_all(pool).await.unwrap()
}
