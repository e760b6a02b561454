//! Ingest: how many deliveries a second get their 2xx, and how long each waits for it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::Context;
use secrecy::ExposeSecret;

use super::product;
use crate::Bench;
use crate::cluster::{Cluster, Database, Purpose};
use crate::events::{self, signing_key};
use crate::figures::{Figure, PRODUCT, Table, percentile};
use crate::load::{self, Load};
use crate::machine::Usage;
use crate::peers::{RECEIVERS, Receiver};
use crate::program::{Program, free_address, output};

/// How many requests are signed in advance for each second of a point: more than any receiver accepts.
const REQUESTS_PER_SECOND: usize = 60_000;
/// How many different events the point has that only sends duplicates.
const DUPLICATES: usize = 1_000;

/// With the disk of this machine.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::Timing).await?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        for connections in [1, 64, 256] {
            figures.push(restante(bench, &cluster, connections, Events::Distinct).await?);
            for receiver in RECEIVERS.iter().filter(|_| bench.with_peers) {
                figures.push(peer(bench, &cluster, receiver, connections).await?);
            }
            if connections == 64 {
                figures.push(restante(bench, &cluster, connections, Events::Repeated).await?);
                figures.push(restante(bench, &cluster, connections, Events::BesideAnEndpoint).await?);
                if bench.with_peers {
                    figures.push(pgbench(bench, &cluster, connections).await?);
                }
            }
        }
    }
    Ok(Table {
        title: "Ingest",
        about: format!(
            "Distinct signed events of about 400 bytes, each with a key of its own, over keep-alive connections; every \
             event that was answered 2xx was found in the table afterwards. `duplicates` sends the same {DUPLICATES} \
             events again and again. `an endpoint` has a row of restante.endpoint, which gets none of these events. pgbench inserts one row a transaction, prepared, without HTTP or signature.",
        ),
        compared: Some("events/s"),
        figures,
    })
}

/// With a disk whose flush takes 1.5 ms longer.
pub(crate) async fn measure_slow_flush(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::SlowFlush).await?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        for connections in [1, 64, 256] {
            figures.push(restante(bench, &cluster, connections, Events::Distinct).await?);
            for receiver in
                RECEIVERS.iter().filter(|receiver| bench.with_peers && receiver.name == "axum + sqlx")
            {
                figures.push(peer(bench, &cluster, receiver, connections).await?);
            }
        }
    }
    Ok(Table {
        title: "Ingest with slow flushes",
        about:
            "As above, on a Postgres whose every flush takes 1.5 ms longer, as on a disk behind a network."
                .to_owned(),
        compared: Some("events/s"),
        figures,
    })
}

/// What is sent to the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Events {
    Distinct,
    Repeated,
    /// Distinct ones, while there is an endpoint that gets what applications store.
    BesideAnEndpoint,
}

async fn restante(
    bench: &Bench,
    cluster: &Cluster,
    connections: usize,
    events: Events,
) -> anyhow::Result<Figure> {
    let duplicates = events == Events::Repeated;
    let database = cluster.restante().await?;
    if events == Events::BesideAnEndpoint {
        database
            .run("insert into restante.endpoint (name, url) values ('a', 'https://endpoint.example/')")
            .await?;
    }
    let (program, address) = product::ingest(bench, &database)?;
    let point = Point { bench, cluster, database: &database, program: &program, address, connections };
    let (load, mut figure) = point.measure("/webhooks/anthropic", PRODUCT, duplicates).await?;
    let stored = if duplicates { DUPLICATES } else { load.accepted };
    database.expect("select count(*) from restante.outbox", stored).await?;
    match events {
        Events::Distinct => {}
        Events::Repeated => figure.point.push_str(", duplicates"),
        Events::BesideAnEndpoint => figure.point.push_str(", an endpoint"),
    }
    program.stop()?;
    database.drop().await?;
    Ok(figure)
}

async fn peer(
    bench: &Bench,
    cluster: &Cluster,
    receiver: &Receiver,
    connections: usize,
) -> anyhow::Result<Figure> {
    let database = cluster.empty().await?;
    make_table(&database).await?;
    let address = free_address()?;
    let mut program = Program::start(
        bench,
        receiver.runtime,
        receiver.program,
        receiver.arguments,
        &database.url,
        &[("PORT", &address.port().to_string()), ("SIGNING_KEY", &signing_key())],
    )?;
    program.wait_listening(address)?;
    let point = Point { bench, cluster, database: &database, program: &program, address, connections };
    let (load, figure) = point.measure("/webhook", receiver.name, false).await?;
    database.expect("select count(*) from event", load.accepted).await?;
    program.stop()?;
    database.drop().await?;
    Ok(figure)
}

/// A point for a running receiver.
struct Point<'a> {
    bench: &'a Bench,
    cluster: &'a Cluster,
    database: &'a Database,
    program: &'a Program,
    address: SocketAddr,
    connections: usize,
}

impl Point<'_> {
    async fn measure(&self, path: &str, subject: &str, duplicates: bool) -> anyhow::Result<(Load, Figure)> {
        let measured = self.bench.scale.ingest;
        let warm_up = measured / 4;
        let enough = (REQUESTS_PER_SECOND as f64 * (warm_up + measured).as_secs_f64()) as usize;
        let count = if duplicates { DUPLICATES } else { enough };
        let requests = events::requests(self.address, path, count, true)?;
        self.database.settle().await?;

        let trees = [std::process::id(), self.program.pid(), self.cluster.pid];
        let before = trees.map(Usage::now);
        let load = load::run(self.address, self.connections, requests, duplicates, warm_up, measured)?;
        let [all, receiver, postgres] = trees.map(Usage::now);
        let [all_before, receiver_before, postgres_before] = before;
        let microseconds =
            |after: Usage, before: Usage| after.cpu_since(&before).as_secs_f64() * 1e6 / load.accepted as f64;
        let figure = Figure {
            point: point_name(self.connections),
            subject: subject.to_owned(),
            values: vec![
                ("events/s", load.per_second),
                ("p50 ms", percentile(&load.latencies_ms, 50)),
                ("p99 ms", percentile(&load.latencies_ms, 99)),
                ("receiver CPU µs/event", microseconds(receiver?, receiver_before?)),
                ("Postgres CPU µs/event", microseconds(postgres?, postgres_before?)),
            ],
            foreign: all?.foreign_since(&all_before?),
        };
        Ok((load, figure))
    }
}

/// Measures how many rows Postgres takes from clients that insert one at a time, without HTTP.
async fn pgbench(bench: &Bench, cluster: &Cluster, connections: usize) -> anyhow::Result<Figure> {
    let database = cluster.empty().await?;
    make_table(&database).await?;
    database.settle().await?;
    let script = bench.built.join("insert.sql");
    fs::write(
        &script,
        "\\set number random(1, 9000000000000000000)\n\
         insert into event (id, type, created_at, payload) \
         values ('event_' || :number, 'bench.event', now(), :payload) on conflict do nothing\n",
    )?;
    let payload = events::body("event_01", "2026-11-01T12:00:00Z", Some("sesn_01"));
    let (clients, seconds) = (connections.to_string(), bench.scale.ingest.as_secs().max(1).to_string());
    let before = Usage::now(std::process::id())?;
    let printed = output(
        Command::new(cluster.programs().join("pgbench"))
            .args([
                "--no-vacuum",
                "--protocol=prepared",
                "--client",
                &clients,
                "--jobs=2",
                "--time",
                &seconds,
            ])
            .args(["--define", &format!("payload={payload}"), "--file"])
            .arg(&script)
            .arg(database.url.expose_secret()),
    )?;
    let after = Usage::now(std::process::id())?;
    let number = |label: &str| -> anyhow::Result<f64> {
        let line = printed.lines().find_map(|line| line.strip_prefix(label)).context(label.to_owned())?;
        Ok(line.split_whitespace().next().context("no number")?.parse()?)
    };
    let inserted = number("number of transactions actually processed: ")?;
    database.expect("select count(*) from event", inserted as usize).await?;
    database.drop().await?;
    Ok(Figure {
        point: point_name(connections),
        subject: "pgbench".to_owned(),
        values: vec![("events/s", number("tps = ")?), ("p50 ms", f64::NAN), ("p99 ms", f64::NAN)],
        foreign: after.foreign_since(&before),
    })
}

fn point_name(connections: usize) -> String {
    if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") }
}

/// Makes the table for a receiver without an outbox.
async fn make_table(database: &Database) -> anyhow::Result<()> {
    database
        .run(
            "create table event (id text primary key, type text not null, created_at timestamptz not null, \
             payload jsonb not null, received_at timestamptz not null default now())",
        )
        .await
}
