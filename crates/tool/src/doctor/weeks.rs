//! The doctor examines what the worker keeps in order by itself: weekly partitions, and the heads of keys.

use super::check::{Check, Database, Needs};
use super::finding::{Finding, Remedy};

pub(super) const CHECKS: &[Check] = &[
    Check { subject: "partitions", needs: Needs::Schema, ask: |database| Box::pin(partitions(database)) },
    Check { subject: "overflow", needs: Needs::Everything, ask: |database| Box::pin(overflow(database)) },
    Check { subject: "keys", needs: Needs::Events, ask: |database| Box::pin(keys(database)) },
];

async fn partitions(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let missing: i64 = sqlx::query_scalar(
        "select count(*) from generate_series(0, 4) as w (week)
          where not exists (select from pg_class as c
                 where c.relnamespace = to_regnamespace('restante') and c.relname = to_char(
                       date_trunc('week', now() at time zone 'UTC') + w.week * interval '1 week', '\"outbox_\"IYYY\"w\"IW'))",
    )
    .fetch_one(&mut database.connection)
    .await?;
    if missing == 0 {
        return Ok(vec![Finding::fine("partitions", "exist for this week and the four after it")]);
    }
    Ok(vec![Finding::wrong(
        "partitions",
        format!("{missing} of those for this week and the four after it are missing"),
        "finished events of these weeks go to outbox_overflow; a worker makes the partitions ahead, so none may be running",
        Remedy::sql("the owner of the schema, or a worker's login", "select restante.make_partitions()"),
    )])
}

async fn overflow(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let (rows, oldest): (i64, Option<String>) = sqlx::query_as(
        "select count(*), to_char(min(finished_at) at time zone 'UTC', 'YYYY-MM-DD')
           from (select finished_at from restante.outbox_overflow limit 1000) as o",
    )
    .fetch_one(&mut database.connection)
    .await?;
    let Some(oldest) = oldest.filter(|_| rows > 0) else {
        return Ok(vec![Finding::fine(
            "overflow",
            "is empty: every finished event is in the partition of its week",
        )]);
    };
    let many = if rows == 1_000 { " or more" } else { "" };
    Ok(vec![Finding::warn(
        "overflow",
        format!("{rows}{many} finished events are in outbox_overflow, the oldest of {oldest}"),
        "they are history like any other, as after a copy of the data, but retention goes through them row by row",
        "keep a worker running, which makes the weeks ahead; say in restante.retention for how long finished events are kept, and \
         the worker deletes the older ones here too",
    )])
}

async fn keys(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let headless: i64 = sqlx::query_scalar(
        "select count(*) from (
           select distinct restante.order_key(w.account, w.sender, w.key), w.subscriber from restante.outbox_live as w
            where w.lane = 'b' and not exists (
                  select from restante.outbox_live as h
                   where restante.order_key(h.account, h.sender, h.key) = restante.order_key(w.account, w.sender, w.key)
                     and h.subscriber = w.subscriber and h.lane in ('r', 'l'))) as k",
    )
    .fetch_one(&mut database.connection)
    .await?;
    if headless == 0 {
        return Ok(vec![Finding::fine("keys", "every blocked event has an older one before it")]);
    }
    Ok(vec![Finding::wrong(
        "keys",
        format!("{headless} keys have blocked events without an older one before them"),
        "these events never run; a worker heals such keys within minutes, so none may be running",
        Remedy::sql("the owner of the schema, or a worker's login", "select restante.sweep(null)"),
    )])
}
