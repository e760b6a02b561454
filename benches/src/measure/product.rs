//! The product's own programs, started as an operator would.

use std::net::SocketAddr;

use crate::Bench;
use crate::cluster::Database;
use crate::events::signing_key;
use crate::program::{Program, Runtime, free_address};

/// Starts `restante-ingest` and waits until it accepts deliveries.
pub(crate) fn ingest(bench: &Bench, database: &Database) -> anyhow::Result<(Program, SocketAddr)> {
    let address = free_address()?;
    let mut program = Program::start(
        bench,
        Runtime::Product,
        "restante-ingest",
        &[],
        &database.url,
        &[
            ("ANTHROPIC_WEBHOOK_SIGNING_KEY", &signing_key()),
            ("RESTANTE_LISTEN", &address.to_string()),
            ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
            ("RESTANTE_LINGER_SECONDS", "0"),
        ],
    )?;
    program.wait_listening(address)?;
    Ok((program, address))
}

/// Starts `restante-worker`, which calls the API at `api`.
pub(crate) fn worker(bench: &Bench, database: &Database, api: &str) -> anyhow::Result<Program> {
    worker_with(bench, database, api, &[])
}

/// The same with further variables.
pub(crate) fn worker_with(
    bench: &Bench,
    database: &Database,
    api: &str,
    variables: &[(&str, &str)],
) -> anyhow::Result<Program> {
    let usual = [
        ("ANTHROPIC_API_KEY", "sk-bench"),
        ("ANTHROPIC_BASE_URL", api),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
    ];
    Program::start(
        bench,
        Runtime::Product,
        "restante-worker",
        &[],
        &database.url,
        &[&usual[..], variables].concat(),
    )
}

/// Fills the outbox with waiting events, `per_key` of them for each key.
pub(crate) fn fill(bench: &Bench, database: &Database, count: usize, per_key: usize) -> anyhow::Result<()> {
    let (count, per_key) = (count.to_string(), format!("--per-key={per_key}"));
    library(bench, database, &["queue", "fill", &count, &per_key])?.finish()
}

/// Starts a worker with a handler that does nothing, 24 at once. It reports when it has handled `count` events.
pub(crate) fn work(
    bench: &Bench,
    database: &Database,
    count: usize,
    options: &[&str],
) -> anyhow::Result<Program> {
    let count = count.to_string();
    let arguments = [&["queue", "work", &count, "24"], options].concat();
    library(bench, database, &arguments)
}

fn library(bench: &Bench, database: &Database, arguments: &[&str]) -> anyhow::Result<Program> {
    Program::start(bench, Runtime::Library, "restante as a library", arguments, &database.url, &[])
}
