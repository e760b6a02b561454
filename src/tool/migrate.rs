//! `restante migrate`: brings the schema to the version of this program, and says what it did.

use secrecy::SecretString;
use sqlx::{Connection, Row};

use super::columns::grouped;
use crate::database;

/// Migrates the database and answers what was done, in lines for people.
///
/// # Errors
/// What the database says; nothing of a migration that fails remains.
pub(super) async fn run(url: &SecretString) -> anyhow::Result<String> {
    let (before, after) = database::migrate(url).await?;
    let mut connection = database::connect(url, "restante migrate").await?;
    let mut said = match before == after {
        true => format!("the schema `restante` is at version {after} already\n"),
        false => format!("the schema `restante` went from version {before} to {after}:\n"),
    };
    let applied = sqlx::query(
        "select version, description, execution_time / 1000000 as milliseconds
           from restante.schema_migration where version > $1 order by version",
    )
    .bind(before)
    .fetch_all(&mut connection)
    .await?;
    for row in applied {
        let (version, milliseconds) = (row.get::<i64, _>("version"), row.get::<i64, _>("milliseconds"));
        let description: String = row.get("description");
        said += &format!("  {version:04} {description} ({} ms)\n", grouped(milliseconds));
    }
    said += "the partitions of this week and of those to come are there\n";
    connection.close().await?;
    Ok(said)
}
