//! The handlers of a shop, as they run in its own worker beside `restante-worker`.

pub mod reserve_stock;
pub mod tell_desk;

use restante::registry::Registry;
use sqlx::PgPool;
use url::Url;

/// The name under which this worker gets its rows of the outbox. It never changes.
pub const SUBSCRIBER: &str = "orders";

/// Both handlers. `session.status_idled` has a built-in handler too, in `restante-worker`: each gets a row of its own.
///
/// # Errors
/// Where no HTTP client can be made.
pub fn registry(desk: Url) -> anyhow::Result<Registry> {
    Ok(Registry::new()
        .subscribe(SUBSCRIBER, reserve_stock::ReserveStock)
        .subscribe(SUBSCRIBER, tell_desk::TellDesk::new(desk)?))
}

/// Makes the tables of the shop, in the schema `orders`, or brings them up to date.
///
/// # Errors
/// What the database says.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    let mut migrator = sqlx::migrate!();
    migrator.create_schema("orders");
    migrator.dangerous_set_table_name("orders.schema_migration");
    Ok(migrator.run(pool).await?)
}
