//! The doctor examines the database: how it can be reached, and then each check of the list.

use secrecy::SecretString;
use sqlx::{Connection, PgConnection};

use super::NAME;
use super::check::{Check, Database, Limits, Needs, findings_of};
use super::finding::Finding;
use super::login::{self, Login};
use super::scope::{Scope, Subject};
use super::{clock, granted, horizon, retention, rights, server, sessions, settings, tables, weeks};
use restante::database::{self, told};

/// The checks by family, in the order in which they are told.
const FAMILIES: &[&[Check]] = &[
    server::CHECKS,
    clock::CHECKS,
    sessions::CHECKS,
    settings::CHECKS,
    rights::CHECKS,
    granted::CHECKS,
    tables::CHECKS,
    weeks::CHECKS,
    retention::CHECKS,
    horizon::CHECKS,
];

/// What is asked, and about which services.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) subject: Option<Subject>,
    pub(super) variables: &'a [(String, String)],
    pub(super) limits: Limits,
}

/// Examines the database, as far as it can be reached and this login is meant to look. Also returns which services are meant to
/// start here.
pub(super) async fn examine(asked: Asked<'_>, url: Option<&SecretString>) -> (Vec<Finding>, Scope) {
    let unknown = Scope::of(asked.subject, None, asked.variables);
    let Some(url) = url else {
        let why = "every service and every command needs the database";
        let finding =
            Finding::wrong("database", "DATABASE_URL is not set", why, "set it, as in .env.example");
        return (vec![finding], unknown);
    };
    let (mut database, mut findings) = match opened(asked, url).await {
        Ok(database) => (database, Vec::new()),
        Err(finding) => return (vec![finding], unknown),
    };
    let schema = schema(&mut database).await;
    let is_known = schema.as_ref().is_none_or(|finding| finding.help.is_none());
    for check in FAMILIES.iter().copied().flatten() {
        let is_met = check.needs.are_met_by(&database.login);
        if !is_met || (check.needs != Needs::Server && !is_known) {
            continue;
        }
        let (found, is_usable) = findings_of(check, &mut database).await;
        findings.extend(found);
        if !is_usable {
            break;
        }
    }
    findings.extend(schema);
    let scope = database.scope;
    // It does not matter if the connection cannot be closed.
    let _closed = database.connection.close().await;
    (findings, scope)
}

/// Connects, and asks who we are.
async fn opened(asked: Asked<'_>, url: &SecretString) -> Result<Database, Finding> {
    let why = "every service and every command needs the database";
    let mut connection = database::connect(url, NAME).await.map_err(|error| match error {
        database::Error::Unreachable(cause) => {
            Finding::wrong("database", format!("{} ({})", cause.says, cause.place), why, cause.remedy)
        }
        error => Finding::wrong("database", told(&error), why, "correct DATABASE_URL"),
    })?;
    let login: Login = database::answered(login::of(&mut connection)).await.map_err(|error| {
        let says = format!("does not say who we are: {}", told(&error));
        Finding::wrong("database", says, why, "look at the server's log")
    })?;
    let scope = Scope::of(asked.subject, Some(&login), asked.variables);
    let pool_connections = super::pools::connections(asked.variables, scope);
    Ok(Database {
        connection,
        url: url.clone(),
        login,
        scope,
        pool_connections,
        limits: asked.limits,
        is_newer: false,
    })
}

/// The version of the schema; `None` if it is not for this login to know.
async fn schema(database: &mut Database) -> Option<Finding> {
    if !database.login.has_schema {
        let remedy = "restante migrate, as the owner of the database";
        return Some(Finding::wrong(
            "schema",
            "is missing in this database",
            "the services refuse to start",
            remedy,
        ));
    }
    if !database.login.may_use || !database.login.sees_version() {
        return None;
    }
    Some(match version(&mut database.connection).await {
        Ok(version) => {
            database.is_newer = version > database::schema_version_known();
            let says = if database.is_newer {
                "is a newer one, which serves this program too"
            } else {
                "is the one that this program knows"
            };
            Finding::fine("schema", says)
        }
        Err(error) => judge_schema(error),
    })
}

/// The version of a schema that serves this program.
async fn version(connection: &mut PgConnection) -> Result<i64, database::Error> {
    database::check_schema(connection).await?;
    Ok(database::schema_version(connection).await?)
}

fn judge_schema(error: database::Error) -> Finding {
    let why = "the services of this release refuse to start";
    match error {
        database::Error::SchemaOlder { found, needed } => Finding::wrong(
            "schema",
            format!("is at version {found}, this program needs {needed}"),
            why,
            "restante migrate, with the DATABASE_URL of the owner",
        ),
        database::Error::SchemaNewer { found, known } => Finding::wrong(
            "schema",
            format!("is at version {found}, this program knows only {known}"),
            why,
            "run a release of Restante that is at least as new as the one that migrated it",
        ),
        other => Finding::wrong("schema", told(&other), why, "look at the server's log"),
    }
}
