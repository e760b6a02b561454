//! Am I safe? The answers of `restante.health`, the rhythm of senders, and the alarms.

mod alarms;
mod answers;
mod journal;
mod silence;

use restante::internals::outbox::health::{Noted, note_alarms, note_rhythm};

use crate::support::World;

/// The state of the answer to a question.
pub(super) async fn state(world: &World, question: &str) -> String {
    world.value(&format!("select state from restante.health where question = '{question}'")).await
}

/// What workers do twice a minute, as if they had not looked for a minute.
pub async fn look(world: &World) -> Noted {
    while note_rhythm(&world.pool).await.unwrap() {}
    world.sql("update restante.health_look set looked_at = looked_at - interval '1 minute'").await;
    note_alarms(&world.pool).await.unwrap()
}

/// Stores events of a sender that came so long ago, and have been dealt with.
pub(super) async fn came(world: &World, sender: &str, ago: &str) {
    world
        .sql(&format!(
            "insert into restante.outbox (event_id, sender, type, source, payload, status, received_at, finished_at)
             select '{sender}' || row_number() over () || gen_random_uuid(), '{sender}', 'test.ledger', 'webhook', '{{}}', 'done',
                    now() - ago, now()
               from ({ago}) as a (ago)"
        ))
        .await;
}
