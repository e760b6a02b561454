//! Describes why the database cannot be used: each fault once, with the place and the one thing to do.
//!
//! The driver repeats a fault of the database two or three times, with line numbers of the server's source. Of a pool
//! that could not open a connection, it says only that time ran out. No text here contains a password.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use tokio::time::timeout;

use super::session;

/// How long the extra try that finds out why there was no connection may take.
const LOOK_PATIENCE: Duration = Duration::from_secs(3);

/// Why a database cannot be reached, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// Host, port, database and login.
    pub place: String,
    /// What went wrong.
    pub says: String,
    /// The one thing to do.
    pub remedy: String,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}). To do: {}", self.says, self.place, self.remedy)
    }
}

impl Why {
    /// Describes the error of a try to connect with these options.
    pub(super) fn of(error: &sqlx::Error, options: &PgConnectOptions) -> Why {
        let (says, remedy) = judged(error, options);
        Why { place: place(options), says, remedy }
    }
}

/// Host (or socket), port, database and login.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let login = options.get_username();
    format!("{host}:{}, database {}, login {login}", options.get_port(), database(options))
}

fn database(options: &PgConnectOptions) -> &str {
    // The default of Postgres.
    options.get_database().unwrap_or_else(|| options.get_username())
}

/// Finds out why a pool has no connection to give: a fault of the database, or the pool is too small.
///
/// It tries to connect once more, outside of the pool. If that succeeds, it asks what the pool's connections are doing.
pub async fn why(pool: &PgPool, error: &sqlx::Error) -> Why {
    let options = pool.connect_options();
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return Why::of(error, &options);
    }
    match timeout(LOOK_PATIENCE, (*options).clone().connect()).await {
        Err(_) => Why::of(&sqlx::Error::Io(io::ErrorKind::TimedOut.into()), &options),
        Ok(Err(error)) => Why::of(&error, &options),
        Ok(Ok(mut connection)) => {
            // Our pools refuse connections to a standby.
            let is_standby = sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(&mut connection);
            if matches!(timeout(LOOK_PATIENCE, is_standby).await, Ok(Ok(true))) {
                return Why::of(&session::standby(), &options);
            }
            let name = options.get_application_name().unwrap_or_default();
            let doing = timeout(LOOK_PATIENCE, doing(&mut connection, name)).await;
            let doing = doing.ok().and_then(Result::ok).filter(|doing| !doing.is_empty());
            // Whether the close succeeds does not matter.
            drop(timeout(LOOK_PATIENCE, connection.close()).await);
            let size = pool.options().get_max_connections();
            Why {
                place: place(&options),
                says: format!(
                    "all {size} connections of this process are in use, and none came free in time{}",
                    doing.map(|doing| format!(": {doing}")).unwrap_or_default()
                ),
                remedy: "end the sessions that block them (see pg_stat_activity), or raise RESTANTE_DATABASE_CONNECTIONS"
                    .to_owned(),
            }
        }
    }
}

/// What the connections of this application name are doing: `3 waiting for a lock, 1 running a statement`.
async fn doing(connection: &mut PgConnection, name: &str) -> sqlx::Result<String> {
    let doing: Vec<String> = sqlx::query_scalar(
        "select count(*) || ' ' || activity from (
           select case
                    when wait_event_type = 'Lock' then 'waiting for a lock'
                    when state like 'idle in transaction%' then 'with a transaction open'
                    when state = 'active' then 'running a statement'
                    else 'idle'
                  end as activity
             from pg_stat_activity
            where application_name = $1 and datname = current_database() and pid <> pg_backend_pid()) as a
          group by activity order by count(*) desc, activity",
    )
    .bind(name)
    .fetch_all(connection)
    .await?;
    Ok(doing.join(", "))
}

/// What happened, and what to do about it.
fn judged(error: &sqlx::Error, options: &PgConnectOptions) -> (String, String) {
    let (login, database) = (options.get_username(), database(options));
    let (host, port) = (options.get_host(), options.get_port());
    match error {
        sqlx::Error::Database(error) => {
            let remedy = match error.code().as_deref().unwrap_or_default() {
                "28P01" => format!(
                    "give the password of {login} in DATABASE_URL, with %-escapes for the characters @ : / ? # %"
                ),
                // The message contains the file's name in every language.
                "28000" if error.message().contains("pg_hba.conf") => {
                    format!("let pg_hba.conf of the server admit {login} from this machine, or set sslmode=require in DATABASE_URL if it asks for encryption")
                }
                "28000" => format!("create the login {login}, or name another one in DATABASE_URL"),
                "3D000" => format!("create the database {database}, or name another one in DATABASE_URL"),
                "42501" => format!("grant connect on database {database} to {login}"),
                "53300" => "end some connections, raise max_connections (or the connection limit of the login or the \
                            database), or lower RESTANTE_DATABASE_CONNECTIONS"
                    .to_owned(),
                "57P03" => "wait until the server has started".to_owned(),
                _ => "read the log of the server".to_owned(),
            };
            (error.message().to_owned(), remedy)
        }
        sqlx::Error::Io(error) => match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => (
                "the server is a standby, which takes no writes".to_owned(),
                "give DATABASE_URL the primary, or both: postgres://user:password@one,other/database".to_owned(),
            ),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => (
                "no server listens there".to_owned(),
                "start Postgres, or correct the host and the port in DATABASE_URL".to_owned(),
            ),
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => (
                "there is no answer".to_owned(),
                format!("check that this machine can reach {host}:{port} (network, firewall), or correct DATABASE_URL"),
            ),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => (
                "the connection was closed while it was being opened".to_owned(),
                format!("check that a Postgres runs at {host}:{port}, and read its log"),
            ),
            _ if error.to_string().contains("lookup address") => (
                format!("the host {host} is not known"),
                "correct the host in DATABASE_URL, or let this machine resolve it".to_owned(),
            ),
            _ => (error.to_string(), format!("check that this machine can reach {host}:{port}")),
        },
        sqlx::Error::Tls(error) => (
            format!("there is no encrypted connection: {error}"),
            "set the sslmode in DATABASE_URL that the server offers: disable, prefer, require, verify-ca or verify-full"
                .to_owned(),
        ),
        sqlx::Error::Protocol(_) => (
            "the server there does not speak the protocol of Postgres".to_owned(),
            format!("check that a Postgres runs at {host}:{port}"),
        ),
        other => (said(other), "check DATABASE_URL, and read the log of the server".to_owned()),
    }
}

/// An error with its causes, in one line without repetitions.
pub fn told(error: &(dyn StdError + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<sqlx::Error>() {
        return said(error);
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let whole = error.to_string();
        if let Some(of_database) = error.downcast_ref::<sqlx::Error>() {
            let said = said(of_database);
            text = text.replace(&whole, &said);
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            // Its own causes only repeat it.
            return text;
        }
        if !text.contains(&whole) {
            text = format!("{text}: {whole}");
        }
        cause = error.source();
    }
    text
}

/// The message of a database error, without what the driver adds.
fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => format!("the connection to the database failed: {error}"),
        sqlx::Error::PoolTimedOut => {
            "no connection to the database came free in time, and no further one could be made".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> PgConnectOptions {
        url.parse().unwrap()
    }

    fn why(error: sqlx::Error) -> String {
        Why::of(&error, &options("postgres://me:hush@db.example:6543/mail")).to_string()
    }

    #[test]
    fn a_fault_of_the_way_names_the_place_and_one_thing_to_do() {
        let io = |kind: io::ErrorKind| sqlx::Error::Io(kind.into());
        let lookup = io::Error::other("failed to lookup address information: Name or service not known");
        for (error, said) in [
            (
                io(io::ErrorKind::ConnectionRefused),
                "no server listens there (db.example:6543, database mail, login me). To do: start Postgres",
            ),
            (io(io::ErrorKind::TimedOut), "there is no answer (db.example:6543"),
            (sqlx::Error::Io(lookup), "the host db.example is not known ("),
            (io(io::ErrorKind::UnexpectedEof), "the connection was closed while it was being opened ("),
            (sqlx::Error::Tls("server does not support TLS".into()), "To do: set the sslmode"),
        ] {
            let why = why(error);
            assert!(why.contains(said), "{why}");
            assert!(!why.contains("hush") && why.matches("To do").count() == 1, "{why}");
        }
    }

    #[test]
    fn a_socket_and_a_missing_database_name_are_told_as_postgres_takes_them() {
        assert_eq!(place(&options("postgres://me@%2Frun%2Fpg:1/")), "/run/pg:1, database me, login me");
    }

    #[test]
    fn a_chain_of_causes_says_nothing_twice() {
        let refused = || sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into());
        let error = anyhow::Error::from(refused()).context("the event could not be stored");
        assert_eq!(
            told(error.as_ref()),
            "the event could not be stored: the connection to the database failed: connection refused"
        );
        let error = anyhow::Error::from(sqlx::Error::PoolTimedOut);
        assert!(told(error.as_ref()).starts_with("no connection to the database came free in time"));
        let error = anyhow::anyhow!("inner").context("outer").context("outer: inner");
        assert_eq!(told(error.as_ref()), "outer: inner");
    }
}
