//! `restante migrate`: brings the schema to the version of this program, and reports what it did.

use secrecy::SecretString;
use sqlx::{Connection, PgConnection, Row};

use super::columns::grouped;
use restante::database;

/// Migrates the database and, with `grants`, gives the roles their rights again. Returns what was done, in lines for people.
///
/// # Errors
/// If the database cannot be reached or a migration fails; a failed migration leaves nothing behind.
pub(super) async fn run(url: &SecretString, grants: bool) -> anyhow::Result<String> {
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
    said += "the partitions of this week and the coming ones are there\n";
    if grants {
        said += &format!("the roles have their rights again ({} statements)\n", database::grant(url).await?);
    }
    said += &missing_rights(&mut connection, grants).await?;
    connection.close().await?;
    Ok(said)
}

/// What to do if the roles cannot use the schema; empty if they can.
async fn missing_rights(connection: &mut PgConnection, are_granted: bool) -> sqlx::Result<String> {
    let without: i64 = sqlx::query_scalar(
        "select count(*) from unnest(array['restante_ingest', 'restante_worker', 'restante_operator', 'restante_app', 'restante_page', 'restante_page_replay']) as r (role)
          where not coalesce((select has_schema_privilege(p.oid, 'restante', 'usage') from pg_roles as p
                               where p.rolname = r.role), false)",
    )
    .fetch_one(connection)
    .await?;
    Ok(match (without, are_granted) {
        (0, _) => String::new(),
        // The schema was restored without rights, or into a server that has no such roles.
        (_, false) => "the roles have no rights here yet: run restante migrate --grants\n".to_owned(),
        (_, true) => {
            "the schema belongs to another role; as that role, run: grant usage on schema restante to \
                      restante_ingest, restante_worker, restante_operator, restante_app, restante_page, restante_page_replay;\n"
                .to_owned()
        }
    })
}
