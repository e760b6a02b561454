//! The doctor looks for what keeps Postgres from cleaning up: open transactions, and replicas that are away.

use sqlx::FromRow;

use super::check::{Check, Database, Needs};
use super::finding::{Finding, Remedy, SUPERUSER};

pub(super) const CHECKS: &[Check] = &[
    Check {
        subject: "transactions",
        needs: Needs::Everything,
        ask: |database| Box::pin(transactions(database)),
    },
    Check { subject: "slots", needs: Needs::Server, ask: |database| Box::pin(slots(database)) },
];

/// Who keeps vacuum from cleaning up, and for how long.
#[derive(FromRow)]
struct Holder {
    kind: String,
    holder: String,
    role: String,
    minutes: i64,
}

async fn transactions(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let old: Vec<Holder> = sqlx::query_as(
        "select kind, holder, coalesce(role, '-') as role, extract(epoch from open_for)::bigint / 60 as minutes
           from restante.outbox_horizon where open_for >= make_interval(secs => $1) order by open_for desc",
    )
    .bind(database.limits.transaction.as_secs_f64())
    .fetch_all(&mut database.connection)
    .await?;
    let minutes_max = database.limits.transaction.as_secs() / 60;
    let Some(oldest) = old.first() else {
        return Ok(vec![Finding::fine(
            "transactions",
            format!("none is open for more than {minutes_max} minutes"),
        )]);
    };
    let Holder { kind, holder, role, minutes } = oldest;
    let says =
        format!("{} are old, the oldest open for {minutes} minutes: {kind} {holder} of {role}", old.len());
    let why = "vacuum cannot clean up behind them, so the outbox grows and claims get slower";
    let statements: Vec<String> = old
        .iter()
        .map(|Holder { kind, holder, .. }| match kind.as_str() {
            "prepared" => format!("rollback prepared '{}'", holder.replace('\'', "''")),
            _ => format!("select pg_terminate_backend({holder})"),
        })
        .collect();
    let remedy = Remedy::sql("a superuser, unless it is a backup", statements.join("; "));
    Ok(vec![Finding::wrong("transactions", says, why, remedy)])
}

/// A replica that is away, whose slot makes the server keep its log and old rows.
#[derive(FromRow)]
struct Slot {
    name: String,
    bytes: i64,
    holds_rows: bool,
}

async fn slots(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let away: Vec<Slot> = sqlx::query_as(
        "select slot_name::text as name,
                coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end,
                                         restart_lsn), 0)::bigint as bytes,
                xmin is not null or catalog_xmin is not null as holds_rows
           from pg_replication_slots where not active and restart_lsn is not null order by bytes desc",
    )
    .fetch_all(&mut database.connection)
    .await?;
    let Some(worst) = away.iter().find(|slot| slot.bytes >= database.limits.kept_log_bytes) else {
        return Ok(vec![Finding::fine(
            "slots",
            "no replication slot of an absent replica makes the server keep much",
        )]);
    };
    let rows = if worst.holds_rows { ", and old rows" } else { "" };
    let says = format!(
        "nobody reads from the slot {}, for which the server keeps {} MB of its log{rows}",
        worst.name,
        worst.bytes / 1_000_000
    );
    let why = "the log grows until the disk is full, and then nothing can be stored";
    let statements = format!("select pg_drop_replication_slot('{}')", worst.name.replace('\'', "''"));
    let by = if worst.holds_rows { "a superuser, unless its replica comes back soon" } else { SUPERUSER };
    Ok(vec![Finding::wrong("slots", says, why, Remedy::sql(by, statements))])
}
