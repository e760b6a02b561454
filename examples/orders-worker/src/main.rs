//! `orders-worker`: reserves stock for orders, and notifies the desk of sessions that wait for a person.

use std::process::ExitCode;

use anyhow::Context;
use restante::registry::Registry;
use restante::service;
use sqlx::PgPool;

fn main() -> ExitCode {
    service::worker(registry)
}

/// Makes the registry of this worker, once the database is reachable.
async fn registry(_config: &service::Config, pool: &PgPool) -> anyhow::Result<Registry> {
    let desk =
        std::env::var("ORDERS_DESK_URL").context("ORDERS_DESK_URL is not set: give the URL of the desk")?;
    let desk = desk.parse().context("ORDERS_DESK_URL is not a URL")?;
    orders_worker::migrate(pool).await?;
    orders_worker::registry(desk)
}
