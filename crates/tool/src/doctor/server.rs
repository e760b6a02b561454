//! The doctor examines the server: its version, its encoding, whether it takes writes, and for how many it has room.

use sqlx::PgConnection;

use super::check::{Check, Database, Needs};
use super::finding::{Finding, Remedy, SUPERUSER};

pub(super) const CHECKS: &[Check] = &[
    Check { subject: "database", needs: Needs::Server, ask: |database| Box::pin(version(database)) },
    Check { subject: "encoding", needs: Needs::Server, ask: |database| Box::pin(encoding(database)) },
    Check { subject: "writes", needs: Needs::Server, ask: |database| Box::pin(writes(database)) },
    Check { subject: "connections", needs: Needs::Server, ask: |database| Box::pin(connections(database)) },
    Check { subject: "age", needs: Needs::Server, ask: |database| Box::pin(age(database)) },
];

/// The oldest Postgres that is tried.
const VERSION_MIN: i32 = 140_000;

/// Sessions that a service opens beside its pool.
const BESIDE_THE_POOL: i64 = 4;

/// With fewer sessions than this a service does not get through a day.
const CONNECTIONS_LEAST: i64 = 6;

/// Postgres stops taking writes at about 2,100 million.
const AGE_MAX: i32 = 1_500_000_000;

async fn version(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let version: String = sqlx::query_scalar("select current_setting('server_version')")
        .fetch_one(&mut database.connection)
        .await?;
    Ok(vec![judge_version(database.login.server_version, &version)])
}

fn judge_version(number: i32, version: &str) -> Finding {
    if number >= VERSION_MIN {
        return Finding::fine("database", format!("answers: Postgres {version}"));
    }
    let says = format!("answers: Postgres {version}, which is older than 14");
    Finding::wrong(
        "database",
        says,
        "the schema uses what Postgres 14 brought",
        "move to Postgres 14 or newer",
    )
}

async fn encoding(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let (encoding, another): (String, String) = sqlx::query_as(
        "select current_setting('server_encoding'), quote_ident(current_database() || '_utf8')",
    )
    .fetch_one(&mut database.connection)
    .await?;
    if encoding == "UTF8" {
        return Ok(vec![Finding::fine("encoding", "is UTF8")]);
    }
    let statements = format!("create database {another} template template0 encoding 'UTF8' locale 'C'");
    Ok(vec![Finding::wrong(
        "encoding",
        format!("is {encoding}, which cannot hold every character"),
        "events keep their text as it came, in any language; restante migrate refuses this database",
        Remedy::sql("one who may create databases", statements),
    )])
}

async fn writes(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let is_standby: bool =
        sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(&mut database.connection).await?;
    Ok(vec![if is_standby {
        let remedy =
            "give DATABASE_URL the primary; or several servers: postgres://user:password@one,other/database";
        Finding::wrong(
            "writes",
            "are refused: this server is a standby",
            "nothing can be stored there",
            remedy,
        )
    } else {
        Finding::fine("writes", "are possible: this server is not a standby")
    }])
}

/// A limit on the number of sessions: whose it is, how many, and the statement that sets it.
struct Limit {
    what: &'static str,
    most: i64,
    raise: &'static str,
}

/// Examines how many sessions the server, the database and the login allow, and how many are in use.
async fn connections(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let (server, of_database, of_login, used, name): (i64, i64, i64, i64, String) = sqlx::query_as(
        "select current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
                  - coalesce(current_setting('reserved_connections', true)::bigint, 0),
                (select datconnlimit::bigint from pg_database where datname = current_database()),
                (select rolconnlimit::bigint from pg_roles where rolname = session_user),
                (select sum(numbackends)::bigint from pg_stat_database), quote_ident(current_database())",
    )
    .fetch_one(&mut database.connection)
    .await?;
    let limits = [
        Limit {
            what: "max_connections of the server",
            most: server,
            raise: "alter system set max_connections =",
        },
        Limit { what: "connection limit of the database", most: of_database, raise: "alter database" },
        Limit { what: "connection limit of the login", most: of_login, raise: "alter role" },
    ];
    let needed = if database.pool_connections == 0 { 0 } else { database.pool_connections + BESIDE_THE_POOL };
    let least = limits.into_iter().filter(|limit| limit.most >= 0).min_by_key(|limit| limit.most);
    let mut findings: Vec<Finding> =
        least.map(|limit| judge_limit(&limit, needed, &name, &database.login.name)).into_iter().collect();
    findings.extend(judge_use(used, server));
    Ok(findings)
}

fn judge_limit(Limit { what, most, raise }: &Limit, needed: i64, database: &str, login: &str) -> Finding {
    if *most >= needed {
        return Finding::fine(
            "connections",
            format!("{most} by the {what}, of which the services here use {needed}"),
        );
    }
    let says = format!("the {what} is {most}, and the services here open {needed}");
    let why = "a service whose connections are refused waits, and answers deliveries with 503";
    let statements = match *raise {
        "alter database" => format!("alter database {database} connection limit {needed}"),
        "alter role" => format!("alter role {login} connection limit {needed}"),
        server => format!("{server} {}", needed + BESIDE_THE_POOL),
    };
    let remedy = Remedy::sql(SUPERUSER, statements);
    if *most < CONNECTIONS_LEAST {
        Finding::wrong("connections", says, why, remedy)
    } else {
        Finding::warn("connections", says, why, remedy)
    }
}

/// `None` if there is room.
fn judge_use(used: i64, most: i64) -> Option<Finding> {
    if used * 10 < most * 9 {
        return None;
    }
    Some(Finding::warn(
        "connections",
        format!("{used} of the {most} that the server allows are in use"),
        "the next program that starts may get none",
        "end what is idle, put a pooler in session mode before the applications, or raise max_connections: \
         select application_name, usename, state, count(*) from pg_stat_activity group by 1, 2, 3 order by 4 desc",
    ))
}

async fn age(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    Ok(vec![judge_age(oldest(&mut database.connection).await?)])
}

async fn oldest(connection: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::query_scalar("select age(datfrozenxid) from pg_database where datname = current_database()")
        .fetch_one(connection)
        .await
}

fn judge_age(age: i32) -> Finding {
    let says = format!("{age} transactions since the oldest row that vacuum has not frozen");
    if age < AGE_MAX {
        return Finding::fine("age", says);
    }
    Finding::wrong(
        "age",
        says,
        "at about 2,100 million Postgres stops taking writes",
        Remedy::sql(SUPERUSER, "vacuum (freeze, verbose)"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_postgres_that_is_too_old_is_wrong() {
        let finding = judge_version(130_011, "13.11");

        assert_eq!(
            (finding.verdict, judge_version(140_000, "14.0").verdict),
            (Verdict::Wrong, Verdict::Fine)
        );
        assert!(finding.says.contains("Postgres 13.11"), "{}", finding.says);
    }

    #[test]
    fn a_server_whose_connections_are_nearly_all_in_use_is_a_warning() {
        assert_eq!(judge_use(89, 100), None);
        let finding = judge_use(90, 100).unwrap();
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.says.starts_with("90 of the 100"), "{}", finding.says);
    }

    #[test]
    fn a_database_that_comes_near_the_end_of_its_transaction_numbers_is_wrong() {
        assert_eq!(judge_age(200_000_000).verdict, Verdict::Fine);
        assert_eq!(judge_age(1_600_000_000).verdict, Verdict::Wrong);
    }
}
