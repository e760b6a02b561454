//! Trouble: events that wait because something is wrong on our side or on the API's, and run soon after its repair.
//!
//! Such an event waits for minutes, because a repair takes a person. Nothing reports the repair, so every few seconds
//! the worker tries one event of each kind of trouble before its time. If that event gets further, all the others run
//! too. While the trouble lasts, this costs one call of the API in those seconds, however many events wait.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgExecutor};

use crate::outbox::Outcome;

/// The kinds of trouble that an operator or the API's side repairs, so that it may be over at any time. Not
/// `rate_limited`: there the API said when to come back. Not the kinds of a team's own handlers: we cannot know what
/// those wait for.
const KINDS: [&str; 7] =
    ["account", "settings", "redirected", "refused_by_api", "unavailable", "transport", "malformed"];

/// How many events one statement makes due.
const PAGE: i64 = 1000;

/// The events that are being tried before their time: one for each subscriber and kind of trouble.
#[derive(Debug, Default)]
pub struct Tried(BTreeMap<(String, String), i64>);

/// The state of an event that was tried.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    /// It waits to be claimed, or it runs.
    UnderWay,
    /// It is in trouble again.
    InTrouble,
    /// It got further, so the trouble is over.
    Healed,
    /// A person has changed or deleted it, so it says nothing.
    Gone,
}

/// Checks the events that were tried. If one got further, makes all others in the same trouble due. Then tries one
/// event of each kind of trouble. Returns how many events it made due.
///
/// # Errors
/// The database is away or did not answer.
pub async fn look_for_repairs(connection: &mut PgConnection, tried: &mut Tried) -> sqlx::Result<u64> {
    let mut let_go = 0;
    let mut under_way = BTreeMap::new();
    for ((subscriber, kind), id) in std::mem::take(&mut tried.0) {
        match became(&mut *connection, id).await? {
            Became::UnderWay => _ = under_way.insert((subscriber, kind), id),
            Became::Healed => let_go += let_all_go(connection, &subscriber, &kind).await?,
            Became::InTrouble | Became::Gone => {}
        }
    }
    tried.0 = under_way;
    for one in try_one_of_each(&mut *connection).await? {
        tried.0.entry((one.subscriber, one.kind)).or_insert(one.id);
    }
    Ok(let_go)
}

/// The most frequent cause among events that wait for a repair, and how many have it. Looks at the first thousand
/// events that wait for a time.
///
/// # Errors
/// The database is away or did not answer.
pub async fn most_frequent(executor: impl PgExecutor<'_>) -> sqlx::Result<Option<(String, i64)>> {
    let row = sqlx::query!(
        r#"
        select coalesce(restante.cause(w.last_error), '') as "cause!", count(*) as "events!"
          from (select l.status, l.outcome, l.last_error from restante.outbox_live as l
                 where l.lane = 'l' order by l.subscriber, l.run_at, l.id limit 1000) as w
         where w.status = 'retry' and w.outcome = 'trouble'
         group by 1 order by 2 desc, 1 limit 1
        "#
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| (row.cause, row.events)))
}

async fn became(executor: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Became> {
    let row = sqlx::query!(
        r#"
        select status as "status!: String", outcome, run_at <= clock_timestamp() as "is_due!" from restante.outbox
         -- It was tried a moment ago, so older weeks of the history need no look.
         where id = $1 and finished_at > clock_timestamp() - interval '1 hour'
        "#,
        id
    )
    .fetch_optional(executor)
    .await?;
    let Some(row) = row else { return Ok(Became::Gone) };
    let is_in_trouble = row.outcome.as_deref() == Some(Outcome::Trouble.as_str());
    Ok(match row.status.as_str() {
        "running" => Became::UnderWay,
        "retry" if is_in_trouble && row.is_due => Became::UnderWay,
        "retry" if is_in_trouble => Became::InTrouble,
        "retry" | "dead" | "done" => Became::Healed,
        _ => Became::Gone,
    })
}

/// An event that is tried before its time.
struct One {
    id: i64,
    subscriber: String,
    kind: String,
}

/// Makes one event of each kind of trouble due now. Leaves one that a person is changing by hand.
async fn try_one_of_each(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<One>> {
    sqlx::query_as!(
        One,
        r#"
        update restante.outbox_live as l set run_at = least(l.run_at, clock_timestamp())
          from (select distinct on (w.subscriber, w.kind) w.id
                  from (select r.id, r.subscriber, r.kind, r.outcome, r.run_at from restante.outbox_live as r
                         where r.lane = 'l' order by r.subscriber, r.run_at, r.id limit 10000) as w
                 where w.outcome = 'trouble' and w.kind = any ($1)
                 order by w.subscriber, w.kind, w.run_at) as first
         cross join lateral (
               select o.id from restante.outbox_live as o
                where o.id = first.id and o.status = 'retry' and o.lane::text = 'l' for update skip locked) as one
         where l.id = one.id
        returning l.id, l.subscriber, l.kind as "kind!"
        "#,
        &KINDS as &[&str],
    )
    .fetch_all(executor)
    .await
}

/// Makes all events in this trouble due now, page by page.
async fn let_all_go(connection: &mut PgConnection, subscriber: &str, kind: &str) -> sqlx::Result<u64> {
    let mut let_go = 0;
    loop {
        let page = sqlx::query!(
            r#"
            update restante.outbox_live as l set run_at = clock_timestamp()
              from (select r.id from restante.outbox_live as r
                     where r.lane = 'l' and r.subscriber = $1 and r.run_at > clock_timestamp()
                       and r.status = 'retry' and r.outcome = 'trouble' and r.kind = $2
                     order by r.subscriber, r.run_at, r.id limit $3 for update skip locked) as w
             where l.id = w.id
            "#,
            subscriber,
            kind,
            PAGE,
        )
        .execute(&mut *connection)
        .await?
        .rows_affected();
        let_go += page;
        if page < PAGE as u64 {
            return Ok(let_go);
        }
    }
}
