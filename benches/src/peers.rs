//! The peers that Restante is compared with: how they are installed and run.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::Bench;
use crate::program::{Runtime, output};

/// A program that receives deliveries at `PORT`, verifies them and inserts each before it answers.
pub(crate) struct Receiver {
    pub name: &'static str,
    pub runtime: Runtime,
    pub program: &'static str,
    pub arguments: &'static [&'static str],
    pub settings: &'static str,
    /// The package whose version the report names.
    pub package: &'static str,
}

/// The receivers. All verify the Standard Webhooks signature over the raw body and answer 204 after
/// `insert … on conflict do nothing` of the body as jsonb has been committed.
pub(crate) const RECEIVERS: &[Receiver] = &[
    Receiver {
        name: "axum + sqlx",
        runtime: Runtime::Rust,
        program: "receiver",
        arguments: &[],
        settings: "pool of 20, one insert a request",
        package: "axum",
    },
    Receiver {
        name: "Express",
        runtime: Runtime::Node,
        program: "receiver.js",
        arguments: &[],
        settings: "one process, pg pool of 20",
        package: "express",
    },
    Receiver {
        name: "Flask",
        runtime: Runtime::PythonProgram,
        program: "gunicorn",
        arguments: &["receiver:app"],
        settings: "gunicorn with 4 sync workers, a psycopg connection each",
        package: "Flask",
    },
];

/// A job queue on Postgres. Its program takes `fill COUNT` and `work COUNT CONCURRENCY`, as [`crate::queue_worker`] does.
pub(crate) struct Queue {
    pub name: &'static str,
    pub runtime: Runtime,
    pub program: &'static str,
    pub settings: &'static str,
    /// Counts the jobs that are not finished.
    pub unfinished: &'static str,
    /// The share of the jobs that it gets, because all would take it too long.
    pub part: f64,
}

/// The queues, each with the settings that its documentation offers for throughput.
pub(crate) const QUEUES: &[Queue] = &[
    Queue {
        name: "graphile-worker",
        runtime: Runtime::Node,
        program: "queue_graphile_worker.js",
        settings: "localQueue 500, completeJobBatchDelay 0; a finished job is deleted",
        unfinished: "select count(*) from graphile_worker.jobs",
        part: 1.0,
    },
    Queue {
        name: "pg-boss",
        runtime: Runtime::Node,
        program: "queue_pg_boss.js",
        settings: "10 workers, batchSize 1000, polling every 0.5 s; the row is kept",
        unfinished: "select count(*) from pgboss.job where state <> 'completed' and name = 'bench'",
        part: 1.0,
    },
    Queue {
        name: "procrastinate",
        runtime: Runtime::Python,
        program: "queue_procrastinate.py",
        settings: "concurrency 24; the row is kept",
        unfinished: "select count(*) from procrastinate_jobs where status <> 'succeeded'",
        part: 0.05,
    },
    Queue {
        name: "graphile_worker",
        runtime: Runtime::Rust,
        program: "queue_graphile_worker",
        settings: "local queue 500, completion batch 5 ms; a finished job is deleted",
        unfinished: "select count(*) from graphile_worker.jobs",
        part: 1.0,
    },
    Queue {
        name: "sqlxmq",
        runtime: Runtime::Rust,
        program: "queue_sqlxmq",
        settings: "concurrency 12 to 24; a finished job is deleted",
        unfinished: "select count(*) from mq_msgs where id <> uuid_nil()",
        part: 0.1,
    },
    Queue {
        name: "apalis",
        runtime: Runtime::Rust,
        program: "queue_apalis",
        settings: "batch_size 100, lock_tasks(false); the row is kept",
        unfinished: "select count(*) from apalis.jobs where status <> 'Done'",
        part: 0.5,
    },
];

/// The version of a peer's package, from the file that pins it.
pub(crate) fn version(bench: &Bench, runtime: Runtime, package: &str) -> Option<String> {
    let pinned = match runtime {
        Runtime::Rust => "rust/Cargo.toml",
        Runtime::Node => "node/package.json",
        Runtime::Python | Runtime::PythonProgram => "python/requirements.txt",
        Runtime::Product | Runtime::Library => return None,
    };
    let text = fs::read_to_string(bench.root.join("benches/peers").join(pinned)).ok()?;
    let rest = text.lines().find_map(|line| {
        let rest = line.trim_start_matches([' ', '"']).strip_prefix(package)?;
        // The name must end here, so that `apalis` does not match `apalis-postgres`.
        rest.starts_with([' ', '"', '=']).then_some(rest)
    })?;
    let begin = rest.find(|c: char| c.is_ascii_digit())?;
    let end = rest[begin..].find(['"', ' ']).map_or(rest.len(), |length| begin + length);
    Some(rest[begin..end].to_owned())
}

/// Installs what the peers need below `target/bench`, from their lock files. Does nothing the second time.
pub(crate) fn install(bench: &Bench) -> anyhow::Result<()> {
    let peers = bench.root.join("benches/peers");
    let node_modules = peers.join("node/node_modules");
    installed(bench, "node/package-lock.json", &node_modules, || {
        output(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(peers.join("node")))
    })?;
    let python = bench.built.join("python");
    installed(bench, "python/requirements.txt", &python, || {
        output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&python))?;
        output(
            Command::new(python.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"])
                .arg(peers.join("python/requirements.txt")),
        )
    })?;
    // Cargo itself notices what has changed.
    output(
        Command::new("cargo")
            .args(["build", "--release", "--locked", "--manifest-path"])
            .arg(peers.join("rust/Cargo.toml"))
            .arg("--target-dir")
            .arg(bench.built.join("peers")),
    )?;
    Ok(())
}

/// Installs into a directory, unless that was filled from the same lock file.
fn installed(
    bench: &Bench,
    lock: &str,
    directory: &Path,
    install: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let wanted = fs::read_to_string(bench.root.join("benches/peers").join(lock)).context(lock.to_owned())?;
    let stamp = directory.join(".installed");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    eprintln!("installing {lock}");
    install()?;
    Ok(fs::write(stamp, wanted)?)
}
