//! What a worker does so that an operator knows whether all is well: the rhythm of senders, alarms, and gauges.

use sqlx::PgConnection;

use crate::database::Connections;
use crate::outbox::health::{self, Noted, State};
use crate::telemetry;

/// So many pages of new events are read in one look at most, so that the other duties have their turn.
const PAGES_MAX: usize = 10;

/// Learns how often each sender sends, raises and clears alarms, and sets the gauges.
///
/// # Errors
/// The database is away or did not answer.
pub(super) async fn look(connections: &Connections) -> sqlx::Result<()> {
    let page = async |connection: &mut PgConnection| health::note_rhythm(connection).await;
    for _ in 0..PAGES_MAX {
        if !connections.run_to_its_end(page).await? {
            break;
        }
    }
    let look = async |connection: &mut PgConnection| {
        let noted = health::note_alarms(&mut *connection).await?;
        Ok((noted, health::answers(connection).await?))
    };
    let (Noted { raised, cleared }, answers) = connections.run_to_its_end(look).await?;
    for answer in answers {
        let is_safe = if answer.state == State::Act { 0.0 } else { 1.0 };
        metrics::gauge!(telemetry::metric::HEALTH, "question" => answer.question).set(is_safe);
    }
    if raised > 0 {
        tracing::warn!(alarms = raised, "an operator should act: see restante.health");
    }
    if cleared > 0 {
        tracing::info!(
            alarms = cleared,
            "what an operator should have acted on is good again: see restante.health_alarm"
        );
    }
    Ok(())
}
