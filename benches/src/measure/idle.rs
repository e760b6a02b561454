//! Idle: the queries and the CPU time of the programs while nothing happens.

use std::time::Duration;

use super::{counting, product};
use crate::Bench;
use crate::figures::{Figure, PRODUCT, Table};
use crate::machine::Usage;
use crate::stand_in::StandIn;

/// How long to wait after the start of the programs, so that what they do only once is not measured.
const SETTLING: Duration = Duration::from_secs(5);

/// Watches both programs doing nothing.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = counting::start(bench).await?;
    let (database, entered) = counting::database(&cluster).await?;
    let stand_in = StandIn::start(1).await?;
    let (ingest, _) = product::ingest(bench, &entered)?;
    let worker = product::worker(bench, &entered, &stand_in.origin)?;
    tokio::time::sleep(SETTLING).await;

    let trees = [std::process::id(), ingest.pid(), worker.pid(), cluster.pid];
    let before = trees.map(Usage::now);
    let statements = counting::statements(&database).await?;
    tokio::time::sleep(bench.scale.idle).await;
    let statements = counting::statements(&database).await? - statements;
    let after = trees.map(Usage::now);
    let mut percents = Vec::new();
    let mut foreign = 0.0;
    for (after, before) in after.into_iter().zip(before) {
        let (after, before) = (after?, before?);
        percents.push(after.cpu_since(&before).as_secs_f64() / bench.scale.idle.as_secs_f64() * 100.0);
        // The first tree is that of this process and all that it started.
        if percents.len() == 1 {
            foreign = after.foreign_since(&before);
        }
    }
    let [_, ingest_percent, worker_percent, postgres_percent] = percents[..] else {
        anyhow::bail!("four trees were looked at");
    };
    ingest.stop()?;
    worker.stop()?;
    database.drop().await?;
    Ok(Table {
        title: "Idle",
        about: format!(
            "restante-ingest and restante-worker beside an empty outbox for {} s, {} s after their start.",
            bench.scale.idle.as_secs(),
            SETTLING.as_secs()
        ),
        compared: None,
        figures: vec![Figure {
            point: "ingest and worker".to_owned(),
            subject: PRODUCT.to_owned(),
            values: vec![
                ("queries/s", statements / bench.scale.idle.as_secs_f64()),
                ("CPU % of a core", ingest_percent + worker_percent),
                ("Postgres CPU % of a core", postgres_percent),
            ],
            foreign,
        }],
    })
}
