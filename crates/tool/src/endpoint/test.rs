//! `restante endpoint test`: sends one notification, and waits for how it ends.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

/// How often to look, and for how long: longer than an endpoint may take to answer.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);

/// How the attempt ended.
#[derive(sqlx::FromRow)]
struct Delivery {
    milliseconds: i64,
    status: Option<i32>,
    error: Option<String>,
    answer: Option<String>,
}

/// Sends a notification, and prints how it was answered.
///
/// # Errors
/// If there is no such endpoint, or it is disabled; if no worker has sent the notification within a minute.
pub(super) async fn run(connection: &mut PgConnection, name: &str) -> anyhow::Result<ExitCode> {
    let event_id: String = sqlx::query_scalar("select restante.test_endpoint($1)")
        .bind(name)
        .fetch_one(&mut *connection)
        .await?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(delivery) = delivery(connection, name, &event_id).await? {
            return Ok(shown(name, &event_id, &delivery));
        }
        let status: Option<String> =
            sqlx::query_scalar("select status from restante.endpoint where name = $1")
                .bind(name)
                .fetch_optional(&mut *connection)
                .await?;
        if status.as_deref() == Some("disabled") {
            bail!(
                "{name} is disabled: the test is parked with the rest, until `restante endpoint enable {name}`"
            );
        }
        sleep(LOOK_EVERY).await;
    }
    bail!(
        "no worker has sent it within {} s: does one run? The test stays in the outbox as {event_id}",
        PATIENCE.as_secs()
    );
}

async fn delivery(
    connection: &mut PgConnection,
    name: &str,
    event_id: &str,
) -> sqlx::Result<Option<Delivery>> {
    sqlx::query_as(
        "select (extract(epoch from took) * 1000)::bigint as milliseconds, status, error, answer
           from restante.endpoint_delivery
          where endpoint = $1 and delivered_at > now() - interval '1 hour' and event_id = $2 order by id limit 1",
    )
    .bind(name)
    .bind(event_id)
    .fetch_optional(connection)
    .await
}

fn shown(name: &str, event_id: &str, delivery: &Delivery) -> ExitCode {
    let Delivery { milliseconds, status, error, answer } = delivery;
    let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    println!("{name}: {status} after {milliseconds} ms, webhook-id {event_id}");
    if let Some(error) = error {
        println!("It was not taken: {error}");
    }
    if let Some(answer) = answer.as_deref().filter(|answer| !answer.is_empty()) {
        println!("It said: {answer}");
    }
    if error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
