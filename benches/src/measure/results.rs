//! Results: a batch's result lines, from the API into Postgres, complete and checked.

use std::process::Command;
use std::time::{Duration, Instant};

use restante::database;
use restante::internals::envelope;
use restante::internals::outbox::{self, Source};
use secrecy::ExposeSecret;

use super::product;
use crate::Bench;
use crate::cluster::{Cluster, Database, Purpose};
use crate::figures::{Figure, PRODUCT, Table};
use crate::machine::{Usage, peak_memory_mib};
use crate::program::{Program, Runtime, output};
use crate::stand_in::{BATCH, StandIn};

/// How long a download may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures the product, curl to psql and the SDK, all from the same server.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::Timing).await?;
    let stand_in = StandIn::start(bench.scale.result_lines).await?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        figures.push(restante(bench, &cluster, &stand_in, "batch").await?);
        if bench.with_peers {
            figures.push(curl_and_psql(&cluster, &stand_in).await?);
            figures.push(sdk(bench, &cluster, &stand_in).await?);
        }
    }
    if let Some(lines) = bench.scale.many_result_lines {
        let stand_in = StandIn::start(lines).await?;
        figures.push(restante(bench, &cluster, &stand_in, "large batch").await?);
    }
    Ok(Table {
        title: "Results of a batch",
        about: format!(
            "{} lines, {:.0} MB, over plain HTTP from one server for all; the large batch has {} lines of the same kind. Restante stores typed columns and \
             the exact line, and knows at the end that it has every result; curl piped to psql copies each line into one jsonb \
             column, with lz4 where the server has it; the official Python SDK reads each result, dumps it to JSON and \
             writes custom_id, type and message by COPY, in one transaction. Memory is the worker's and the SDK's largest.",
            bench.scale.result_lines,
            stand_in.bytes as f64 / 1e6,
            bench.scale.many_result_lines.unwrap_or(0),
        ),
        compared: Some("lines/s"),
        figures,
    })
}

async fn restante(
    bench: &Bench,
    cluster: &Cluster,
    stand_in: &StandIn,
    point: &str,
) -> anyhow::Result<Figure> {
    let database = cluster.restante().await?;
    database.settle().await?;
    let worker = product::worker(bench, &database, &stand_in.origin)?;
    wait_until(&database, "select count(*) from pg_stat_activity where query ilike 'listen%'").await?;
    let before = Usage::now(std::process::id())?;
    let start = Instant::now();
    let event =
        format!(r#"{{"type":"event","id":"event_01","data":{{"type":"batch.completed","id":"{BATCH}"}}}}"#);
    let pool = database::pool(&database.url, "restante-bench", 1)?;
    outbox::insert_events(&pool, Source::Webhook, &[envelope::read(event.as_bytes(), None, 0)?]).await?;
    outbox::upkeep::notify(&pool).await?;
    wait_until(&database, "select count(*) from restante.batch where complete_at is not null").await?;
    let elapsed = start.elapsed();
    let after = Usage::now(std::process::id())?;
    let peak_mib = peak_memory_mib(worker.pid())?;
    database.expect("select count(distinct custom_id) from restante.batch_result", stand_in.lines).await?;
    // The line ends are the only bytes that are not stored.
    let bytes = stand_in.bytes as usize - stand_in.lines;
    database.expect("select sum(octet_length(line)) from restante.batch_result", bytes).await?;
    worker.stop()?;
    database.drop().await?;
    Ok(figure(point, PRODUCT, stand_in, elapsed, Some(peak_mib), after.foreign_since(&before)))
}

async fn curl_and_psql(cluster: &Cluster, stand_in: &StandIn) -> anyhow::Result<Figure> {
    let database = cluster.empty().await?;
    if database.run("create table result (line jsonb compression lz4 not null)").await.is_err() {
        database.run("create table result (line jsonb not null)").await?;
    }
    database.settle().await?;
    // Quote and delimiter are two bytes that JSON never contains, so each line is one value.
    let copy = r"\copy result from pstdin with (format csv, quote e'\x01', delimiter e'\x02')";
    let before = Usage::now(std::process::id())?;
    let start = Instant::now();
    output(
        Command::new("/bin/sh")
            .args(["-c", r#"curl -sSf "$1" | "$2" -qX -v ON_ERROR_STOP=1 -c "$3" "$4""#, "sh"])
            .arg(stand_in.results_url())
            .arg(cluster.programs().join("psql"))
            .args([copy, database.url.expose_secret()]),
    )?;
    let elapsed = start.elapsed();
    let after = Usage::now(std::process::id())?;
    database.expect("select count(*) from result", stand_in.lines).await?;
    database.drop().await?;
    Ok(figure("batch", "curl to psql", stand_in, elapsed, None, after.foreign_since(&before)))
}

async fn sdk(bench: &Bench, cluster: &Cluster, stand_in: &StandIn) -> anyhow::Result<Figure> {
    let database = cluster.empty().await?;
    let table = "create table result (custom_id text primary key, type text not null, message jsonb";
    if database.run(&format!("{table} compression lz4)")).await.is_err() {
        database.run(&format!("{table})")).await?;
    }
    database.settle().await?;
    let before = Usage::now(std::process::id())?;
    let api = &stand_in.origin;
    let variables = [("ANTHROPIC_BASE_URL", api.as_str()), ("ANTHROPIC_API_KEY", "sk-bench")];
    let mut program =
        Program::start(bench, Runtime::Python, "results_sdk.py", &[BATCH], &database.url, &variables)?;
    let end: f64 = program.wait_line("stored ")?.parse()?;
    let after = Usage::now(std::process::id())?;
    // The SDK's imports take most of a second, and are not counted.
    let begin: f64 = program.wait_line("begin ")?.parse()?;
    let peak_mib: f64 = program.wait_line("peak_mib ")?.parse()?;
    program.finish()?;
    database.expect("select count(*) from result", stand_in.lines).await?;
    database.drop().await?;
    let elapsed = Duration::from_secs_f64((end - begin) / 1000.0);
    Ok(figure("batch", "SDK + COPY", stand_in, elapsed, Some(peak_mib), after.foreign_since(&before)))
}

fn figure(
    point: &str,
    subject: &str,
    stand_in: &StandIn,
    elapsed: Duration,
    peak_mib: Option<f64>,
    foreign: f64,
) -> Figure {
    let seconds = elapsed.as_secs_f64();
    Figure {
        point: point.to_owned(),
        subject: subject.to_owned(),
        values: vec![
            ("lines/s", stand_in.lines as f64 / seconds),
            ("MB/s", stand_in.bytes as f64 / 1e6 / seconds),
            ("seconds", seconds),
            ("peak MiB", peak_mib.unwrap_or(f64::NAN)),
        ],
        foreign,
    }
}

/// Waits until a query counts something.
pub(super) async fn wait_until(database: &Database, count: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while database.number(count).await? == 0.0 {
        anyhow::ensure!(Instant::now() < deadline, "the expected row did not come in time: {count}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
