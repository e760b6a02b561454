//! The doctor examines the settings of this login, its database and its server.
//!
//! Our own sessions set what they depend on (`src/database/session.rs`). The settings here are those that they cannot set, and
//! those that still hold for applications, which call `restante.enqueue` in their own sessions.

use secrecy::SecretString;
use sqlx::PgConnection;

use super::Finding;
use restante::database;

/// How many sessions one ingest and one worker use by default.
const CONNECTIONS_MIN: i64 = 40;

/// The server's default settings for this login, by name, without what our own session has set.
type Defaults = Vec<(String, String)>;

/// Examines the settings through an open connection.
pub(super) async fn examine(connection: &mut PgConnection, url: &SecretString) -> Vec<Finding> {
    let mut findings = vec![or_failed("sessions", sessions(url).await)];
    findings
        .push(or_failed("settings", defaults(connection).await.map(|defaults| judge_defaults(&defaults))));
    findings.push(or_failed("writes", writes(connection).await));
    findings.push(or_failed("encoding", encoding(connection).await));
    findings.push(or_failed("connections", connections(connection).await));
    findings.push(or_failed("replication", replication(connection).await));
    findings
}

fn or_failed(subject: &'static str, finding: sqlx::Result<Finding>) -> Finding {
    finding.unwrap_or_else(|error| {
        Finding::wrong(subject, format!("cannot be examined: {error}"), "look at the server's log")
    })
}

/// Checks that no pooler in transaction mode drops the settings of a session.
async fn sessions(url: &SecretString) -> sqlx::Result<Finding> {
    let says = "are kept from one statement to the next";
    match database::keeps_session(url, "restante doctor").await {
        Ok(()) => Ok(Finding::fine("sessions", says)),
        Err(database::Error::TransactionPooler) => Ok(Finding::wrong(
            "sessions",
            "are lost between transactions: there is a pooler in transaction mode, and the services refuse to start",
            "connect past the pooler, or set its pool_mode to session for this database",
        )),
        Err(database::Error::Query(error)) => Err(error),
        Err(error) => Err(sqlx::Error::Configuration(error.into())),
    }
}

async fn defaults(connection: &mut PgConnection) -> sqlx::Result<Defaults> {
    sqlx::query_as("select name, coalesce(reset_val, '') from pg_settings").fetch_all(connection).await
}

fn judge_defaults(defaults: &Defaults) -> Finding {
    let is = |name: &str, values: &[&str]| {
        defaults.iter().any(|(known, value)| known == name && values.contains(&value.as_str()))
    };
    if is("session_replication_role", &["replica"]) {
        return Finding::wrong(
            "settings",
            "session_replication_role is replica: no trigger runs, so an UPDATE by hand can break the order of keys",
            "reset it for this login: alter role ... reset session_replication_role",
        );
    }
    let differing = [
        (is("synchronous_commit", &["local"]), "synchronous_commit does not wait for replicas"),
        (is("default_transaction_read_only", &["on"]), "default_transaction_read_only is on"),
        (
            is("default_transaction_isolation", &["repeatable read", "serializable"]),
            "default_transaction_isolation is above read committed",
        ),
    ];
    let differing: Vec<&str> = differing.iter().filter(|(is_so, _)| *is_so).map(|(_, says)| *says).collect();
    if differing.is_empty() {
        return Finding::fine("settings", "the defaults of this login suit applications too");
    }
    let says = format!(
        "{}: our own sessions override it, sessions of applications that call restante.enqueue do not",
        differing.join(", ")
    );
    Finding::note("settings", says)
}

async fn writes(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let is_standby: bool = sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(connection).await?;
    Ok(if is_standby {
        let remedy =
            "give DATABASE_URL the primary; or several servers: postgres://user:password@one,other/database";
        Finding::wrong("writes", "are refused: this server is a standby", remedy)
    } else {
        Finding::fine("writes", "are possible: this server is not a standby")
    })
}

async fn encoding(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let encoding: String =
        sqlx::query_scalar("select current_setting('server_encoding')").fetch_one(connection).await?;
    Ok(if encoding == "UTF8" {
        Finding::fine("encoding", "is UTF8")
    } else {
        let says = format!("is {encoding}, which cannot store every character");
        Finding::wrong("encoding", says, "move to a database that was created with encoding 'UTF8'")
    })
}

/// Examines how many sessions the server, the database and the login allow; the lowest limit counts.
async fn connections(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let limits: Vec<(String, i64)> = sqlx::query_as(
        "select 'max_connections of the server' as what, current_setting('max_connections')::bigint as most
         union all
         select 'connection limit of the database', datconnlimit from pg_database
          where datname = current_database() and datconnlimit >= 0
         union all
         select 'connection limit of the login', rolconnlimit from pg_roles
          where rolname = session_user and rolconnlimit >= 0
         order by most",
    )
    .fetch_all(connection)
    .await?;
    Ok(match limits.first() {
        Some((what, most)) if *most < CONNECTIONS_MIN => {
            let remedy = "raise it, or give the services less with RESTANTE_DATABASE_CONNECTIONS";
            Finding::wrong("connections", format!("the {what} is {most}"), remedy)
        }
        Some((what, most)) => Finding::fine("connections", format!("enough: the {what} is {most}")),
        None => Finding::fine("connections", "are not limited"),
    })
}

/// If all tables are published, Postgres refuses to change rows of a table without a replica identity.
async fn replication(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class as c
          where c.relnamespace = to_regnamespace('restante') and c.relkind = 'r' and (c.relreplident = 'n'
             or c.relreplident = 'd' and not exists (
                select from pg_index as i where i.indrelid = c.oid and i.indisprimary))
          order by 1",
    )
    .fetch_all(connection)
    .await?;
    Ok(match tables.first() {
        None => Finding::fine("replication", "every table has a replica identity"),
        Some(table) => {
            let says = format!("{} tables have no replica identity, such as {table}", tables.len());
            let remedy = format!("alter table restante.{table} replica identity full");
            Finding::wrong("replication", says, remedy)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn judged(name: &str, value: &str) -> Finding {
        judge_defaults(&vec![(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn what_our_sessions_cannot_set_is_wrong_and_what_they_set_is_worth_a_note() {
        for (name, value, verdict) in [
            ("session_replication_role", "replica", Verdict::Wrong),
            ("session_replication_role", "origin", Verdict::Fine),
            ("synchronous_commit", "local", Verdict::Note),
            ("synchronous_commit", "remote_apply", Verdict::Fine),
            ("default_transaction_read_only", "on", Verdict::Note),
            ("default_transaction_isolation", "serializable", Verdict::Note),
            ("default_transaction_isolation", "read committed", Verdict::Fine),
        ] {
            assert_eq!(judged(name, value).verdict, verdict, "{name} {value}");
        }
    }
}
