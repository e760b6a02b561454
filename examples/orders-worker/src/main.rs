//! `orders-worker`: reserves stock for orders, and tells the desk which sessions wait for somebody.

use std::process::ExitCode;

use anyhow::Context;
use restante::registry::Registry;
use restante::service;
use sqlx::PgPool;

fn main() -> ExitCode {
    service::worker(registry)
}

/// What this worker does, once the database answers.
async fn registry(_config: &service::Config, pool: &PgPool) -> anyhow::Result<Registry> {
    let desk =
        std::env::var("ORDERS_DESK_URL").context("ORDERS_DESK_URL is missing: where the desk listens")?;
    let desk = desk.parse().context("ORDERS_DESK_URL is no URL")?;
    orders_worker::migrate(pool).await?;
    orders_worker::registry(desk)
}
