//! Flat: what an event costs with a long history and with large backlogs.

use super::{counting, product};
use crate::Bench;
use crate::cluster::{Cluster, Database};
use crate::figures::{Figure, Table};

/// Measures claiming and settling in each state of the outbox.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = counting::start(bench).await?;
    let mut figures = Vec::new();
    for state in [State::Empty, State::History, State::Waiting, State::OneKey, State::Retry] {
        figures.push(in_state(bench, &cluster, state).await?);
    }
    let scale = &bench.scale;
    Ok(Table {
        title: "Flat",
        about: format!(
            "What claiming and settling cost the server for each of {} events, counted by pg_stat_statements (whole pages in \
             the WAL are off): in an empty outbox; beside {} finished rows; of {} that wait; beside {} that wait behind one \
             key, which are worked off too; beside {} in retry.",
            scale.counted, scale.history, scale.backlog, scale.one_key, scale.backlog
        ),
        compared: None,
        figures,
    })
}

#[derive(Clone, Copy)]
enum State {
    Empty,
    History,
    Waiting,
    OneKey,
    Retry,
}

async fn in_state(bench: &Bench, cluster: &Cluster, state: State) -> anyhow::Result<Figure> {
    let (database, entered) = counting::database(cluster).await?;
    let scale = &bench.scale;
    let point = match state {
        State::Empty => "empty",
        State::History => {
            fill_history(&database, scale.history).await?;
            "history"
        }
        State::Waiting => {
            product::fill(bench, &database, scale.backlog, 1)?;
            "waiting"
        }
        State::OneKey => {
            product::fill(bench, &database, scale.one_key, scale.one_key)?;
            "blocked behind one key"
        }
        State::Retry => {
            product::fill(bench, &database, scale.backlog, 1)?;
            database
                .run(
                    "set session_replication_role = replica;
                     update restante.outbox_live set status = 'retry', lane = 'l', run_at = now() + interval '1 day';
                     reset session_replication_role",
                )
                .await?;
            "in retry"
        }
    };
    // More than the warm-up and the events claimed ahead take, so that no worker runs out of events.
    product::fill(bench, &database, scale.counted * 2 + 4_000, 1)?;
    database.settle().await?;
    let figure = counting::work_off(bench, &entered, point, scale.counted).await?;
    database.drop().await?;
    Ok(figure)
}

/// Makes finished rows as a worker would have left them within this week, in the partition where new ones go.
async fn fill_history(database: &Database, count: usize) -> anyhow::Result<()> {
    database
        .run(&format!(
            "set session_replication_role = replica;
             insert into restante.outbox_seen (event_id)
             select 'event_00' || md5(n::text) from generate_series(1, {count}) as n;
             insert into restante.outbox (event_id, type, key, source, created_at, payload, status, lane, attempt, lease_token,
                                          lease_owner, finished_at)
             select 'event_00' || md5(n::text), 'bench.event', 'sesn_00' || md5(n::text), 'webhook', now(),
                    json_build_object('type', 'event', 'note', repeat('x', 300)), 'done', 'f', 1, 2, 'bench', clock_timestamp()
               from generate_series(1, {count}) as n;
             reset session_replication_role"
        ))
        .await
}
