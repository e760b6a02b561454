//! The doctor judges the rights of the login by what it is for, and tries the work of its service.
//!
//! A login for ingest is right even though it cannot read the outbox. So no remedy here gives a login more rights than its
//! program needs.

use std::time::Duration;

use chrono::Utc;
use restante::Source;
use restante::event::{ANTHROPIC, Body, NewEvent};
use restante::internals::outbox::{self, claim::Ask};
use sqlx::error::DatabaseError;
use sqlx::{Connection, PgConnection};

use super::check::{Check, Database, Needs};
use super::finding::{Finding, OWNER, Remedy, SUPERUSER};
use super::login::Login;
use super::scope::Scope;

pub(super) const CHECKS: &[Check] = &[
    Check { subject: "login", needs: Needs::Server, ask: |database| Box::pin(login(database)) },
    Check { subject: "work", needs: Needs::Schema, ask: |database| Box::pin(work(database)) },
];

async fn login(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let Database { login, scope, .. } = database;
    let mut findings = if login.has_schema { judge(login, *scope) } else { Vec::new() };
    findings.extend(too_many(login, *scope));
    Ok(findings)
}

/// What the login is for, and what it lacks for that.
fn judge(login: &Login, scope: Scope) -> Vec<Finding> {
    let Login { name, .. } = login;
    let lacking: Vec<Finding> = [
        (scope.ingest && !login.may_insert, "ingest", "restante_ingest"),
        (scope.worker && !login.may_claim, "worker", "restante_worker"),
    ]
    .into_iter()
    .filter(|(lacks, ..)| *lacks && scope.is_asked && !login.is_owner)
    .map(|(_, service, role)| {
        Finding::wrong(
            "login",
            format!("{name} lacks the rights of restante-{service}"),
            format!("restante-{service} would start and could do nothing"),
            format!("give restante-{service} a DATABASE_URL with a login of the role {role}; deploy/logins.sql makes one"),
        )
    })
    .collect();
    if login.is_owner {
        return vec![of_owner(login, scope)];
    }
    let purposes = purposes(login);
    if purposes.is_empty() {
        return vec![of_nobody(login)];
    }
    let mut findings =
        vec![Finding::fine("login", format!("{name} is right for {}", purposes.join("; for ")))];
    if login.may_operate && !login.sees_sessions {
        findings.push(Finding::warn(
            "login",
            format!("{name} does not see the sessions of others"),
            "an operator without that cannot see who keeps vacuum from cleaning up",
            Remedy::sql(SUPERUSER, format!("grant pg_read_all_stats to {name}")),
        ));
    }
    findings.extend(lacking);
    findings
}

/// What the login of a service may do and no service needs: whoever gets hold of the service then may do it too.
fn too_many(login: &Login, scope: Scope) -> Vec<Finding> {
    let Login { name, owner, .. } = login;
    if !scope.is_asked || login.is_superuser || login.is_owner_itself {
        return Vec::new();
    }
    let mut too_many = Vec::new();
    if login.is_owner {
        too_many
            .push((format!("act as {owner}, who owns the schema"), format!("revoke {owner} from {name}")));
    } else if login.may_claim && !scope.worker {
        too_many.push(("run handlers".to_owned(), format!("revoke restante_worker from {name}")));
    }
    if !login.attributes.is_empty() {
        let attributes = login.attributes.join(", ");
        let no: Vec<String> =
            login.attributes.iter().map(|attribute| format!("no{}", attribute.to_lowercase())).collect();
        too_many
            .push((format!("do what {attributes} allows"), format!("alter role {name} {}", no.join(" "))));
    }
    let why = "whoever gets hold of the service may do that too";
    too_many
        .into_iter()
        .map(|(what, sql)| {
            let says = format!("{name} may {what}, which the service does not need");
            Finding::warn("login", says, why, Remedy::sql(SUPERUSER, sql))
        })
        .collect()
}

fn of_owner(Login { name, is_superuser, .. }: &Login, scope: Scope) -> Finding {
    let serves = scope.ingest || scope.worker;
    if *is_superuser && serves && scope.is_asked {
        return Finding::warn(
            "login",
            format!("{name} is a superuser, and a service is to use it"),
            "whoever gets hold of the service then has the whole server",
            "run deploy/logins.sql, and give each service the login that it makes for it",
        );
    }
    Finding::fine(
        "login",
        format!("{name} owns the schema: right for restante migrate, more than a service needs"),
    )
}

fn purposes(login: &Login) -> Vec<&'static str> {
    // The worker may store events too, so `may_insert` alone says ingest.
    [
        (login.may_insert && !login.may_claim, "restante-ingest: it may add events"),
        (login.may_claim, "restante-worker: it may run handlers"),
        (login.may_operate, "an operator: it may look at everything and change the status of events"),
        (login.may_enqueue, "an application: it may enqueue"),
    ]
    .into_iter()
    .filter(|(may, _)| *may && login.may_use)
    .map(|(_, what)| what)
    .collect()
}

/// A login that may do nothing: why not.
fn of_nobody(login: &Login) -> Finding {
    let Login { name, owner, member_of, inherits, .. } = login;
    let why = "every statement of a program with this login is refused";
    if let Some(role) = inherits.first() {
        let says = format!("{name} is a member of {role}, which has no rights in this database");
        let remedy = format!("restante migrate --grants, with the DATABASE_URL of {owner}");
        return Finding::wrong("login", says, why, remedy);
    }
    if let Some(role) = member_of.first() {
        let says = format!("{name} is a member of {role}, and does not inherit its rights");
        // Since Postgres 16 the grant says whether rights are inherited, and the attribute only what later grants say.
        let statements = if login.server_version < 160_000 {
            format!("alter role {name} inherit")
        } else {
            format!("grant {} to {name} with inherit true", member_of.join(", "))
        };
        return Finding::wrong("login", says, why, Remedy::sql(SUPERUSER, statements));
    }
    let says = format!("{name} has none of the four roles, and the schema restante belongs to {owner}");
    let remedy = format!(
        "as {owner}: grant restante_ingest, restante_worker or restante_operator to {name}, whichever it is for; \
         to migrate as {name}, run deploy/logins.sql, or: alter schema restante owner to {name}"
    );
    Finding::wrong("login", says, why, remedy)
}

/// Tries what the services do, and rolls it back: rights, disk and defaults of the database all have their say.
async fn work(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let Login { may_insert, may_claim, .. } = database.login;
    // A standby takes no writes, and another check says so.
    let is_standby: bool =
        sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(&mut database.connection).await?;
    let services =
        [("an event", may_insert && database.scope.ingest), ("a claim", may_claim && database.scope.worker)];
    let mut findings = Vec::new();
    for (what, _) in services.into_iter().filter(|(_, may)| *may && !is_standby) {
        let tried = if what == "an event" {
            try_event(&mut database.connection).await
        } else {
            try_claim(&mut database.connection).await
        };
        findings.push(match tried {
            Ok(()) => Finding::fine("work", format!("{what} was tried, and rolled back")),
            Err(error) => refused(what, &database.login, &error),
        });
    }
    Ok(findings)
}

fn refused(what: &str, Login { owner, .. }: &Login, error: &sqlx::Error) -> Finding {
    let code = error.as_database_error().and_then(DatabaseError::code).unwrap_or_default();
    let remedy = match &*code {
        "42501" => format!("restante migrate --grants, with the DATABASE_URL of {owner}"),
        "53100" => "make room on the disk of the database: vacuum alone gives none back".to_owned(),
        _ => format!("look at the server's log, and at the schema as {OWNER}"),
    };
    let says = format!("{what} was tried and refused: {}", restante::database::told(error));
    Finding::wrong("work", says, "this is what the service does all the time", remedy)
}

async fn try_event(connection: &mut PgConnection) -> sqlx::Result<()> {
    let event = NewEvent {
        sender: ANTHROPIC.to_owned(),
        account: Some(ANTHROPIC.to_owned()),
        event_id: format!("doctor:{:032x}", rand::random::<u128>()),
        event_type: "doctor".to_owned(),
        key: None,
        workspace_id: None,
        created_at: Utc::now(),
        body: Body::Json("{}".to_owned()),
        traceparent: None,
    };
    let mut transaction = connection.begin().await?;
    let tried = outbox::insert_events(&mut *transaction, Source::Webhook, &[event]).await;
    transaction.rollback().await?;
    tried.map(drop)
}

async fn try_claim(connection: &mut PgConnection) -> sqlx::Result<()> {
    let nothing = Ask {
        owner: "doctor",
        subscribers: &[],
        limit: 0,
        lease: Duration::from_secs(1),
        cursor: None,
        settles: false,
    };
    let mut transaction = connection.begin().await?;
    let tried = outbox::claim(&mut *transaction, nothing).await;
    transaction.rollback().await?;
    tried.map(drop)
}
