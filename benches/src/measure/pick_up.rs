//! Pick-up: how soon after its commit an event's handler starts, at a steady and slow pace.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::product;
use crate::Bench;
use crate::cluster::{Cluster, Purpose};
use crate::events;
use crate::figures::{Figure, PRODUCT, Table, percentile};
use crate::machine::Usage;
use crate::program::{Program, Runtime};
use crate::queue_worker::now_ms;

/// Twenty events a second: each arrives when the worker is idle.
const INTERVAL: Duration = Duration::from_millis(50);
/// How many events are not measured, because connections are opened and plans made for them.
const WARM_UP: usize = 20;

/// Measures the product and the quickest peer.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::Timing).await?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        figures.push(restante(bench, &cluster, "20 events/s", 0).await?);
        if bench.with_peers {
            figures.push(graphile_worker(bench, &cluster).await?);
        }
    }
    Ok(Table {
        title: "Pick-up",
        about: format!(
            "{} events, one every {} ms: from the moment that its sender knows the event to be committed (the 2xx of \
             restante-ingest; the return of graphile_worker.add_job) until its handler starts, in another process.",
            bench.scale.picked_up,
            INTERVAL.as_millis()
        ),
        compared: Some("p50 ms"),
        figures,
    })
}

/// Deliveries through `restante-ingest`, while further events wait behind one key.
pub(crate) async fn restante(
    bench: &Bench,
    cluster: &Cluster,
    point: &str,
    busy_key: usize,
) -> anyhow::Result<Figure> {
    let database = cluster.restante().await?;
    product::fill(bench, &database, busy_key, busy_key)?;
    let (ingest, address) = product::ingest(bench, &database)?;
    let worker = product::work(bench, &database, usize::MAX, &["--starts"])?;
    let requests = events::requests(address, "/webhooks/anthropic", bench.scale.picked_up + WARM_UP, true)?;
    let before = Usage::now(std::process::id())?;
    let mut sender = Deliveries(TcpStream::connect(address).await?);
    let mut committed = HashMap::new();
    let mut due = Instant::now();
    for request in requests {
        sleep_until(due).await;
        due += INTERVAL;
        sender.send(&request.bytes).await?;
        committed.insert(request.id, now_ms());
    }
    let figure = figure(point, PRODUCT, worker, committed, before).await?;
    ingest.stop()?;
    database.drop().await?;
    Ok(figure)
}

/// Jobs through graphile-worker's SQL function.
async fn graphile_worker(bench: &Bench, cluster: &Cluster) -> anyhow::Result<Figure> {
    let database = cluster.empty().await?;
    let start = |arguments: &[&str]| {
        Program::start(bench, Runtime::Node, "queue_graphile_worker.js", arguments, &database.url, &[])
    };
    start(&["fill", "0"])?.finish()?;
    let mut worker = start(&["work", "1000000000", "24", "--starts"])?;
    worker.wait_line("working")?;
    let before = Usage::now(std::process::id())?;
    let mut committed = HashMap::new();
    let mut due = Instant::now();
    for number in 0..bench.scale.picked_up + WARM_UP {
        sleep_until(due).await;
        due += INTERVAL;
        let id = format!("event_{number}");
        sqlx::query("select graphile_worker.add_job('bench', json_build_object('id', $1::text))")
            .bind(&id)
            .execute(&database.pool)
            .await?;
        committed.insert(id, now_ms());
    }
    let figure = figure("20 events/s", "graphile-worker", worker, committed, before).await?;
    database.drop().await?;
    Ok(figure)
}

/// One connection to a receiver.
struct Deliveries(TcpStream);

impl Deliveries {
    async fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(request).await?;
        let mut answer = [0; 1024];
        let length = self.0.read(&mut answer).await?;
        anyhow::ensure!(answer[..length].starts_with(b"HTTP/1.1 204"), "the delivery was not answered 204");
        Ok(())
    }
}

async fn figure(
    point: &str,
    subject: &str,
    worker: Program,
    committed: HashMap<String, f64>,
    before: Usage,
) -> anyhow::Result<Figure> {
    let after = Usage::now(std::process::id())?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let starts = loop {
        let starts = starts(&worker)?;
        if committed.keys().all(|id| starts.contains_key(id)) {
            break starts;
        }
        anyhow::ensure!(Instant::now() < deadline, "not every event was picked up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    worker.stop()?;
    let mut order: Vec<(f64, f64)> = committed.iter().map(|(id, at)| (*at, starts[id] - at)).collect();
    order.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut waits: Vec<f64> = order.into_iter().skip(WARM_UP).map(|(_, wait)| wait).collect();
    waits.sort_by(f64::total_cmp);
    Ok(Figure {
        point: point.to_owned(),
        subject: subject.to_owned(),
        values: vec![
            ("p50 ms", percentile(&waits, 50)),
            ("p90 ms", percentile(&waits, 90)),
            ("p99 ms", percentile(&waits, 99)),
            ("max ms", waits.last().copied().context("nothing was sent")?),
        ],
        foreign: after.foreign_since(&before),
    })
}

/// When each handler started.
fn starts(worker: &Program) -> anyhow::Result<HashMap<String, f64>> {
    let lines = worker.lines("start ")?;
    Ok(lines
        .iter()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(id, at)| Some((id.to_owned(), at.parse().ok()?)))
        .collect())
}
