//! What the doctor thinks of the settings that others chose for this login, its database and its server.
//!
//! Our own sessions set what they depend on (`src/database/session.rs`). What is named here is what they cannot set, or what
//! goes for applications all the same, which call `restante.enqueue` in sessions of their own.

use secrecy::SecretString;
use sqlx::PgConnection;

use super::Finding;
use restante::database;

/// How many sessions an ingest and a worker want with what they have as their defaults.
const CONNECTIONS_MIN: i64 = 40;

/// What the server has as the default for this login, by name. What a session of ours has set is not among it.
type Defaults = Vec<(String, String)>;

/// Examines the settings through a connection that is there.
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
        Finding::wrong(subject, format!("could not be looked at: {error}"), "look at the server's log")
    })
}

/// A pooler in transaction mode takes away what a session has set.
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
            "session_replication_role is replica: no trigger runs, so nothing keeps the order of what people change",
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
        "{}: our sessions set it anew, those of applications that call restante.enqueue do not",
        differing.join(", ")
    );
    Finding::note("settings", says)
}

async fn writes(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let is_standby: bool = sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(connection).await?;
    Ok(if is_standby {
        let remedy =
            "give DATABASE_URL the primary; or several servers: postgres://user:password@one,other/database";
        Finding::wrong("writes", "are not taken: this server is a standby", remedy)
    } else {
        Finding::fine("writes", "are taken: this server is no standby")
    })
}

async fn encoding(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let encoding: String =
        sqlx::query_scalar("select current_setting('server_encoding')").fetch_one(connection).await?;
    Ok(if encoding == "UTF8" {
        Finding::fine("encoding", "is UTF8")
    } else {
        let says = format!("is {encoding}, which holds no text of other languages");
        Finding::wrong("encoding", says, "move to a database that was created with encoding 'UTF8'")
    })
}

/// The fewest sessions that the server, the database and the login allow.
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

/// Where all tables are published, Postgres refuses to change rows of one that does not say by what they are known.
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
        None => Finding::fine("replication", "every table says by what its rows are known"),
        Some(table) => {
            let says =
                format!("{} tables do not say by what their rows are known, such as {table}", tables.len());
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
