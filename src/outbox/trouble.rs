//! Trouble: events that wait because something is wrong on our side or on the API's, and run soon after its repair.
//!
//! Such an event waits for minutes, because a repair takes a person. Nothing reports the repair, so every few seconds
//! the worker tries one event of each kind of trouble before its time. If that event gets further, all the others run
//! too. While the trouble lasts, this costs one call of the API in those seconds, however many events wait. Each account
//! of the API has troubles of its own.
//!
//! What waits for an account to be configured is tried by workers that have the account, and by no other.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgExecutor};

use crate::outbox::Outcome;

/// The kinds of trouble that an operator or the API's side repairs, so that it may be over at any time. Not
/// `rate_limited`: there the API said when to come back. Not the kinds of a team's own handlers: we cannot know what
/// those wait for.
pub(super) const KINDS: [&str; 8] = [
    "account",
    "settings",
    "no_admin_key",
    "redirected",
    "refused_by_api",
    "unavailable",
    "transport",
    "malformed",
];

/// How many events one statement makes due.
const PAGE: i64 = 1000;

/// The events that are being tried before their time: one for each trouble.
#[derive(Debug, Default)]
pub struct Tried(BTreeMap<Trouble, i64>);

/// What events wait for together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Trouble {
    subscriber: String,
    kind: String,
    /// [`NO_ACCOUNT`], or the account whose key, limit or API it is.
    account: String,
}

/// The account of events that belong to none.
pub const NO_ACCOUNT: &str = "";

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
/// event of each kind of trouble. Returns how many events it made due. `accounts` are those that the worker has.
///
/// # Errors
/// The database is away or did not answer.
pub async fn look_for_repairs(
    connection: &mut PgConnection,
    tried: &mut Tried,
    accounts: &[String],
) -> sqlx::Result<u64> {
    let mut let_go = 0;
    let mut under_way = BTreeMap::new();
    for (trouble, id) in std::mem::take(&mut tried.0) {
        match became(&mut *connection, id).await? {
            Became::UnderWay => _ = under_way.insert(trouble, id),
            Became::Healed => let_go += let_all_go(connection, &trouble).await?,
            Became::InTrouble | Became::Gone => {}
        }
    }
    tried.0 = under_way;
    for one in try_one_of_each(&mut *connection, accounts).await? {
        let trouble = Trouble { subscriber: one.subscriber, kind: one.kind, account: one.account };
        tried.0.entry(trouble).or_insert(one.id);
    }
    Ok(let_go)
}

/// Makes all events due that wait for one of these accounts to be configured, now that the worker has it. Returns how many.
///
/// # Errors
/// The database is away or did not answer.
pub async fn let_configured_go(connection: &mut PgConnection, accounts: &[String]) -> sqlx::Result<u64> {
    let mut let_go = 0;
    loop {
        let page = sqlx::query!(
            r#"
            update restante.outbox_live as l set run_at = clock_timestamp()
              from (select r.id from restante.outbox_live as r
                     where r.lane = 'l' and r.run_at > clock_timestamp() and r.status = 'retry' and r.outcome = 'trouble'
                       and r.kind = 'not_configured' and coalesce(r.account, $2) = any ($1)
                     order by r.subscriber, r.run_at, r.id limit $3 for update skip locked) as w
             where l.id = w.id
            "#,
            accounts,
            NO_ACCOUNT,
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

/// Why events wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Cause {
    /// What is wrong.
    pub text: String,
    /// Whose account it is, if the events belong to one.
    pub account: Option<String>,
    /// How many wait for it.
    pub events: i64,
}

/// The most frequent cause among events that wait for a repair, and how many have it. Looks at the first thousand
/// events that wait for a time.
///
/// # Errors
/// The database is away or did not answer.
pub async fn most_frequent(executor: impl PgExecutor<'_>) -> sqlx::Result<Option<Cause>> {
    sqlx::query_as!(
        Cause,
        r#"
        select coalesce(restante.cause(w.last_error), '') as "text!", w.account, count(*) as "events!"
          from (select l.status, l.outcome, l.last_error, l.account from restante.outbox_live as l
                 where l.lane = 'l' order by l.subscriber, l.run_at, l.id limit 1000) as w
         where w.status = 'retry' and w.outcome = 'trouble'
         group by 1, 2 order by 3 desc, 1, 2 limit 1
        "#
    )
    .fetch_optional(executor)
    .await
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
    account: String,
}

/// Makes one event of each kind of trouble due now. Leaves one that a person is changing by hand.
async fn try_one_of_each(executor: impl PgExecutor<'_>, accounts: &[String]) -> sqlx::Result<Vec<One>> {
    sqlx::query_as!(
        One,
        r#"
        update restante.outbox_live as l set run_at = least(l.run_at, clock_timestamp())
          from (select distinct on (w.subscriber, w.kind, w.account) w.id
                  from (select r.id, r.subscriber, r.kind, coalesce(r.account, $3) as account, r.outcome, r.run_at
                          from restante.outbox_live as r
                         where r.lane = 'l' order by r.subscriber, r.run_at, r.id limit 10000) as w
                 where w.outcome = 'trouble'
                   and (w.kind = any ($1) or w.kind = 'not_configured' and w.account = any ($2))
                 order by w.subscriber, w.kind, w.account, w.run_at) as first
         cross join lateral (
               select o.id from restante.outbox_live as o
                where o.id = first.id and o.status = 'retry' and o.lane::text = 'l' for update skip locked) as one
         where l.id = one.id
        returning l.id, l.subscriber, l.kind as "kind!", coalesce(l.account, $3) as "account!"
        "#,
        &KINDS as &[&str],
        accounts,
        NO_ACCOUNT,
    )
    .fetch_all(executor)
    .await
}

/// Makes all events in this trouble due now, page by page.
async fn let_all_go(connection: &mut PgConnection, trouble: &Trouble) -> sqlx::Result<u64> {
    let mut let_go = 0;
    loop {
        let page = sqlx::query!(
            r#"
            update restante.outbox_live as l set run_at = clock_timestamp()
              from (select r.id from restante.outbox_live as r
                     where r.lane = 'l' and r.subscriber = $1 and r.run_at > clock_timestamp()
                       and r.status = 'retry' and r.outcome = 'trouble' and r.kind = $2 and coalesce(r.account, $5) = $4
                     order by r.subscriber, r.run_at, r.id limit $3 for update skip locked) as w
             where l.id = w.id
            "#,
            trouble.subscriber,
            trouble.kind,
            PAGE,
            trouble.account,
            NO_ACCOUNT,
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
