//! The doctor examines what a session keeps: its settings, and its notifications.

use std::time::Duration;

use secrecy::SecretString;
use sqlx::postgres::PgListener;
use tokio::time::timeout;

use super::NAME;
use super::check::{Check, Database, Needs};
use super::finding::Finding;
use restante::database;

pub(super) const CHECKS: &[Check] = &[
    Check { subject: "sessions", needs: Needs::Server, ask: |database| Box::pin(sessions(database)) },
    Check {
        subject: "notifications",
        needs: Needs::Server,
        ask: |database| Box::pin(notifications(database)),
    },
];

/// How long a notification may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The share of the queue of notifications that may be in use.
const QUEUE_SHARE_MAX: f64 = 0.5;

/// Checks that no pooler in transaction mode drops the settings of a session.
async fn sessions(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    match database::keeps_session(&database.url, NAME).await {
        Ok(()) => Ok(vec![Finding::fine("sessions", "are kept from one statement to the next")]),
        Err(database::Error::TransactionPooler) => Ok(vec![Finding::wrong(
            "sessions",
            "are lost between transactions: there is a pooler in transaction mode, and the services refuse to start",
            "settings, prepared statements and locks of a session are then those of somebody else",
            "connect past the pooler, or set its pool_mode to session for this database",
        )]),
        Err(database::Error::Query(error)) => Err(error),
        Err(error) => Err(sqlx::Error::Configuration(error.into())),
    }
}

/// If a notification does not come back, a pooler gives each transaction another connection.
async fn notifications(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    // A standby has none, and the services do not use it.
    let (is_standby, used): (bool, f64) =
        sqlx::query_as("select pg_is_in_recovery(), case when pg_is_in_recovery() then 0 else pg_notification_queue_usage() end")
            .fetch_one(&mut database.connection)
            .await?;
    if is_standby {
        return Ok(Vec::new());
    }
    let arrived = match timeout(PATIENCE, notify_ourselves(&database.url)).await {
        Ok(arrived) => arrived.map(|()| true)?,
        Err(_) => false,
    };
    Ok(std::iter::once(judge(arrived)).chain(judge_queue(used)).collect())
}

fn judge(arrived: bool) -> Finding {
    if arrived {
        return Finding::fine("notifications", "arrive: workers are woken at once");
    }
    Finding::wrong(
        "notifications",
        format!("did not arrive within {} s", PATIENCE.as_secs()),
        "each event then waits for the next poll of a worker",
        "connect the worker past the pooler, or with one in session mode",
    )
}

/// `None` if there is room.
fn judge_queue(used: f64) -> Option<Finding> {
    if used < QUEUE_SHARE_MAX {
        return None;
    }
    Some(Finding::wrong(
        "notifications",
        format!("{:.0} % of their queue is in use", used * 100.0),
        "once the queue is full, every transaction that notifies fails, and so does every delivery",
        "end the transaction of the session that listens and does not read: select pid, xact_start, query from \
         pg_stat_activity order by xact_start",
    ))
}

async fn notify_ourselves(url: &SecretString) -> sqlx::Result<()> {
    let pool = database::pool(url, NAME, 2).map_err(|error| sqlx::Error::Configuration(Box::new(error)))?;
    let channel = format!("restante_doctor_{:016x}", rand::random::<u64>());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&channel).await?;
    sqlx::query("select pg_notify($1, '')").bind(&channel).execute(&pool).await?;
    listener.recv().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_notification_that_does_not_come_back_is_wrong() {
        assert_eq!(judge(true).verdict, Verdict::Fine);
        assert!(judge(false).says.contains("did not arrive within 3 s"));
    }

    #[test]
    fn a_queue_of_notifications_that_fills_up_is_wrong() {
        assert_eq!(judge_queue(0.1), None);
        assert!(judge_queue(0.8).unwrap().says.starts_with("80 %"));
    }
}
