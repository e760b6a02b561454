//! `restante-worker`: claims events from the outbox and runs the built-in handlers.

use std::process::ExitCode;

use restante::config::Worker;
use restante::registry::Registry;
use restante::{handlers, service};
use sqlx::PgPool;

fn main() -> ExitCode {
    service::worker(registry)
}

async fn registry(config: &Worker, pool: &PgPool) -> anyhow::Result<Registry> {
    if config.reconcile.is_some() {
        handlers::batch_reconcile::schedule(pool).await?;
    }
    let settings = handlers::Settings { batch_poll: config.batch_poll, reconcile: config.reconcile };
    Ok(handlers::registry(settings))
}
