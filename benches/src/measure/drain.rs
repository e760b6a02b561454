//! Drain: waiting events, handled by a handler that does nothing or writes one row.

use std::time::Duration;

use super::product;
use crate::Bench;
use crate::cluster::{Cluster, Database, Purpose};
use crate::figures::{Figure, PRODUCT, Table};
use crate::machine::Usage;
use crate::peers::{QUEUES, Queue};
use crate::program::Program;
use crate::queue_worker::now_ms;

/// Measures the product with each of its options, and every queue.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::Timing).await?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        for shape in &SHAPES {
            figures.push(restante(bench, &cluster, shape).await?);
            if shape.point == "no-op" {
                for queue in QUEUES.iter().filter(|_| bench.with_peers) {
                    figures.push(peer(bench, &cluster, queue).await?);
                }
            }
        }
    }
    Ok(Table {
        title: "Drain",
        about: format!(
            "{} jobs wait (slow queues get a part, as the column says); the clock runs from the moment that a worker, \
             loaded and connected, is told to begin until the table shows the last job as finished. 24 handlers at \
             once. Restante keeps the history, fences every completion and keeps each key in order; it is the library's \
             worker, as a program with handlers of its own would use it.",
            bench.scale.jobs
        ),
        compared: Some("events/s"),
        figures,
    })
}

struct Shape {
    point: &'static str,
    per_key: usize,
    workers: usize,
    options: &'static [&'static str],
}

const SHAPES: [Shape; 5] = [
    Shape { point: "no-op", per_key: 1, workers: 1, options: &[] },
    Shape { point: "no-op, without key", per_key: 0, workers: 1, options: &[] },
    Shape { point: "no-op, 10 events a key", per_key: 10, workers: 1, options: &[] },
    Shape { point: "writes one row", per_key: 1, workers: 1, options: &["--writes"] },
    Shape { point: "no-op, two workers", per_key: 1, workers: 2, options: &[] },
];

async fn restante(bench: &Bench, cluster: &Cluster, shape: &Shape) -> anyhow::Result<Figure> {
    let count = bench.scale.jobs;
    let database = cluster.restante().await?;
    database.run("create table effect (event_id text primary key)").await?;
    product::fill(bench, &database, count, shape.per_key)?;
    // With several workers none handles all events. The first one that has done its share reports that.
    let share = count / shape.workers;
    let start = || product::work(bench, &database, share, shape.options);
    let unfinished = "select count(*) from restante.outbox_live";
    let backlog = Backlog { cluster, database: &database, count, unfinished };
    let figure = backlog.drain(shape.point, PRODUCT, shape.workers, start).await?;
    database
        .expect("select count(*) from restante.outbox where status = 'done' and attempt = 1", count)
        .await?;
    if shape.options.contains(&"--writes") {
        database.expect("select count(*) from effect", count).await?;
    }
    database.drop().await?;
    Ok(figure)
}

async fn peer(bench: &Bench, cluster: &Cluster, queue: &Queue) -> anyhow::Result<Figure> {
    let count = (bench.scale.jobs as f64 * queue.part) as usize;
    let jobs = count.to_string();
    let database = cluster.empty().await?;
    let start = |arguments: &[&str]| {
        Program::start(bench, queue.runtime, queue.program, arguments, &database.url, &[])
    };
    start(&["fill", &jobs])?.finish()?;
    database.expect(queue.unfinished, count).await?;
    let backlog = Backlog { cluster, database: &database, count, unfinished: queue.unfinished };
    let figure = backlog.drain("no-op", queue.name, 1, || start(&["work", &jobs, "24"])).await?;
    database.drop().await?;
    Ok(figure)
}

/// A backlog, and how to see that it is drained.
struct Backlog<'a> {
    cluster: &'a Cluster,
    database: &'a Database,
    count: usize,
    unfinished: &'a str,
}

impl Backlog<'_> {
    /// Starts `workers` and waits until nothing is left.
    async fn drain(
        &self,
        point: &str,
        subject: &str,
        workers: usize,
        start: impl Fn() -> anyhow::Result<Program>,
    ) -> anyhow::Result<Figure> {
        self.database.settle().await?;
        let trees = [std::process::id(), self.cluster.pid];
        let before = trees.map(Usage::now);
        let mut programs: Vec<Program> = (0..workers).map(|_| start()).collect::<Result<_, _>>()?;
        // Counting takes Postgres's time, so it begins only when few events can be left.
        while !any_has_handled(&mut programs)? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while self.database.number(self.unfinished).await? > 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let end = now_ms();
        let [all, postgres] = trees.map(Usage::now);
        let [all_before, postgres_before] = before;

        let mut begin = f64::INFINITY;
        let mut worker_cpu = Duration::ZERO;
        for mut program in programs {
            begin = begin.min(program.wait_line("begin ")?.parse()?);
            worker_cpu += Usage::now(program.pid())?.cpu();
            program.stop()?;
        }
        let microseconds = |cpu: Duration| cpu.as_secs_f64() * 1e6 / self.count as f64;
        Ok(Figure {
            point: point.to_owned(),
            subject: subject.to_owned(),
            values: vec![
                ("events/s", self.count as f64 / (end - begin) * 1000.0),
                ("jobs", self.count as f64),
                ("worker CPU µs/event", microseconds(worker_cpu)),
                ("Postgres CPU µs/event", microseconds(postgres?.cpu_since(&postgres_before?))),
            ],
            foreign: all?.foreign_since(&all_before?),
        })
    }
}

fn any_has_handled(programs: &mut [Program]) -> anyhow::Result<bool> {
    for program in programs {
        if program.line("handled ")?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
