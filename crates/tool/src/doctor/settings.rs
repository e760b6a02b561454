//! The doctor examines the settings that hold for this login, its database and its server.
//!
//! Our own sessions set what they depend on (`src/database/session.rs`). The settings here are those that they cannot set, and
//! those that still hold for applications and people, who use sessions of their own.

use sqlx::FromRow;

use super::check::{Check, Database, Needs};
use super::finding::{Finding, Remedy, Verdict};

pub(super) const CHECKS: &[Check] =
    &[Check { subject: "settings", needs: Needs::Server, ask: |database| Box::pin(examine(database)) }];

/// A setting that does harm with some values.
struct Danger {
    name: &'static str,
    does_harm: fn(&str) -> bool,
    verdict: Verdict,
    why: &'static str,
    /// What it is to be.
    good: &'static str,
}

const fn danger(
    name: &'static str,
    does_harm: fn(&str) -> bool,
    verdict: Verdict,
    why: &'static str,
    good: &'static str,
) -> Danger {
    Danger { name, does_harm, verdict, why, good }
}

/// For settings that our own sessions override.
const APPLICATIONS: &str =
    "our own sessions override it; those of applications that call restante.enqueue, and of people, do not";

const DANGERS: &[Danger] = &[
    danger("fsync", is_off, Verdict::Wrong, "a crash of the machine may destroy the database", "on"),
    danger("full_page_writes", is_off, Verdict::Wrong, "a crash of the machine may destroy pages", "on"),
    danger(
        "synchronous_commit",
        is_off,
        Verdict::Wrong,
        "what an application has enqueued may be lost by a crash, although its commit was answered",
        "on",
    ),
    danger("synchronous_commit", |value| value == "local", Verdict::Warn, APPLICATIONS, "on"),
    danger("autovacuum", is_off, Verdict::Wrong, "the outbox grows, and each claim gets slower", "on"),
    danger("track_counts", is_off, Verdict::Wrong, "autovacuum does not know what to clean up", "on"),
    danger(
        "track_activities",
        is_off,
        Verdict::Warn,
        "nobody can see which session holds up others or keeps vacuum from cleaning up",
        "on",
    ),
    danger(
        "session_replication_role",
        |value| value != "origin",
        Verdict::Wrong,
        "triggers do not run, so an UPDATE by hand can break the order of keys",
        "origin",
    ),
    danger("default_transaction_read_only", is_on, Verdict::Warn, APPLICATIONS, "off"),
    danger(
        "default_transaction_isolation",
        |value| matches!(value, "repeatable read" | "serializable"),
        Verdict::Warn,
        APPLICATIONS,
        "read committed",
    ),
    danger("statement_timeout", is_below_a_second, Verdict::Warn, APPLICATIONS, "0"),
    danger("lock_timeout", is_below_a_tenth, Verdict::Warn, APPLICATIONS, "0"),
    danger("idle_in_transaction_session_timeout", is_below_a_second, Verdict::Warn, APPLICATIONS, "0"),
    danger("transaction_timeout", is_below_a_second, Verdict::Warn, APPLICATIONS, "0"),
    danger(
        "search_path",
        hides_the_catalog,
        Verdict::Warn,
        "a function of that schema can take the place of one of Postgres, for people and applications",
        "\"$user\", public",
    ),
    danger(
        "log_statement",
        |value| matches!(value, "mod" | "all"),
        Verdict::Warn,
        "the server's log gets the content of every event, which is for nobody who reads logs",
        "none",
    ),
    danger("zero_damaged_pages", is_on, Verdict::Wrong, "damaged rows vanish without a word", "off"),
    danger("ignore_checksum_failure", is_on, Verdict::Wrong, "damaged rows are taken for sound ones", "off"),
];

fn is_off(value: &str) -> bool {
    value == "off"
}

fn is_on(value: &str) -> bool {
    value == "on"
}

fn is_below_a_second(milliseconds: &str) -> bool {
    milliseconds.parse().is_ok_and(|milliseconds| (1..1_000).contains(&milliseconds))
}

fn is_below_a_tenth(milliseconds: &str) -> bool {
    milliseconds.parse().is_ok_and(|milliseconds| (1..100).contains(&milliseconds))
}

/// The catalog comes first unless the path names it further to the back.
fn hides_the_catalog(path: &str) -> bool {
    let mut schemas = path.split(',').map(|schema| schema.trim().trim_matches('"'));
    schemas.position(|schema| schema == "pg_catalog").is_some_and(|position| position > 0)
}

/// The default of a session of this login, and who has set it.
#[derive(FromRow)]
struct Setting {
    name: String,
    value: String,
    /// The role and the database that it is set for, quoted; neither if the server has set it.
    role: Option<String>,
    database: Option<String>,
    is_of_all_roles: bool,
}

async fn examine(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let names: Vec<&str> = DANGERS.iter().map(|danger| danger.name).collect();
    // The order is that of Postgres: what is set for a role in a database wins over the role, then the database, then all.
    let settings: Vec<Setting> = sqlx::query_as(
        "select s.name, coalesce(s.reset_val, '') as value, quote_ident(r.rolname) as role,
                quote_ident(d.datname) as database, coalesce(o.setrole = 0 and o.setdatabase = 0, false) as is_of_all_roles
           from pg_settings as s
           left join lateral (
                select o.setrole, o.setdatabase from pg_db_role_setting as o
                 where o.setdatabase in (0, (select oid from pg_database where datname = current_database()))
                   and o.setrole in (0, (select oid from pg_roles where rolname = session_user))
                   and exists (select from unnest(o.setconfig) as c (line) where c.line ilike s.name || '=%')
                 order by o.setrole = 0, o.setdatabase = 0 limit 1) as o on true
           left join pg_roles as r on r.oid = o.setrole
           left join pg_database as d on d.oid = o.setdatabase
          where s.name = any ($1)",
    )
    .bind(names)
    .fetch_all(&mut database.connection)
    .await?;
    Ok(judge(&settings))
}

fn judge(settings: &[Setting]) -> Vec<Finding> {
    let harmful = DANGERS.iter().filter_map(|danger| {
        let setting = settings.iter().find(|setting| setting.name == danger.name)?;
        (danger.does_harm)(&setting.value).then(|| finding(danger, setting))
    });
    let findings: Vec<Finding> = harmful.collect();
    if findings.is_empty() {
        return vec![Finding::fine("settings", format!("none of {} does harm", settings.len()))];
    }
    findings
}

fn finding(Danger { name, verdict, why, good, .. }: &Danger, setting: &Setting) -> Finding {
    // Postgres takes no such statement in a transaction that is read-only.
    let before = if *name == "default_transaction_read_only" {
        "set default_transaction_read_only = off; "
    } else {
        ""
    };
    let reset = |whose: String| {
        Remedy::sql(
            "a superuser, or the owner of the database",
            format!("{before}alter {whose} reset {name}"),
        )
    };
    let (whose, remedy) = match (&setting.role, &setting.database) {
        (Some(role), Some(database)) => {
            (format!("for {role} in {database}"), reset(format!("role {role} in database {database}")))
        }
        (Some(role), None) => (format!("for {role}"), reset(format!("role {role}"))),
        (None, Some(database)) => {
            (format!("for the database {database}"), reset(format!("database {database}")))
        }
        (None, None) if setting.is_of_all_roles => ("for all roles".to_owned(), reset("role all".to_owned())),
        (None, None) => {
            let statements = format!("alter system set {name} = {}; select pg_reload_conf()", literal(good));
            (
                "for the whole server".to_owned(),
                Remedy::sql("a superuser (or among the parameters of your provider)", statements),
            )
        }
    };
    let says = format!("{name} is {} {whose}", setting.value);
    match verdict {
        Verdict::Wrong => Finding::wrong("settings", says, *why, remedy),
        _ => Finding::warn("settings", says, *why, remedy),
    }
}

/// A value for `alter system`; a list is written as one.
fn literal(value: &str) -> String {
    if value.contains('"') { value.to_owned() } else { format!("'{value}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(name: &str, value: &str) -> Verdict {
        let (name, value) = (name.to_owned(), value.to_owned());
        judge(&[Setting { name, value, role: None, database: None, is_of_all_roles: false }])[0].verdict
    }

    #[test]
    fn what_our_sessions_cannot_set_is_wrong_and_what_they_set_is_a_warning() {
        for (name, value, verdict) in [
            ("session_replication_role", "replica", Verdict::Wrong),
            ("session_replication_role", "origin", Verdict::Fine),
            ("synchronous_commit", "off", Verdict::Wrong),
            ("synchronous_commit", "local", Verdict::Warn),
            ("synchronous_commit", "remote_apply", Verdict::Fine),
            ("default_transaction_read_only", "on", Verdict::Warn),
            ("default_transaction_isolation", "serializable", Verdict::Warn),
            ("default_transaction_isolation", "read committed", Verdict::Fine),
            ("statement_timeout", "0", Verdict::Fine),
            ("statement_timeout", "999", Verdict::Warn),
            ("statement_timeout", "30000", Verdict::Fine),
            ("search_path", "\"$user\", public", Verdict::Fine),
            ("search_path", "pg_catalog, mine", Verdict::Fine),
            ("search_path", "mine, \"pg_catalog\"", Verdict::Warn),
        ] {
            assert_eq!(judged(name, value), verdict, "{name} {value}");
        }
    }
}
