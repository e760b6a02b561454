//! The benchmarks of Restante and its peers, for `make bench`.
//!
//! Each file of `measure` is one measurement: a function that starts what it needs with a private Postgres and returns
//! figures. Product and peers take turns within each round. Every point begins with a fresh database and a checkpoint. If
//! not every event of a point is in the table afterwards, that is an error and gives no figure.

mod cluster;
mod events;
mod figures;
mod flood;
mod goals;
mod load;
mod machine;
mod measure;
mod peers;
mod program;
mod queue_worker;
mod receiver;
mod report;
mod requests;
mod scale;
mod stand_in;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::figures::Table;
use crate::machine::{Machine, Usage};
use crate::scale::Scale;

/// The parameters of every measurement.
pub(crate) struct Bench {
    pub scale: Scale,
    /// Whether the peers are measured too.
    pub with_peers: bool,
    /// The root of the repository.
    pub root: PathBuf,
    /// The directory of everything built and installed for the benchmarks: `target/bench`.
    pub built: PathBuf,
    /// The directory of `postgres`, `psql` and `pgbench`.
    pub pg_bin: PathBuf,
}

#[derive(Parser)]
#[command(about = "Measures Restante beside its peers")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures, prints and writes the tables.
    Run {
        /// One short round: shows that everything runs, not how fast it is.
        #[arg(long)]
        quick: bool,
        /// Ten million rows of history instead of one million.
        #[arg(long, conflicts_with = "quick")]
        full: bool,
        /// Leave the peers out, and with them their installation.
        #[arg(long)]
        no_peers: bool,
        /// Only these measurements.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// The root of the repository.
        #[arg(long, default_value = ".")]
        root: PathBuf,
        /// The directory of everything built and installed for the benchmarks.
        #[arg(long, default_value = "target/bench")]
        built: PathBuf,
    },
    /// Fills or works the outbox as the peers' programs do with their queues; used by the measurements.
    Queue(queue_worker::Arguments),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Queue(arguments) => queue_worker::main(arguments),
        Command::Run { quick, full, no_peers, only, root, built } => {
            let bench = Bench {
                scale: Scale::new(quick, full),
                with_peers: !no_peers,
                root: root.canonicalize()?,
                built: built.canonicalize().context("nothing is built yet: run `make bench`")?,
                pg_bin: std::env::var_os("PG_BIN").context("PG_BIN is not set: run `make bench`")?.into(),
            };
            let complete = only.is_empty() && bench.with_peers && !quick;
            // The measurements run on this thread, where they may block. The runtime's thread is for the stand-in servers.
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            runtime.block_on(run(&bench, &only, complete))
        }
    }
}

async fn run(bench: &Bench, only: &[String], complete: bool) -> anyhow::Result<()> {
    for name in only {
        let known = measure::ALL.iter().any(|(known, _)| known == name);
        anyhow::ensure!(known, "there is no measurement {name}; choose from {}", measure::names());
    }
    if bench.with_peers {
        peers::install(bench)?;
    }
    // The logs of an earlier run.
    let _ = std::fs::remove_dir_all(bench.built.join("logs"));
    let machine = Machine::look(&bench.pg_bin)?;
    let whole = Usage::now(std::process::id())?;
    let mut tables: Vec<Table> = Vec::new();
    let mut failed = Vec::new();
    for (name, measurement) in measure::ALL {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("== {name}");
        match measurement.run(bench).await {
            Ok(table) => {
                println!("{}", report::table(&table));
                tables.push(table);
            }
            // The other measurements are still useful.
            Err(error) => {
                eprintln!("{name} failed: {error:#}");
                failed.push(format!("{name}: {error:#}"));
            }
        }
    }
    let foreign = Usage::now(std::process::id())?.foreign_since(&whole);
    println!("{}", report::goals(&tables));
    println!("Used by others on this machine meanwhile: {:.0} %", foreign * 100.0);

    let path = if complete {
        bench.root.join("docs/benchmarks.md")
    } else {
        // A short or partial run does not replace the figures of a full one.
        bench.built.join("benchmarks.md")
    };
    report::write(&path, &machine, bench, &tables, foreign)?;
    eprintln!("written to {}", path.display());
    anyhow::ensure!(failed.is_empty(), "not everything could be measured:\n{}", failed.join("\n"));
    Ok(())
}
