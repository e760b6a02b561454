//! `restante-worker`: claims events from the outbox and runs their handlers.

use std::process::ExitCode;
use std::time::Duration;

use restante::config::{ApiAuth, Program, Worker};
use restante::{api, handlers, service, worker};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    service::main(Program::Worker, Worker::from_vars, |config| config.log.clone(), run)
}

async fn run(config: Worker) -> anyhow::Result<()> {
    let stop = service::stop_on_signal()?;
    let pool = service::database(&config.database_url, "restante-worker", config.database_connections, &stop)
        .await?;
    let ended = CancellationToken::new();
    service::serve_ops(config.ops_listen, pool.clone(), stop.clone(), ended.clone()).await?;

    let api = api::Client::new(api::Settings {
        auth: match config.api.auth {
            ApiAuth::XApiKey => api::Auth::XApiKey,
            ApiAuth::Bearer => api::Auth::Bearer,
        },
        version: config.api.version,
        betas: config.api.beta,
        ..api::Settings::new(config.api.base_url, config.api_key)
    })?;
    let registry =
        handlers::registry(handlers::Settings { batch_poll: config.batch_poll, reconcile: config.reconcile });
    if config.reconcile.is_some() {
        handlers::batch_reconcile::schedule(&pool).await?;
    }
    let settings = worker::Settings {
        name: std::env::var("HOSTNAME").unwrap_or_else(|_| format!("worker-{}", std::process::id())),
        database_url: config.database_url,
        concurrency: config.concurrency,
        lease: config.lease,
        poll: Duration::from_secs(1),
        drain: config.drain,
    };
    worker::run(settings, pool, registry, api, stop).await?;
    ended.cancel();
    Ok(())
}
