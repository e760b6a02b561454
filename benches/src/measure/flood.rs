//! Flood: what bad requests, which anyone can send, cost good deliveries.

use super::product;
use crate::Bench;
use crate::cluster::{Cluster, Database, Purpose};
use crate::events;
use crate::figures::{Figure, PRODUCT, Table, percentile};
use crate::flood::Flood;
use crate::load::{self, Load};
use crate::machine::Usage;

/// The rate of the flood that has a goal, in bad requests a second.
const PER_SECOND: usize = 5_000;
/// How many connections send good deliveries.
const CONNECTIONS: usize = 64;
/// More good deliveries than ingest takes in a second.
const REQUESTS_PER_SECOND: usize = 60_000;

/// What comes beside the good deliveries.
#[derive(Clone, Copy, Debug)]
enum Beside {
    Nothing,
    Rate,
    Unlimited,
}

impl Beside {
    fn point(self) -> &'static str {
        match self {
            Self::Nothing => "no flood",
            Self::Rate => "5000 bad requests/s",
            Self::Unlimited => "as many as get an answer",
        }
    }
}

/// Good deliveries alone, beside a steady flood, and beside one that only the machine limits.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::Timing).await?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        let mut alone = None;
        for beside in [Beside::Nothing, Beside::Rate, Beside::Unlimited] {
            let (figure, per_second, p99) = point(bench, &cluster, beside, alone).await?;
            alone = alone.or(Some((per_second, p99)));
            figures.push(figure);
        }
    }
    Ok(Table {
        title: "Flood of bad requests",
        about: format!(
            "Good deliveries as in the table of ingest, over {CONNECTIONS} connections, beside 64 others that send bad requests of 18 kinds in turn: \
             paths, senders and keys that nobody has, headers that are missing, doubled, malformed or renamed, old and future timestamps, \
             altered bodies, bodies of 64 KiB, and ones that are announced as larger than 1 MiB. Each is answered as it should be. The program \
             that sends them shares the {} cores with ingest and Postgres. `rows` is how many restante.refusal has afterwards.",
            std::thread::available_parallelism().map_or(0, usize::from),
        ),
        compared: None,
        figures,
    })
}

async fn point(
    bench: &Bench,
    cluster: &Cluster,
    beside: Beside,
    alone: Option<(f64, f64)>,
) -> anyhow::Result<(Figure, f64, f64)> {
    let database = cluster.restante().await?;
    let (program, address) = product::ingest(bench, &database)?;
    let (warm_up, measured) = (bench.scale.ingest / 4, bench.scale.ingest);
    let enough = (REQUESTS_PER_SECOND as f64 * (warm_up + measured).as_secs_f64()) as usize;
    let requests = events::requests(address, "/webhooks/anthropic", enough, true)?;
    database.settle().await?;
    let flood = match beside {
        Beside::Nothing => None,
        Beside::Rate => Some(Flood::start(address, Some(PER_SECOND))?),
        Beside::Unlimited => Some(Flood::start(address, None)?),
    };
    let before = Usage::now(std::process::id())?;
    let load = load::run(address, CONNECTIONS, requests, false, warm_up, measured)?;
    let after = Usage::now(std::process::id())?;
    let bad = flood.map_or(Ok(0.0), Flood::stop)?;
    program.stop()?;
    let rows = rows(&database, &load).await?;
    database.drop().await?;
    let (per_second, p99) = (load.per_second, percentile(&load.latencies_ms, 99));
    let (per_second_alone, p99_alone) = alone.unwrap_or((per_second, p99));
    let figure = Figure {
        point: beside.point().to_owned(),
        subject: PRODUCT.to_owned(),
        values: vec![
            ("events/s", per_second),
            ("÷ alone", per_second / per_second_alone),
            ("p50 ms", percentile(&load.latencies_ms, 50)),
            ("p99 ms", p99),
            ("p99 ÷ alone", p99 / p99_alone),
            ("bad requests/s", bad),
            ("rows", rows),
        ],
        foreign: after.foreign_since(&before),
    };
    Ok((figure, per_second, p99))
}

/// Every good delivery is there, and no bad one.
async fn rows(database: &Database, load: &Load) -> anyhow::Result<f64> {
    database.expect("select count(*) from restante.outbox", load.accepted).await?;
    database.number("select count(*) from restante.refusal").await
}
