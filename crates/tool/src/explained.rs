//! What is behind an error of the database: a schema that is too old, or a login with too few rights.
//!
//! The commands of applications ask only then, because their role may not read the version of the schema.

use restante::database;
use sqlx::PgConnection;

/// The error, or what is behind it. `doing` is what the login may not do then.
pub(super) async fn explained(
    error: anyhow::Error,
    connection: &mut PgConnection,
    doing: &str,
) -> anyhow::Error {
    let code = error
        .downcast_ref::<sqlx::Error>()
        .and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
    match code.as_deref() {
        // No such schema, table or function.
        Some("3F000" | "42P01" | "42883") => match database::check_schema(connection).await {
            Err(behind) => behind.into(),
            Ok(()) => error,
        },
        Some("42501") => error.context(format!("this login may not {doing}: grant restante_app to it")),
        _ => error,
    }
}
