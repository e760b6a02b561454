//! Counting: what events cost the server in buffers and WAL, by the server's own count and not by a clock.
//!
//! The worker has its own user, so that `pg_stat_statements` separates its statements from those of the benchmark. Whole pages in
//! the WAL are off, because their number depends on the last checkpoint and would hide everything else.

use std::time::{Duration, Instant};

use anyhow::Context;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use sqlx::Row;
use url::Url;

use super::product;
use crate::Bench;
use crate::cluster::{Cluster, Database, Purpose};
use crate::figures::{Figure, PRODUCT};
use crate::machine::Usage;
use crate::program::Program;

/// How many events pass before the count begins, so that plans are made and pages are in memory.
const WARM_UP: usize = 500;
/// How long a worker may take for its events.
const PATIENCE: Duration = Duration::from_secs(1800);
/// The user of the worker.
const USER: &str = "bench_worker";

/// Starts a cluster with `pg_stat_statements`.
pub(crate) async fn start(bench: &Bench) -> anyhow::Result<Cluster> {
    let cluster = Cluster::start(bench, Purpose::Counting).await?;
    let database = cluster.empty().await?;
    database.run(&format!("create role {USER} superuser login password '{USER}'")).await?;
    database.drop().await?;
    Ok(cluster)
}

/// A database of Restante in which statements are counted, once for the benchmark's login and once for the worker's.
pub(crate) async fn database(cluster: &Cluster) -> anyhow::Result<(Database, Database)> {
    let database = cluster.restante().await?;
    database.run("create extension pg_stat_statements").await?;
    let mut url = Url::parse(database.url.expose_secret())?;
    url.set_username(USER).ok().context("no user")?;
    url.set_password(Some(USER)).ok().context("no password")?;
    let entered = Database { url: SecretString::from(url.to_string()), pool: database.pool.clone() };
    Ok((database, entered))
}

/// What claiming and settling cost per event: a worker starts and handles `count` of the waiting events.
pub(crate) async fn work_off(
    bench: &Bench,
    entered: &Database,
    point: &str,
    count: usize,
) -> anyhow::Result<Figure> {
    run_worker(bench, entered, WARM_UP)?;
    let before = Usage::now(std::process::id())?;
    reset(entered).await?;
    let handled = run_worker(bench, entered, count)?;
    let values = read(entered, handled).await?;
    let foreign = Usage::now(std::process::id())?.foreign_since(&before);
    Ok(Figure { point: point.to_owned(), subject: PRODUCT.to_owned(), values, foreign })
}

/// What claiming and settling cost per event with a running worker: `count` events are stored, and it handles them.
pub(crate) async fn pass(
    bench: &Bench,
    database: &Database,
    point: &str,
    count: usize,
) -> anyhow::Result<Figure> {
    let before = Usage::now(std::process::id())?;
    reset(database).await?;
    product::fill(bench, database, count, 1)?;
    let deadline = Instant::now() + PATIENCE;
    while database.number("select count(*) from restante.outbox_live").await? > 0.0 {
        anyhow::ensure!(Instant::now() < deadline, "the worker did not handle all events in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let values = read(database, count as f64).await?;
    let foreign = Usage::now(std::process::id())?.foreign_since(&before);
    Ok(Figure { point: point.to_owned(), subject: PRODUCT.to_owned(), values, foreign })
}

/// Runs a worker until it has handled `count` events, and returns how many it has handled in the end.
fn run_worker(bench: &Bench, entered: &Database, count: usize) -> anyhow::Result<f64> {
    let mut worker: Program = product::work(bench, entered, count, &[])?;
    worker.wait_line("handled ")?;
    worker.ask_to_stop()?;
    let total = worker.wait_line("total ")?;
    worker.stop()?;
    Ok(total.parse()?)
}

async fn reset(database: &Database) -> anyhow::Result<()> {
    database.run("select pg_stat_statements_reset()").await
}

/// Reads what the worker's statements have cost since the reset.
async fn read(database: &Database, events: f64) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let row = sqlx::query(
        "select sum(s.shared_blks_hit + s.shared_blks_read)::float8 as buffers, sum(s.wal_bytes)::float8 as wal,
                sum(s.calls)::float8 as calls, sum(s.total_exec_time)::float8 * 1000 as microseconds
           from pg_stat_statements as s join pg_roles as r on r.oid = s.userid where r.rolname = $1",
    )
    .bind(USER)
    .fetch_one(&database.pool)
    .await?;
    Ok(vec![
        ("buffers/event", row.try_get::<f64, _>("buffers")? / events),
        ("WAL B/event", row.try_get::<f64, _>("wal")? / events),
        ("statements/event", row.try_get::<f64, _>("calls")? / events),
        ("server µs/event", row.try_get::<f64, _>("microseconds")? / events),
    ])
}

/// How many statements the programs have sent so far.
pub(crate) async fn statements(database: &Database) -> anyhow::Result<f64> {
    let of_user = format!("join pg_roles as r on r.oid = s.userid where r.rolname = '{USER}'");
    database.number(&format!("select coalesce(sum(s.calls), 0) from pg_stat_statements as s {of_user}")).await
}
