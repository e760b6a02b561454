//! What is no longer to be kept is deleted, beside everything else that a worker does; so is what a person wants forgotten.
//!
//! Postgres decides who does the next portion, and keeps how far it is: so a worker that vanishes leaves nothing behind, and two
//! workers never do the same. A portion takes some tens of milliseconds. Between two of them the database has time for events.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

use crate::database::{self, Connections};
use crate::outbox::retention::{self, Done, Forgot, Portion};
use crate::telemetry::metric;

/// A pause is so many times as long as the portion before it took: retention has a fifth of one connection.
const PAUSE_FACTOR: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// What people change in `restante.retention` counts so soon.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// A lock that could not be had is tried no sooner than this.
const NEXT_MIN: Duration = Duration::from_millis(100);

/// So many portions of what is to be forgotten follow each other at most, so that the other duties have their turn.
const PORTIONS_MAX: usize = 20;

/// The next portions of what people want forgotten.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn go_on_forgetting(connections: &Connections) -> sqlx::Result<()> {
    let portion = async |connection: &mut PgConnection| retention::forget_portion(connection).await;
    for _ in 0..PORTIONS_MAX {
        match connections.run_to_its_end(portion).await? {
            Forgot::Nothing => break,
            Forgot::Rows(rows) => tracing::debug!(rows, "erased a portion of what a person wants forgotten"),
            Forgot::All => {
                tracing::info!("forgot what a person wanted forgotten: see restante.forget_overview");
            }
        }
    }
    Ok(())
}

/// Goes on with retention for ever.
pub(super) async fn keep_retaining(connections: &Connections) {
    loop {
        let began = Instant::now();
        let portion = async |connection: &mut PgConnection| retention::retain_portion(connection).await;
        let wait = match connections.run_to_its_end(portion).await {
            Ok(portion) => {
                told(&portion);
                wait_after(&portion, began.elapsed())
            }
            Err(error) => {
                let error = database::told(&error);
                tracing::warn!(error, "could not delete what has expired; it is tried again in a minute");
                LOOK_AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

fn wait_after(portion: &Portion, took: Duration) -> Duration {
    match portion.done {
        Done::Step { .. } => (took * PAUSE_FACTOR).clamp(PAUSE_MIN, PAUSE_MAX),
        Done::Nothing | Done::Run => portion.next_in.clamp(NEXT_MIN, LOOK_AGAIN),
    }
}

fn told(portion: &Portion) {
    metrics::gauge!(metric::RETENTION_PENDING_SECONDS).set(portion.pending.as_secs_f64());
    let Portion { rows, weeks, .. } = *portion;
    match &portion.done {
        Done::Nothing => {}
        Done::Step { relation, what } => {
            metrics::counter!(metric::RETENTION_ROWS_TOTAL, "what" => *what).increment(rows);
            if weeks > 0 {
                tracing::info!(
                    week = relation,
                    rows,
                    "dropped a week of the history, as restante.retention says"
                );
            }
        }
        Done::Run if rows > 0 || weeks > 0 => {
            tracing::info!(rows, weeks, "deleted what had expired; restante.operation says of which tables");
        }
        Done::Run => tracing::debug!("nothing had expired"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portion(done: Done) -> Portion {
        Portion { done, rows: 0, weeks: 0, next_in: Duration::from_secs(6 * 3600), pending: Duration::ZERO }
    }

    #[test]
    fn a_pause_is_longer_than_the_portion_before_it_and_a_change_of_the_settings_counts_within_a_minute() {
        let step = portion(Done::Step { relation: "failure".to_owned(), what: "failure" });

        assert_eq!(wait_after(&step, Duration::from_millis(1)), PAUSE_MIN);
        assert_eq!(wait_after(&step, Duration::from_millis(50)), Duration::from_millis(200));
        assert_eq!(wait_after(&step, Duration::from_secs(60)), PAUSE_MAX);
        assert_eq!(wait_after(&portion(Done::Nothing), Duration::ZERO), LOOK_AGAIN);
        let soon = Portion { next_in: Duration::ZERO, ..portion(Done::Run) };
        assert_eq!(wait_after(&soon, Duration::ZERO), NEXT_MIN);
    }
}
