//! The doctor examines the database.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use sqlx::postgres::PgListener;
use sqlx::{Connection, PgConnection, Row};

use super::Finding;
use super::login::{self, Login};
use restante::database::{self, told};

/// How many seconds the clocks of this machine and the database may differ. Signatures tolerate 300 s, logs less.
const SKEW_SECONDS_MAX: i64 = 5;

/// How long a transaction may be open before it holds vacuum back too long.
const TRANSACTION_MINUTES_MAX: i64 = 15;

/// Below this number of updates the share of HOT updates says nothing.
const UPDATES_MIN: i64 = 10_000;

/// Every claim can be a HOT update; releases of blocked events and retries cannot.
const HOT_SHARE_MIN: f64 = 0.3;

/// How long a notification may take.
const NOTIFY_PATIENCE: Duration = Duration::from_secs(3);

/// The name under which the database sees us.
const NAME: &str = "restante doctor";

/// Examines the database, as far as it can be reached and this login is meant to look. Also returns the login, if it is known.
pub(super) async fn examine(url: Option<&SecretString>) -> (Vec<Finding>, Option<Login>) {
    let Some(url) = url else {
        let finding = Finding::wrong("database", "DATABASE_URL is not set", "set it, as in .env.example");
        return (vec![finding], None);
    };
    let mut connection = match database::connect(url, NAME).await {
        Ok(connection) => connection,
        Err(database::Error::Unreachable(why)) => {
            let says = format!("{} ({})", why.says, why.place);
            return (vec![Finding::wrong("database", says, why.remedy)], None);
        }
        Err(error) => return (vec![Finding::wrong("database", told(&error), "correct DATABASE_URL")], None),
    };
    let mut findings = vec![server(&mut connection).await];
    findings.push(or_failed("clock", clock(&mut connection).await));
    findings.extend(settings(&mut connection).await);
    findings.push(notifications(url).await);
    findings.extend(super::settings::examine(&mut connection, url).await);
    let login = match login::of(&mut connection).await {
        Ok(login) => login,
        Err(error) => {
            findings.push(or_failed("login", Err(error)));
            return (findings, None);
        }
    };
    findings.extend(schema(&mut connection, &login).await);
    // It does not matter if the connection cannot be closed.
    let _closed = connection.close().await;
    (findings, Some(login))
}

/// Examines the schema, as far as the login is meant to.
async fn schema(connection: &mut PgConnection, login: &Login) -> Vec<Finding> {
    if !login.has_schema {
        let remedy = "restante migrate, as the owner of the database";
        return vec![Finding::wrong("schema", "is missing in this database", remedy)];
    }
    let mut findings = vec![login.judged()];
    if !login.may_use || !login.sees_version() {
        return findings;
    }
    match database::check_schema(connection).await {
        Ok(()) => findings.push(Finding::fine("schema", "is the one that this program knows")),
        Err(error) => {
            findings.push(judge_schema(error));
            return findings;
        }
    }
    findings.push(or_failed("partitions", partitions(connection).await));
    if login.sees_events() {
        findings.push(or_failed("keys", keys(connection).await));
        findings.push(or_failed("claims", claims(connection).await));
    }
    if login.sees_everything() {
        findings.push(or_failed("overflow", overflow(connection).await));
        findings.push(or_failed("retention", super::retention::examine(connection).await));
        findings.push(or_failed("transactions", transactions(connection).await));
    } else {
        let says = "not everything was examined: the rest needs a login with the role restante_operator";
        findings.push(Finding::note("login", says));
    }
    findings
}

fn judge_schema(error: database::Error) -> Finding {
    match error {
        database::Error::SchemaOlder { found, needed } => Finding::wrong(
            "schema",
            format!("is at version {found}, this program needs {needed}"),
            "restante migrate",
        ),
        database::Error::SchemaNewer { found, known } => Finding::wrong(
            "schema",
            format!("is at version {found}, this program knows only {known}"),
            "run a release of Restante that is at least as new as the one that migrated it",
        ),
        other => Finding::wrong("schema", told(&other), "look at the server's log"),
    }
}

fn or_failed(subject: &'static str, finding: sqlx::Result<Finding>) -> Finding {
    finding.unwrap_or_else(|error| {
        Finding::wrong(subject, format!("cannot be examined: {}", told(&error)), "look at the server's log")
    })
}

async fn server(connection: &mut PgConnection) -> Finding {
    let version = sqlx::query_scalar::<_, String>("select current_setting('server_version')");
    or_failed(
        "database",
        version
            .fetch_one(connection)
            .await
            .map(|version| Finding::fine("database", format!("answers: Postgres {version}"))),
    )
}

async fn clock(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let question = "select clock_timestamp()";
    // The first execution also prepares the statement, which takes longer on the way there than on the way back.
    sqlx::query_scalar::<_, DateTime<Utc>>(question).fetch_one(&mut *connection).await?;
    let asked = Utc::now();
    let theirs: DateTime<Utc> = sqlx::query_scalar(question).fetch_one(connection).await?;
    let ours = asked + (Utc::now() - asked) / 2;
    Ok(judge_clock(theirs - ours))
}

fn judge_clock(ahead: TimeDelta) -> Finding {
    let seconds = ahead.num_milliseconds() as f64 / 1e3;
    let says = format!("the database's clock and this machine's differ by {:.3} s", seconds.abs());
    if ahead.num_seconds().abs() < SKEW_SECONDS_MAX {
        return Finding::fine("clock", says);
    }
    Finding::wrong("clock", says, "run NTP on both; signed webhooks are refused beyond 300 s")
}

async fn settings(connection: &mut PgConnection) -> Vec<Finding> {
    let rows = sqlx::query_as::<_, (String, String)>(
        "select name, coalesce(reset_val, setting) from pg_settings
          where name in ('fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum', 'track_counts')",
    )
    .fetch_all(connection)
    .await;
    match rows {
        Ok(rows) => vec![
            judge_settings(
                "durability",
                &["fsync", "full_page_writes", "synchronous_commit"],
                &rows,
                "turn it on: without it a crash may lose what was acknowledged with a 2xx",
            ),
            judge_settings(
                "vacuum",
                &["autovacuum", "track_counts"],
                &rows,
                "turn it on: without it the outbox grows and slows down",
            ),
        ],
        Err(error) => vec![or_failed("durability", Err(error))],
    }
}

fn judge_settings(
    subject: &'static str,
    names: &[&str],
    settings: &[(String, String)],
    remedy: &'static str,
) -> Finding {
    let off: Vec<_> = settings
        .iter()
        .filter(|(name, value)| names.contains(&name.as_str()) && value == "off")
        .map(|(name, _)| name.as_str())
        .collect();
    match off[..] {
        [] => Finding::fine(subject, format!("{}: not off", names.join(", "))),
        _ => Finding::wrong(subject, format!("off: {}", off.join(", ")), remedy),
    }
}

/// If a notification does not come back, a pooler gives each transaction another connection.
async fn notifications(url: &SecretString) -> Finding {
    match tokio::time::timeout(NOTIFY_PATIENCE, notify_ourselves(url)).await {
        Ok(Ok(())) => Finding::fine("notifications", "arrive: workers are woken at once"),
        Ok(Err(error)) => or_failed("notifications", Err(error)),
        Err(_) => Finding::wrong(
            "notifications",
            "do not arrive, so events wait for the next poll: most likely there is a pooler in transaction mode",
            "connect the worker past the pooler, or with one in session mode",
        ),
    }
}

async fn notify_ourselves(url: &SecretString) -> sqlx::Result<()> {
    let pool = database::pool(url, NAME, 2).map_err(|error| sqlx::Error::Configuration(Box::new(error)))?;
    let channel = format!("restante_doctor_{:016x}", rand::random::<u64>());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&channel).await?;
    sqlx::query("select pg_notify($1, '')").bind(&channel).execute(&pool).await?;
    listener.recv().await?;
    Ok(())
}

async fn partitions(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let missing: i64 = sqlx::query_scalar(
        "select count(*) from generate_series(0, 4) as w (week)
          where to_regclass('restante.' || to_char(
                  date_trunc('week', now() at time zone 'UTC') + w.week * interval '1 week', '\"outbox_\"IYYY\"w\"IW'))
                is null",
    )
    .fetch_one(connection)
    .await?;
    if missing == 0 {
        return Ok(Finding::fine("partitions", "exist for this week and the four after it"));
    }
    let says = format!("{missing} of those for this week and the four after it are missing");
    Ok(Finding::wrong(
        "partitions",
        says,
        "select restante.make_partitions(); then keep a worker running, which makes them ahead",
    ))
}

async fn overflow(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let rows: i64 =
        sqlx::query_scalar("select count(*) from (select from restante.outbox_overflow limit 1000) as o")
            .fetch_one(connection)
            .await?;
    if rows == 0 {
        return Ok(Finding::fine(
            "overflow",
            "is empty: every finished event is in the partition of its week",
        ));
    }
    let says = format!(
        "{rows} finished events or more are in outbox_overflow, which retention goes through row by row"
    );
    Ok(Finding::wrong(
        "overflow",
        says,
        "keep a worker running, which makes the partitions ahead; then delete or move these events",
    ))
}

async fn transactions(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let old = sqlx::query(
        "select kind, holder, coalesce(role, '-') as role, extract(epoch from open_for)::bigint / 60 as minutes
           from restante.outbox_horizon where open_for > make_interval(mins => $1::int) order by open_for desc",
    )
    .bind(TRANSACTION_MINUTES_MAX as i32)
    .fetch_all(connection)
    .await?;
    let Some(oldest) = old.first() else {
        let says = format!("none is open for more than {TRANSACTION_MINUTES_MAX} minutes");
        return Ok(Finding::fine("transactions", says));
    };
    let (kind, holder): (String, String) = (oldest.get("kind"), oldest.get("holder"));
    let (role, minutes): (String, i64) = (oldest.get("role"), oldest.get("minutes"));
    let says = format!(
        "{} keep vacuum from cleaning up, the oldest for {minutes} minutes: {kind} {holder} of {role}",
        old.len()
    );
    let remedy = match kind.as_str() {
        "prepared" => format!("commit or roll it back: rollback prepared '{holder}'"),
        _ => format!("end it, unless it is a backup: select pg_terminate_backend({holder})"),
    };
    Ok(Finding::wrong("transactions", says, remedy))
}

async fn keys(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let headless: i64 = sqlx::query_scalar(
        "select count(*) from (
           select distinct restante.order_key(w.account, w.sender, w.key), w.subscriber from restante.outbox_live as w
            where w.lane = 'b' and not exists (
                  select from restante.outbox_live as h
                   where restante.order_key(h.account, h.sender, h.key) = restante.order_key(w.account, w.sender, w.key) and h.subscriber = w.subscriber and h.lane in ('r', 'l'))) as k",
    )
    .fetch_one(connection)
    .await?;
    if headless == 0 {
        return Ok(Finding::fine("keys", "every blocked event has an older one before it"));
    }
    let says = format!("{headless} keys have blocked events without an older one before them");
    Ok(Finding::wrong(
        "keys",
        says,
        "keep a worker running, which heals them, or: select restante.sweep(null)",
    ))
}

async fn claims(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let (updates, hot): (i64, i64) = sqlx::query_as(
        "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables
          where schemaname = 'restante' and relname = 'outbox_live'",
    )
    .fetch_one(connection)
    .await?;
    Ok(judge_claims(updates, hot))
}

fn judge_claims(updates: i64, hot: i64) -> Finding {
    if updates < UPDATES_MIN {
        let says = format!("too few updates so far to judge how they are written ({updates})");
        return Finding::fine("claims", says);
    }
    let share = hot as f64 / updates as f64;
    let says =
        format!("{:.0} % of {updates} updates of the outbox were written in place (HOT)", share * 100.0);
    if share >= HOT_SHARE_MIN {
        return Finding::fine("claims", says);
    }
    Finding::note("claims", says + ": check whether an index or the fillfactor of outbox_live was changed")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn clocks_may_differ_by_a_little_either_way() {
        for (milliseconds, verdict) in [
            (0, Verdict::Fine),
            (4_999, Verdict::Fine),
            (-4_999, Verdict::Fine),
            (5_000, Verdict::Wrong),
            (-90_000, Verdict::Wrong),
        ] {
            assert_eq!(judge_clock(TimeDelta::milliseconds(milliseconds)).verdict, verdict, "{milliseconds}");
        }
    }

    #[test]
    fn a_setting_that_is_off_is_named() {
        let settings = [("fsync", "off"), ("synchronous_commit", "remote_apply"), ("autovacuum", "off")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));

        let finding = judge_settings("durability", &["fsync", "synchronous_commit"], &settings, "turn it on");

        assert_eq!((finding.verdict, finding.says.as_str()), (Verdict::Wrong, "off: fsync"));
    }

    #[test]
    fn the_share_of_updates_in_place_counts_once_there_are_enough() {
        for (updates, hot, verdict) in
            [(9_999, 0, Verdict::Fine), (10_000, 9_000, Verdict::Fine), (10_000, 100, Verdict::Note)]
        {
            assert_eq!(judge_claims(updates, hot).verdict, verdict, "{updates} {hot}");
        }
    }
}
