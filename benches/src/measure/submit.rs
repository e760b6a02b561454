//! Submit: the requests of a batch, from rows of Postgres to the API, until the API has accepted them.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::product;
use super::results::wait_until;
use crate::Bench;
use crate::cluster::{Cluster, Database, Purpose};
use crate::figures::{Figure, PRODUCT, Table};
use crate::machine::{Usage, peak_memory_mib};
use crate::program::{Program, Runtime, free_address, output};
use crate::requests::Requests;

/// The name of the submission.
const NAME: &str = "bench";

/// What Postgres knows of the requests when they are submitted.
#[derive(Clone, Copy, Debug)]
enum Rows {
    /// Nothing yet: they are submitted right after they were written.
    JustWritten,
    /// That none of them has a part. Autovacuum comes to this if they lie for a minute.
    Analyzed,
}

/// Measures the product and the SDK. Each figure has a simulated API of its own, because that keeps every batch in memory.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::Timing).await?;
    let requests = Requests::write(bench.scale.submitted)?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        figures.push(restante(bench, &cluster, &requests, Rows::JustWritten).await?);
        if bench.with_peers {
            figures.push(sdk(bench, &cluster, &requests).await?);
        }
    }
    if let Some(count) = bench.scale.submitted_analyzed {
        let requests = Requests::write(count)?;
        figures.push(restante(bench, &cluster, &requests, Rows::Analyzed).await?);
    }
    let analyzed = bench.scale.submitted_analyzed.map(|count| {
        format!(
            " The requests were written right before; at `analyzed before` there are {count} of the same kind, of which Postgres \
             has statistics from before they were submitted."
        )
    });
    let analyzed = analyzed.unwrap_or_default();
    Ok(Table {
        title: "Submitting a batch",
        about: format!(
            "{} requests, {:.0} MB, over plain HTTP to a simulated API in a process of its own, which checks every request before it \
             answers. Restante has the requests as rows, and the time is from the call of restante.submit_batch to the commit that \
             stores the id of the batch with them; the official Python SDK has them in a file of JSON lines, and the time is from \
             before it reads them into a list to the return of batches.create, of which nothing is stored. Memory is the worker's \
             and the SDK's largest.{analyzed}",
            requests.count,
            requests.bytes as f64 / 1e6,
        ),
        compared: Some("requests/s"),
        figures,
    })
}

async fn restante(
    bench: &Bench,
    cluster: &Cluster,
    requests: &Requests,
    rows: Rows,
) -> anyhow::Result<Figure> {
    let database = cluster.restante().await?;
    // Autovacuum would turn one kind of point into the other at a moment of its own choice.
    database.run("alter table restante.batch_request set (autovacuum_enabled = off)").await?;
    requests.copy_into(&database, NAME).await?;
    match rows {
        Rows::JustWritten => database.run("checkpoint").await?,
        Rows::Analyzed => database.settle().await?,
    }
    let api = Api::start(bench, &database)?;
    let worker = product::worker(bench, &database, &api.origin)?;
    wait_until(&database, "select count(*) from pg_stat_activity where query ilike 'listen%'").await?;
    let before = Usage::now(std::process::id())?;
    let start = Instant::now();
    database.run(&format!("select restante.submit_batch(name => '{NAME}')")).await?;
    wait_until(&database, "select count(*) from restante.submission_part where batch_id is not null").await?;
    let elapsed = start.elapsed();
    let after = Usage::now(std::process::id())?;
    let peak_mib = peak_memory_mib(worker.pid())?;
    let batch: String =
        sqlx::query_scalar("select batch_id from restante.submission_part").fetch_one(&database.pool).await?;
    let submitted = "select count(*) from restante.batch_request as r join restante.submission_part as p \
                     on r.batch_id = p.batch_id where r.status = 'submitted'";
    database.expect(submitted, requests.count).await?;
    api.expect(&batch, requests.count)?;
    worker.stop()?;
    api.stop(database).await?;
    let point = match rows {
        Rows::JustWritten => "batch",
        Rows::Analyzed => "analyzed before",
    };
    Ok(figure(point, PRODUCT, requests, elapsed, peak_mib, after.foreign_since(&before)))
}

async fn sdk(bench: &Bench, cluster: &Cluster, requests: &Requests) -> anyhow::Result<Figure> {
    let database = cluster.empty().await?;
    let api = Api::start(bench, &database)?;
    let path = requests.path.to_str().context("the directory for temporary files is not UTF-8")?;
    let before = Usage::now(std::process::id())?;
    let variables = [("ANTHROPIC_BASE_URL", api.origin.as_str()), ("ANTHROPIC_API_KEY", "sk-bench")];
    let mut program =
        Program::start(bench, Runtime::Python, "submit_sdk.py", &[path], &database.url, &variables)?;
    let end: f64 = program.wait_line("accepted ")?.parse()?;
    let after = Usage::now(std::process::id())?;
    // The SDK's imports take most of a second, and are not counted.
    let begin: f64 = program.wait_line("begin ")?.parse()?;
    let peak_mib: f64 = program.wait_line("peak_mib ")?.parse()?;
    let batch = program.wait_line("batch ")?;
    program.finish()?;
    api.expect(&batch, requests.count)?;
    api.stop(database).await?;
    let elapsed = Duration::from_secs_f64((end - begin) / 1000.0);
    Ok(figure("batch", "SDK", requests, elapsed, peak_mib, after.foreign_since(&before)))
}

/// `restante simulate`, whose batches do not end while they are measured.
struct Api {
    program: Program,
    origin: String,
}

impl Api {
    fn start(bench: &Bench, database: &Database) -> anyhow::Result<Self> {
        let address = free_address()?;
        let listen = address.to_string();
        let arguments = ["simulate", "--listen", &listen, "--batch-seconds", "86400", "--seed", "7"];
        let mut program =
            Program::start(bench, Runtime::Product, "restante", &arguments, &database.url, &[])?;
        program.wait_listening(address)?;
        Ok(Self { program, origin: format!("http://{address}") })
    }

    /// Fails unless the API has a batch with so many requests.
    fn expect(&self, batch: &str, count: usize) -> anyhow::Result<()> {
        let answer = output(
            Command::new("curl")
                .args(["-sSf", "-H", "x-api-key: sk-bench", "-H", "anthropic-version: 2023-06-01"])
                .arg(format!("{}/v1/messages/batches/{batch}", self.origin)),
        )?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        let processing = &answer["request_counts"]["processing"];
        anyhow::ensure!(*processing == count, "the API has {processing} requests where {count} are expected");
        Ok(())
    }

    async fn stop(self, database: Database) -> anyhow::Result<()> {
        self.program.stop()?;
        database.drop().await
    }
}

fn figure(
    point: &str,
    subject: &str,
    requests: &Requests,
    elapsed: Duration,
    peak_mib: f64,
    foreign: f64,
) -> Figure {
    let seconds = elapsed.as_secs_f64();
    Figure {
        point: point.to_owned(),
        subject: subject.to_owned(),
        values: vec![
            ("requests/s", requests.count as f64 / seconds),
            ("MB/s", requests.bytes as f64 / 1e6 / seconds),
            ("seconds", seconds),
            ("peak MiB", peak_mib),
        ],
        foreign,
    }
}
