//! WAL: how many bytes the server writes for an event from its delivery to its end.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::product;
use crate::Bench;
use crate::cluster::{Cluster, Database, Purpose};
use crate::events;
use crate::figures::{Figure, PRODUCT, Table};
use crate::load;
use crate::machine::Usage;

/// How many deliveries are in flight at once.
const CONNECTIONS: usize = 64;
/// Longer than the deliveries can take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures events with and without a key.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::Timing).await?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        figures.push(received_to_done(bench, &cluster, true).await?);
        figures.push(received_to_done(bench, &cluster, false).await?);
    }
    Ok(Table {
        title: "WAL",
        about: format!(
            "Bytes of WAL for each of {} events of about 400 bytes, delivered over {CONNECTIONS} connections to \
             restante-ingest and then worked off, everything that the server wrote meanwhile included. `whole pages` are \
             what Postgres writes beside them, once for each page after a checkpoint, of which there was one right before.",
            4 * bench.scale.counted
        ),
        compared: None,
        figures,
    })
}

async fn received_to_done(bench: &Bench, cluster: &Cluster, keyed: bool) -> anyhow::Result<Figure> {
    let count = 4 * bench.scale.counted;
    let database = cluster.restante().await?;
    database.run("create extension pg_walinspect").await?;
    let (ingest, address) = product::ingest(bench, &database)?;
    deliver_and_work(bench, &database, address, count / 4, keyed).await?;

    // A checkpoint first, so that the second column shows what it adds.
    database.settle().await?;
    let before = Usage::now(std::process::id())?;
    let start = position(&database).await?;
    deliver_and_work(bench, &database, address, count, keyed).await?;
    let end = position(&database).await?;
    let foreign = Usage::now(std::process::id())?.foreign_since(&before);

    let stats = format!("pg_get_wal_stats('{start}', '{end}')");
    let bytes = database.number(&format!("select sum(combined_size) from {stats}")).await?;
    let pages = database.number(&format!("select sum(fpi_size) from {stats}")).await?;
    ingest.stop()?;
    database.drop().await?;
    Ok(Figure {
        point: if keyed { "keyed" } else { "without key" }.to_owned(),
        subject: PRODUCT.to_owned(),
        values: vec![
            ("WAL B/event", (bytes - pages) / count as f64),
            ("whole pages B/event", pages / count as f64),
        ],
        foreign,
    })
}

async fn deliver_and_work(
    bench: &Bench,
    database: &Database,
    address: std::net::SocketAddr,
    count: usize,
    keyed: bool,
) -> anyhow::Result<()> {
    let requests = events::requests(address, "/webhooks/anthropic", count, keyed)?;
    let delivered = load::run(address, CONNECTIONS, requests, false, Duration::ZERO, PATIENCE)?;
    anyhow::ensure!(delivered.accepted == count, "only {} of {count} were accepted", delivered.accepted);
    let mut worker = product::work(bench, database, count, &[])?;
    worker.wait_line("handled ")?;
    worker.stop()?;
    database.expect("select count(*) from restante.outbox_live", 0).await
}

/// The position up to which the WAL is flushed.
async fn position(database: &Database) -> anyhow::Result<String> {
    let query = "select pg_current_wal_flush_lsn()::text";
    Ok(sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&database.pool).await?)
}
