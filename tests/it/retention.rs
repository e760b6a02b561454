//! Retention: what nobody wants kept goes by itself, and nothing else does.

mod beside;
mod events;
mod tables;

use restante::internals::outbox::retention::{Done, Portion, retain_portion};

use crate::support::World;

/// Goes through everything that is due. Returns the end of the run, which has its sums.
async fn retain(world: &World) -> Portion {
    loop {
        let portion = retain_portion(&world.pool).await.unwrap();
        match portion.done {
            Done::Run => return portion,
            // The first look only notes what there is to go through, and a week that waits for a lock is tried again.
            Done::Step { .. } | Done::Nothing => {}
        }
    }
}

/// Makes a week of the history as a worker would have, years ago.
async fn make_week(world: &World, name: &str, from: &str, to: &str) {
    world
        .sql(&format!(
            "create table restante.{name} partition of restante.outbox for values from ('{from}') to ('{to}')"
        ))
        .await;
    world.sql(&format!("create unique index {name}_id on restante.{name} (id)")).await;
    world.sql(&format!("create index {name}_event on restante.{name} (event_id)")).await;
}

/// The first week of October 2025.
const WEEK: &str = "outbox_2025w40";

async fn old_week(world: &World) {
    make_week(world, WEEK, "2025-09-29 00:00+00", "2025-10-06 00:00+00").await;
}

/// Stores events that were received and finished then. Returns nothing; `event_id` is the name with the number.
async fn finished(world: &World, name: &str, events: i64, event_type: &str, status: &str, at: &str) {
    world
        .sql(&format!(
            "with stored as (
               insert into restante.outbox (event_id, type, payload, status, lane, received_at, finished_at)
               select '{name}' || n, '{event_type}', '{{}}', '{status}', 'f', '{at}', '{at}' from generate_series(1, {events}) as n
               returning event_id, received_at)
             insert into restante.outbox_seen (event_id, seen_at) select event_id, received_at from stored"
        ))
        .await;
}

/// How many events of a name there are in the history.
async fn left_of(world: &World, name: &str) -> String {
    world.value(&format!("select count(*) from restante.outbox where event_id ~ '^{name}\\d+$'")).await
}

async fn is_there(world: &World, relation: &str) -> bool {
    world.value(&format!("select to_regclass('restante.{relation}') is not null")).await == "true"
}

/// Keeps finished events for so long, whatever became of them.
async fn keep_events(world: &World, keep: &str) {
    world.sql(&format!("update restante.retention set keep = '{keep}' where what = 'event'")).await;
}
