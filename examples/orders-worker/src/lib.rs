//! The handlers of a shop, which run in its own worker next to `restante-worker`.

pub mod note_translation;
pub mod reserve_stock;
pub mod tell_desk;

use restante::registry::Registry;
use sqlx::PgPool;
use url::Url;

/// The subscriber whose rows of the outbox this worker runs. It must never change.
pub const SUBSCRIBER: &str = "orders";

/// Registers the handlers. `restante-worker` also has a handler for `session.status_idled`: each gets its own row.
///
/// # Errors
/// If the HTTP client cannot be built.
pub fn registry(desk: Url) -> anyhow::Result<Registry> {
    Ok(Registry::new()
        .subscribe(SUBSCRIBER, reserve_stock::ReserveStock)
        .subscribe(SUBSCRIBER, note_translation::NoteTranslation)
        .subscribe(SUBSCRIBER, tell_desk::TellDesk::new(desk)?))
}

/// Makes the tables of the shop in the schema `orders`, or brings them up to date.
///
/// # Errors
/// If the database cannot be reached or a migration fails.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    let mut migrator = sqlx::migrate!();
    migrator.create_schema("orders");
    migrator.dangerous_set_table_name("orders.schema_migration");
    Ok(migrator.run(pool).await?)
}
