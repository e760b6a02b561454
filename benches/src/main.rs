//! The measuring of Restante beside its peers: what `make bench` runs.
//!
//! Each file of `measure` is one measurement: a function that starts what it needs on a Postgres of its own and answers
//! with figures. Product and peers take turns within each round, every point begins with a fresh database and a
//! checkpoint, and a point whose events cannot all be found in the table afterwards is an error, not a figure.

mod cluster;
mod events;
mod figures;
mod goals;
mod load;
mod machine;
mod measure;
mod peers;
mod program;
mod queue_worker;
mod report;
mod scale;
mod stand_in;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::figures::Table;
use crate::machine::{Machine, Usage};
use crate::scale::Scale;

/// What every measurement is given.
pub(crate) struct Bench {
    pub scale: Scale,
    /// Whether the peers are measured too.
    pub with_peers: bool,
    /// The root of the repository.
    pub root: PathBuf,
    /// Where what was built and installed for measuring is: `target/bench`.
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
        /// One short round: shows that everything runs, not how fast.
        #[arg(long)]
        quick: bool,
        /// Ten million rows of history where one million is the default.
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
        /// Where what was built and installed for measuring is.
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
            // The measurements run on this thread, where they may block; the thread beside it is the stand-in servers'.
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            runtime.block_on(run(&bench, &only, complete))
        }
    }
}

async fn run(bench: &Bench, only: &[String], complete: bool) -> anyhow::Result<()> {
    for name in only {
        let known = measure::ALL.iter().any(|(known, _)| known == name);
        anyhow::ensure!(known, "no measurement is called {name}; there are {}", measure::names());
    }
    if bench.with_peers {
        peers::install(bench)?;
    }
    // Of an earlier run.
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
            // The other measurements are worth having all the same.
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
        // A short or partial run does not replace figures that were measured with care.
        bench.built.join("benchmarks.md")
    };
    report::write(&path, &machine, bench, &tables, foreign)?;
    eprintln!("written to {}", path.display());
    anyhow::ensure!(failed.is_empty(), "not everything could be measured:\n{}", failed.join("\n"));
    Ok(())
}
