//! `restante`: the hand tool. It prepares the database, submits batches, shows the state of events, and runs a demo and a simulated API.

mod cli;
mod columns;
mod configuration;
mod demo;
mod doctor;
mod endpoint;
mod explain;
mod explained;
mod healthcheck;
mod journal;
mod migrate;
mod results;
mod rotate;
mod status;
mod submit;
mod surroundings;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use restante::{database, service};

use cli::Cli;
use surroundings::Surroundings;

/// How long the end waits for what no await can stop, such as the lookup of a name that nobody answers.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("restante: {}", database::told(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    let code = runtime.block_on(run_in_process(cli));
    runtime.shutdown_timeout(LOOKUP_PATIENCE);
    code
}

async fn run_in_process(cli: Cli) -> anyhow::Result<ExitCode> {
    // One TLS provider for the whole process; without one the first connection would panic.
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    let surroundings = Surroundings {
        variables: service::environment(),
        executable: std::env::current_exe()?,
        temporary: std::env::temp_dir(),
        stop: service::stop_on_signal()?,
    };
    cli::run(cli, surroundings).await
}
