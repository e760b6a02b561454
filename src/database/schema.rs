//! The schema: checks its version, applies the migrations, and grants the rights of the roles.

use std::sync::LazyLock;
use std::time::Duration;

use secrecy::SecretString;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::pool::{connect, keeps_session};
use super::{Error, is_locked, rights};

/// The schema's migrations, as this program knows them.
pub(super) static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.dangerous_set_table_name("restante.schema_migration");
    migrator
});

/// How often, and at what interval, to try to make the first partitions while another session holds their lock.
const PARTITION_TRIES: usize = 50;
const PARTITION_WAIT: Duration = Duration::from_millis(100);

/// How often, and how far apart, a migration is tried that needs a lock which another session has. Ten minutes in all.
const LOCK_TRIES: usize = 200;
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// The version of the schema that this program knows.
pub fn schema_version_known() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Checks that the schema has the version that this program knows, or a newer one that still serves this program. The schema
/// of the next release does, so that an operator can replace the programs one after the other.
///
/// # Errors
/// [`Error::SchemaOlder`] and [`Error::SchemaNewer`], which say what to run; [`Error::Query`].
pub async fn check_schema(connection: &mut PgConnection) -> Result<(), Error> {
    let (found, known) = (schema_version(connection).await?, schema_version_known());
    if found < known {
        return Err(Error::SchemaOlder { found, needed: known });
    }
    if found > known && serves_programs_since(connection).await? > known {
        return Err(Error::SchemaNewer { found, known });
    }
    Ok(())
}

/// Applies the missing migrations, and makes the first partitions. Returns the versions before and after. Several calls
/// at once are safe: they take turns.
///
/// If nothing is missing, the login needs no right to create anything. If the schema `restante` exists already, the
/// login needs no right to create schemas.
///
/// # Errors
/// [`Error::SchemaNewer`] and [`Error::Encoding`], before anything is changed; [`Error::Migration`].
pub async fn migrate(url: &SecretString) -> Result<(i64, i64), Error> {
    keeps_session(url, "restante migrate").await?;
    let mut connection = connect(url, "restante migrate").await?;
    let before = schema_version(&mut connection).await?;
    if before > schema_version_known() {
        return Err(Error::SchemaNewer { found: before, known: schema_version_known() });
    }
    check_encoding(&mut connection).await?;
    if !is_applied(&mut connection, before).await? {
        apply(&mut connection).await?;
    }
    make_partitions(&mut connection).await?;
    connection.close().await?;
    Ok((before, schema_version_known()))
}

/// Grants the roles their rights again, as the migrations do, for a database that was restored without them. Returns
/// how many statements that took.
///
/// # Errors
/// [`Error::SchemaOlder`] and [`Error::SchemaNewer`]; [`Error::Query`] if the login does not own the schema.
pub async fn grant(url: &SecretString) -> Result<usize, Error> {
    let mut connection = connect(url, "restante migrate").await?;
    check_schema(&mut connection).await?;
    let mut transaction = connection.begin().await?;
    let mut granted = 0;
    for statement in MIGRATOR.iter().flat_map(|migration| rights::statements(migration.sql.as_str())) {
        // An object that a later migration dropped needs no rights any more.
        let mut step = transaction.begin().await?;
        match step.execute(AssertSqlSafe(statement.to_owned())).await {
            Ok(_) => step.commit().await?,
            Err(error) if is_of_the_past(&error) => step.rollback().await?,
            Err(error) => return Err(error.into()),
        }
        granted += 1;
    }
    transaction.commit().await?;
    connection.close().await?;
    Ok(granted)
}

/// Applies the migrations that are missing. A migration that has to lock a table gives up after some seconds, because every session
/// would wait behind it, and is tried again once the others have had their turn.
async fn apply(connection: &mut PgConnection) -> Result<(), Error> {
    for _ in 0..LOCK_TRIES {
        match migrator(connection).await?.run_direct(None, connection, false).await {
            Err(error) if is_lock(&error) => {
                tracing::info!("another session has locked a table that the migration needs; trying again");
                tokio::time::sleep(LOCK_WAIT).await;
            }
            applied => return Ok(applied?),
        }
    }
    Ok(migrator(connection).await?.run_direct(None, connection, false).await?)
}

fn is_lock(error: &MigrateError) -> bool {
    matches!(error, MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) if is_locked(error))
}

/// No such function, table, column, or object.
fn is_of_the_past(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("42883" | "42P01" | "42703" | "42704"))
}

/// The migrator. It creates the schema only if there is none: even with `if not exists`, Postgres first checks the
/// right to create one.
async fn migrator(connection: &mut PgConnection) -> sqlx::Result<Migrator> {
    let is_there: bool =
        sqlx::query_scalar("select to_regnamespace('restante') is not null").fetch_one(connection).await?;
    let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
    migrator.dangerous_set_table_name(MIGRATOR.table_name.clone());
    if !is_there {
        migrator.create_schema("restante");
    }
    Ok(migrator)
}

/// Were all migrations applied, and each as this program knows it?
async fn is_applied(connection: &mut PgConnection, version: i64) -> sqlx::Result<bool> {
    if version == 0 {
        return Ok(false);
    }
    let applied: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("select version, checksum, success from restante.schema_migration order by version")
            .fetch_all(connection)
            .await?;
    let known = MIGRATOR.iter().map(|migration| (migration.version, migration.checksum.to_vec(), true));
    Ok(known.eq(applied))
}

/// Restante keeps text of any language as it came, which only UTF8 can hold.
async fn check_encoding(connection: &mut PgConnection) -> Result<(), Error> {
    let (encoding, database, another): (String, String, String) = sqlx::query_as(
        "select current_setting('server_encoding'), quote_ident(current_database()),
                quote_ident(current_database() || '_utf8')",
    )
    .fetch_one(connection)
    .await?;
    if encoding == "UTF8" { Ok(()) } else { Err(Error::Encoding { database, encoding, another }) }
}

/// Makes the missing partitions of this week and the coming ones. If another session's lock prevents that, the worker
/// makes them later; only for the partition of this week this waits.
async fn make_partitions(connection: &mut PgConnection) -> sqlx::Result<()> {
    for _ in 0..PARTITION_TRIES {
        let (missing, is_this_week_there): (i64, bool) = sqlx::query_as(
            "select count(*) filter (where not w.is_there), bool_and(w.is_there) filter (where w.week = 0)
               from (select week, to_regclass('restante.' || to_char(
                            date_trunc('week', now() at time zone 'UTC') + week * interval '1 week',
                            '\"outbox_\"IYYY\"w\"IW')) is not null as is_there
                       from generate_series(0, 26) as week) as w",
        )
        .fetch_one(&mut *connection)
        .await?;
        if missing == 0 {
            return Ok(());
        }
        let made = sqlx::query("select restante.make_partitions()").execute(&mut *connection).await;
        match made {
            Err(error) if is_locked(&error) && is_this_week_there => return Ok(()),
            Err(error) if is_locked(&error) => tokio::time::sleep(PARTITION_WAIT).await,
            made => return made.map(drop),
        }
    }
    Ok(())
}

/// The lowest schema version that a program may know and still use the schema that is there.
async fn serves_programs_since(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select restante.serves_programs_since()").fetch_one(connection).await
}

/// The newest migration that was applied; 0 if the schema does not exist.
pub async fn schema_version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let there: bool = sqlx::query_scalar("select to_regclass('restante.schema_migration') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(0);
    }
    sqlx::query_scalar("select coalesce(max(version), 0) from restante.schema_migration where success")
        .fetch_one(connection)
        .await
}
