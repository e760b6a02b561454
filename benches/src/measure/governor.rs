//! The governor: four workers under one limit of the API, which the simulated API enforces.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Row};

use super::product;
use super::results::wait_until;
use crate::Bench;
use crate::cluster::{Cluster, Purpose};
use crate::figures::{Figure, PRODUCT, Table};
use crate::machine::Usage;
use crate::program::{Program, Runtime, free_address};

const WORKERS: usize = 4;
/// Requests a second that the API answers; it tells of the limit in its headers.
const LIMIT: usize = 100;
/// The text of an answer, in bytes: short, because only the calls count.
const TEXT_BYTES: &str = "100";

/// Measures how much of the limit is used, how many calls exceed it, and what the places cost.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::Counting).await?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        figures.push(governed(bench, &cluster).await?);
    }
    Ok(Table {
        title: "Governor",
        about: format!(
            "{} messages in {WORKERS} workers, from a simulated API in a process of its own that answers {LIMIT} requests a second and no \
             more. `limit used %` counts from the moment at which all messages are there; the API lets a hundred through at once at the \
             beginning. A statement leases places for several calls.",
            bench.scale.governed
        ),
        compared: None,
        figures,
    })
}

async fn governed(bench: &Bench, cluster: &Cluster) -> anyhow::Result<Figure> {
    let count = bench.scale.governed;
    let database = cluster.restante().await?;
    let address = free_address()?;
    let (listen, limit) = (address.to_string(), LIMIT.to_string());
    let arguments = [
        "simulate",
        "--listen",
        &listen,
        "--seed",
        "7",
        "--text-bytes",
        TEXT_BYTES,
        "--limit-per-second",
        &limit,
    ];
    let mut api = Program::start(bench, Runtime::Product, "restante", &arguments, &database.url, &[])?;
    api.wait_listening(address)?;
    let url = format!("http://{address}");
    let workers: Vec<Program> =
        (0..WORKERS).map(|_| product::worker(bench, &database, &url)).collect::<anyhow::Result<_>>()?;
    wait_until(
        &database,
        &format!("select (count(*) = {WORKERS})::int from pg_stat_activity where query ilike 'listen%'"),
    )
    .await?;

    let before = Usage::now(std::process::id())?;
    let request = r#"{"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello."}]}"#;
    database
        .run(&format!("select restante.send_message('{request}') from generate_series(1, {count})"))
        .await?;
    let start = Instant::now();
    let patience = Duration::from_secs_f64(60.0 + count as f64 / LIMIT as f64 * 4.0);
    let all = format!("select (count(*) = {count})::int from restante.message where status = 'done'");
    while database.number(&all).await? == 0.0 {
        anyhow::ensure!(start.elapsed() < patience, "not every message was answered in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let foreign = Usage::now(std::process::id())?.foreign_since(&before);
    let query = "select b.times_limited::float8 as limited, o.statements_per_call::float8 as statements
                   from restante.api_budget as b join restante.governor_overview as o using (account, class) where class = 'messages'";
    let row = sqlx::query(AssertSqlSafe(query)).fetch_one(&database.pool).await?;
    let limited: f64 = row.get("limited");
    let values = vec![
        ("limit used %", count as f64 / seconds / LIMIT as f64 * 100.0),
        ("429 %", limited / (count as f64 + limited) * 100.0),
        ("statements/call", row.get("statements")),
        ("seconds", seconds),
    ];
    for worker in workers {
        worker.stop()?;
    }
    api.stop()?;
    database.drop().await?;
    Ok(Figure { point: "4 workers, 100/s".to_owned(), subject: PRODUCT.to_owned(), values, foreign })
}
