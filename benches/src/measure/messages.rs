//! Messages: many streams at once with partial text, and what the database does for each event that is shown.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Row};

use super::product;
use super::results::wait_until;
use crate::Bench;
use crate::cluster::{Cluster, Database, Purpose};
use crate::figures::{Figure, PRODUCT, Table};
use crate::machine::{Usage, peak_memory_mib};
use crate::program::{Program, Runtime, free_address};

/// How many streams there are at once.
const STREAMS: usize = 200;
/// How long the simulated API waits before each event of a stream; a model writes about as fast.
const PAUSE_MILLISECONDS: &str = "40";
/// The text of an answer, in bytes: some 64 deltas.
const TEXT_BYTES: &str = "4000";
/// Longer than the streams can take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures the same messages with and without partial text.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::Counting).await?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        figures.push(streamed(bench, &cluster, true).await?);
        figures.push(streamed(bench, &cluster, false).await?);
    }
    Ok(Table {
        title: "Messages",
        about: format!(
            "{} messages, {STREAMS} streams at once in one worker, from a simulated API in a process of its own that sends an event \
             of each every {PAUSE_MILLISECONDS} ms. With partial text, every event is in restante.message_chunk within about 100 ms; \
             a row has the events of one stream since the last insert. The cost of an event is that of the inserts alone, as \
             pg_stat_statements counts it, without whole pages in the WAL. Memory is the worker's largest.",
            messages(bench)
        ),
        compared: None,
        figures,
    })
}

fn messages(bench: &Bench) -> usize {
    STREAMS * bench.scale.message_rounds
}

async fn streamed(bench: &Bench, cluster: &Cluster, partial: bool) -> anyhow::Result<Figure> {
    let count = messages(bench);
    let database = cluster.restante().await?;
    database.run("create extension pg_stat_statements").await?;
    let address = free_address()?;
    let listen = address.to_string();
    let arguments = [
        "simulate",
        "--listen",
        &listen,
        "--seed",
        "7",
        "--text-bytes",
        TEXT_BYTES,
        "--stream-pause-milliseconds",
        PAUSE_MILLISECONDS,
    ];
    let mut api = Program::start(bench, Runtime::Product, "restante", &arguments, &database.url, &[])?;
    api.wait_listening(address)?;
    let streams = STREAMS.to_string();
    let worker = product::worker_with(
        bench,
        &database,
        &format!("http://{address}"),
        &[("RESTANTE_CONCURRENCY", &streams)],
    )?;
    wait_until(&database, "select count(*) from pg_stat_activity where query ilike 'listen%'").await?;
    database.run("select pg_stat_statements_reset()").await?;

    let before = Usage::now(std::process::id())?;
    let start = Instant::now();
    database.run(&send(count, partial)).await?;
    let all = format!("select (count(*) = {count})::int from restante.message where status = 'done'");
    let deadline = start + PATIENCE;
    while database.number(&all).await? == 0.0 {
        anyhow::ensure!(Instant::now() < deadline, "not every message was answered in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let foreign = Usage::now(std::process::id())?.foreign_since(&before);
    let peak_mib = peak_memory_mib(worker.pid())?;
    database.expect("select count(*) from restante.message_attempt where outcome <> 'answered'", 0).await?;

    let mut values =
        vec![("messages/s", count as f64 / seconds), ("seconds", seconds), ("peak MiB", peak_mib)];
    if partial {
        values.extend(cost(&database).await?);
    }
    worker.stop()?;
    api.stop()?;
    database.drop().await?;
    Ok(Figure {
        point: if partial { "with partial text" } else { "without" }.to_owned(),
        subject: PRODUCT.to_owned(),
        values,
        foreign,
    })
}

/// One transaction that sends all messages.
fn send(count: usize, partial: bool) -> String {
    let request = r#"{"model": "claude-opus-5-5", "max_tokens": 4000, "messages": [{"role": "user", "content": "Tell me a story."}]}"#;
    format!(
        "select restante.send_message('{request}', partial => {partial}) from generate_series(1, {count})"
    )
}

/// What the inserts of partial text have cost.
async fn cost(database: &Database) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let query = "with shown as (
                   select count(*)::float8 as rows, sum(json_array_length(events))::float8 as events from restante.message_chunk)
                 select shown.rows, shown.events, s.calls::float8 as inserts, s.wal_bytes::float8 as wal,
                        s.total_exec_time::float8 * 1000 as microseconds
                   from shown, pg_stat_statements as s where s.query like '%insert into restante.message_chunk%'";
    let row = sqlx::query(AssertSqlSafe(query)).fetch_one(&database.pool).await?;
    let of = |column: &str| row.get::<f64, _>(column);
    Ok(vec![
        ("events", of("events")),
        ("events/row", of("events") / of("rows")),
        ("rows/insert", of("rows") / of("inserts")),
        ("WAL B/event", of("wal") / of("events")),
        ("µs/event", of("microseconds") / of("events")),
    ])
}
