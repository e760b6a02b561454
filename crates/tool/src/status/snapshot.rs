//! A snapshot: how things stood at one moment, as the database has it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection};

use super::calls::{self, Calls};
use super::history::{self, History};

/// How long one statement may take. Counting a million events in full takes about a second.
const STATEMENT_TIMEOUT: &str = "3s";

/// How many events of a lane are counted where counting in full takes too long.
const COUNTED_MAX: i64 = 100_000;

/// How many batches are listed at most.
const BATCHES_MAX: i64 = 20;

/// How many submissions are listed at most.
const SUBMISSIONS_MAX: i64 = 10;

/// How things stood. Its names are those of the JSON, which programs rely on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Snapshot {
    /// When, by the database's clock.
    pub(super) looked_at: DateTime<Utc>,
    /// False on a standby: there nothing is received, claimed or finished.
    pub(super) takes_writes: bool,
    /// What a person should look at or act on, as `restante.health` says.
    pub(super) health: Vec<Concern>,
    /// Counts are no larger than this, and then mean "at least"; null where everything was counted.
    pub(super) counted_up_to: Option<i64>,
    /// Events finished per second, lately.
    pub(super) finished_per_second: Option<f64>,
    /// What is not finished.
    pub(super) events: Vec<Events>,
    /// Why events wait for their next attempt: the most frequent reason of each kind first.
    pub(super) reasons: Vec<Reason>,
    /// Since the last webhook was stored; null where none is among the last 1,000 events.
    pub(super) last_webhook_seconds_ago: Option<f64>,
    /// How old a change at the API may be that no webhook told and that has not been noticed; null where nobody looks.
    pub(super) unexplained_change_seconds: Option<f64>,
    /// The API by account and class of call: its limit, our pace, and what was used.
    pub(super) calls: Vec<Calls>,
    /// How many more there are.
    pub(super) calls_not_listed: i64,
    /// Which types are held, and a trailing * matches any ending.
    pub(super) paused_types: Vec<String>,
    /// Who has its own rows of which types.
    pub(super) subscribers: Vec<Subscriber>,
    /// The services that hold connections to this database.
    pub(super) services: Vec<Service>,
    /// Batches that have ended and are not complete, and those that became complete within the last minute of watching.
    pub(super) batches: Vec<Batch>,
    /// How many more there are.
    pub(super) batches_not_listed: i64,
    /// Batches that the API works on.
    pub(super) batches_under_way: i64,
    /// Their requests.
    pub(super) requests_under_way: i64,
    /// Submissions that are not complete, those that wait for a person first.
    pub(super) submissions: Vec<Submission>,
    /// How many more there are.
    pub(super) submissions_not_listed: i64,
    /// What is kept, and what goes next.
    pub(super) history: History,
    /// Transactions so old that vacuum cannot clean up behind them.
    pub(super) old_transactions: Vec<OldTransaction>,
    /// Whether transactions of other logins can be seen at all.
    pub(super) sees_all_transactions: bool,
    /// How many events were ever finished, by the statistics of Postgres. They lag by some seconds.
    #[serde(skip)]
    pub(super) finished_total: i64,
}

/// An answer of `restante.health` that is not ok.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(super) struct Concern {
    pub(super) question: String,
    /// `look` (soon) or `act` (now).
    pub(super) state: String,
    pub(super) sentence: String,
    /// A line of SQL or a command.
    pub(super) next_step: Option<String>,
    pub(super) since: Option<DateTime<Utc>>,
}

/// How many events of one kind there are.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(super) struct Events {
    /// `scheduled` is for a later time, `standing` a job that looks again and again.
    pub(super) status: String,
    #[serde(rename = "type")]
    pub(super) event_type: String,
    /// Empty for the handler of the type.
    pub(super) subscriber: String,
    /// Who sent them, by the name in the configuration.
    pub(super) sender: String,
    pub(super) events: i64,
    /// Since the first of them was received.
    pub(super) longest_wait_seconds: f64,
    /// How many are leased to a worker that has not renewed in time.
    pub(super) leases_run_out: i64,
}

/// Why events wait for their next attempt.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(super) struct Reason {
    /// `trouble` (something is wrong with us, or with the other side), `failed` or `early`.
    pub(super) because: String,
    /// What the attempts said, without the identifiers of their requests.
    pub(super) reason: String,
    pub(super) events: i64,
    /// How many wait for the same `because`, with whatever reason.
    pub(super) events_in_all: i64,
    /// Until the first of them runs again; negative, where it should have been claimed.
    pub(super) next_attempt_in_seconds: f64,
}

/// Who has its own rows of which types.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(super) struct Subscriber {
    pub(super) subscriber: String,
    pub(super) types: Vec<String>,
}

/// A service with connections to the database.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) connections: i64,
}

/// How far a batch has come.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(super) struct Batch {
    pub(super) id: String,
    /// `ended`, `downloading` or `complete`.
    pub(super) progress: String,
    pub(super) requests: i64,
    pub(super) results_stored: i64,
    pub(super) bytes_stored: i64,
    pub(super) results_deadline: Option<DateTime<Utc>>,
    /// Negative, where the API has forgotten them.
    pub(super) results_vanish_in_seconds: Option<f64>,
    /// Results stored per second, lately.
    #[sqlx(default)]
    pub(super) results_per_second: Option<f64>,
    /// What is missing, at that pace.
    #[sqlx(default)]
    pub(super) seconds_left: Option<f64>,
}

/// How far a submission has come.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(super) struct Submission {
    pub(super) submission: String,
    pub(super) tag: Option<String>,
    /// In words.
    pub(super) state: String,
    /// Why it waits, is uncertain or was refused.
    pub(super) reason: Option<String>,
    pub(super) requests: i64,
    pub(super) parts: i64,
    pub(super) age_seconds: f64,
    /// From batches of similar size; null without any.
    pub(super) likely_end_in_seconds: Option<f64>,
    /// Until what the API has not answered expires.
    pub(super) expires_in_seconds: Option<f64>,
}

/// Who keeps vacuum from cleaning up.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(super) struct OldTransaction {
    /// `session`, `slot` or `prepared`.
    pub(super) kind: String,
    pub(super) holder: String,
    pub(super) role: Option<String>,
    pub(super) state: Option<String>,
    pub(super) open_for_seconds: Option<f64>,
    /// How many transactions have begun since.
    pub(super) transactions: Option<i64>,
}

/// How events are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    /// All of them.
    InFull,
    /// Up to 100,000 of each lane.
    UpTo,
}

/// Looks at the database. `seen` are the batches of the last look.
///
/// # Errors
/// What the database says. Counting that takes too long is no error: from then on `counting` is cut short.
pub(super) async fn take(
    connection: &mut PgConnection,
    counting: &mut Counting,
    seen: &[String],
) -> sqlx::Result<Snapshot> {
    match taken(connection, *counting, seen).await {
        Err(error) if *counting == Counting::InFull && was_too_slow(&error) => {
            *counting = Counting::UpTo;
            taken(connection, *counting, seen).await
        }
        taken => taken,
    }
}

/// Is this the deadline of a statement?
fn was_too_slow(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("57014"))
}

async fn taken(connection: &mut PgConnection, counting: Counting, seen: &[String]) -> sqlx::Result<Snapshot> {
    let mut tx = connection.begin().await?;
    // A look must not take processors from those who work, so it stays one process.
    let careful = format!(
        "set transaction read only; set local statement_timeout = '{STATEMENT_TIMEOUT}';
         set local max_parallel_workers_per_gather = 0; set local jit = off"
    );
    sqlx::raw_sql(AssertSqlSafe(careful)).execute(&mut *tx).await?;
    let snapshot = Snapshot {
        takes_writes: sqlx::query_scalar("select not pg_is_in_recovery()").fetch_one(&mut *tx).await?,
        // Before the others, some of which change settings.
        health: health(&mut tx).await?,
        events: events(&mut tx, counting).await?,
        reasons: reasons(&mut tx, counting).await?,
        last_webhook_seconds_ago: last_webhook(&mut tx).await?,
        unexplained_change_seconds: unexplained_change(&mut tx).await?,
        calls: calls::look(&mut tx).await?,
        calls_not_listed: calls::not_listed(&mut tx).await?,
        counted_up_to: (counting == Counting::UpTo).then_some(COUNTED_MAX),
        finished_per_second: None,
        finished_total: finished_total(&mut tx).await?,
        paused_types: sqlx::query_scalar("select type from restante.paused_type order by type")
            .fetch_all(&mut *tx)
            .await?,
        subscribers: subscribers(&mut tx).await?,
        services: services(&mut tx).await?,
        submissions: submissions(&mut tx).await?,
        submissions_not_listed: submissions_open(&mut tx).await?.saturating_sub(SUBMISSIONS_MAX).max(0),
        history: history::look(&mut tx).await?,
        old_transactions: old_transactions(&mut tx).await?,
        sees_all_transactions: sqlx::query_scalar("select pg_has_role('pg_read_all_stats', 'usage')")
            .fetch_one(&mut *tx)
            .await?,
        ..batches(&mut tx, seen).await?
    };
    tx.rollback().await?;
    Ok(snapshot)
}

async fn health(tx: &mut PgConnection) -> sqlx::Result<Vec<Concern>> {
    sqlx::query_as(
        "select question, state, sentence, next_step, since from restante.health where state <> 'ok' order by state, since nulls last",
    )
    .fetch_all(tx)
    .await
}

async fn events(tx: &mut PgConnection, counting: Counting) -> sqlx::Result<Vec<Events>> {
    let rows = match counting {
        Counting::InFull => "restante.outbox_live".to_owned(),
        // Each lane has an index, by which the first rows are found without reading the rest.
        Counting::UpTo => {
            sqlx::raw_sql("set local enable_seqscan = off").execute(&mut *tx).await?;
            let lane = |lane| {
                format!("(select * from restante.outbox_live where lane = '{lane}' limit {COUNTED_MAX})")
            };
            format!("({})", ['r', 'l', 'b', 'p'].map(lane).join(" union all "))
        }
    };
    let query = format!(
        "select restante.state(l.type, l.status, l.outcome, l.run_at) as status, l.type as event_type, l.subscriber, l.sender, count(*) as events,
                extract(epoch from clock_timestamp() - min(l.received_at))::float8 as longest_wait_seconds,
                count(*) filter (where l.status = 'running' and l.lease_until <= clock_timestamp()) as leases_run_out
           from {rows} as l
          group by 1, l.type, l.subscriber, l.sender
          order by count(*) desc, 1, l.type, l.subscriber, l.sender"
    );
    sqlx::query_as(AssertSqlSafe(query)).fetch_all(tx).await
}

/// The most frequent reason of each kind.
async fn reasons(tx: &mut PgConnection, counting: Counting) -> sqlx::Result<Vec<Reason>> {
    let limit = if counting == Counting::UpTo { format!("limit {COUNTED_MAX}") } else { String::new() };
    let query = format!(
        "select distinct on (c.because) c.because, c.reason, c.events, c.next_attempt_in_seconds,
                sum(c.events) over (partition by c.because)::bigint as events_in_all
           from (select w.because, w.of_account || restante.cause(w.last_error) as reason, count(*) as events,
                        extract(epoch from min(w.run_at) - clock_timestamp())::float8 as next_attempt_in_seconds
                   from (select l.last_error, l.run_at,
                                case when l.outcome = 'trouble' then 'trouble'
                                     when l.outcome in ('snoozed', 'deferred') then 'early' else 'failed' end as because,
                                -- Whose key, limit or API it is. A reason that names the account needs no more.
                                case when l.outcome = 'trouble' and l.account <> 'anthropic' and l.kind <> 'not_configured'
                                     then 'account ' || l.account || ': ' else '' end as of_account
                           from restante.outbox_live as l
                          where l.lane = 'l' and l.status = 'retry' and l.last_error is not null
                            and not restante.is_standing(l.type, l.status, l.outcome) {limit}) as w
                  group by 1, 2) as c
          order by c.because desc, c.events desc, c.reason"
    );
    sqlx::query_as(AssertSqlSafe(query)).fetch_all(tx).await
}

/// Those that were used most come first.
/// Numbers grow as events are stored, so the last ones are found from the end of an index.
async fn last_webhook(tx: &mut PgConnection) -> sqlx::Result<Option<f64>> {
    sqlx::query_scalar(
        "select extract(epoch from clock_timestamp() - max(e.received_at) filter (where e.source = 'webhook'))::float8
           from (select received_at, source from restante.outbox order by id desc limit 1000) as e",
    )
    .fetch_one(tx)
    .await
}

/// The kind of object that was looked at longest ago decides. One that the API refuses does not count.
async fn unexplained_change(tx: &mut PgConnection) -> sqlx::Result<Option<f64>> {
    sqlx::query_scalar(
        "select extract(epoch from clock_timestamp() - min(coalesce(complete_at, since)))::float8
           from restante.reconcile_state where complete_at is not null or fault is null",
    )
    .fetch_one(tx)
    .await
}

/// Finished events are moved into the partitions of the history, and Postgres counts what is put there.
async fn finished_total(tx: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(sum(pg_stat_get_tuples_inserted(inhrelid)), 0)::bigint from pg_inherits
          where inhparent = 'restante.outbox'::regclass and inhrelid <> 'restante.outbox_live'::regclass",
    )
    .fetch_one(tx)
    .await
}

async fn subscribers(tx: &mut PgConnection) -> sqlx::Result<Vec<Subscriber>> {
    sqlx::query_as(
        "select subscriber, array_agg(type order by type) as types
           from restante.subscription where subscriber <> 'notify' group by subscriber order by subscriber",
    )
    .fetch_all(tx)
    .await
}

async fn services(tx: &mut PgConnection) -> sqlx::Result<Vec<Service>> {
    sqlx::query_as(
        "select service.name, count(a.pid) as connections
           from unnest(array['restante-ingest', 'restante-worker']) as service (name)
           left join pg_stat_activity as a on a.datname = current_database() and a.application_name = service.name
          group by service.name order by service.name",
    )
    .fetch_all(tx)
    .await
}

/// The batches, in a snapshot that has nothing else yet.
async fn batches(tx: &mut PgConnection, seen: &[String]) -> sqlx::Result<Snapshot> {
    // By its account too, unless that is `anthropic`: two of them may have a batch of the same identifier.
    const NAME: &str = "case when account = 'anthropic' then id else account || '/' || id end";
    const COLUMNS: &str = "progress, requests, results_stored, bytes_stored, results_deadline,
        extract(epoch from results_vanish_in)::float8 as results_vanish_in_seconds from restante.batch_overview";
    // What vanishes first comes first; what has vanished can wait.
    let ended = format!(
        "select {NAME} as id, {COLUMNS} where complete_at is null and progress <> 'under way'
          order by results_vanish_in < interval '0' nulls first, results_deadline, batch_overview.id limit {BATCHES_MAX}"
    );
    let mut batches: Vec<Batch> = sqlx::query_as(AssertSqlSafe(ended)).fetch_all(&mut *tx).await?;
    let complete = format!(
        "select {NAME} as id, {COLUMNS} where {NAME} = any ($1) and complete_at > clock_timestamp() - interval '1 minute' order by complete_at"
    );
    batches.extend(sqlx::query_as::<_, Batch>(AssertSqlSafe(complete)).bind(seen).fetch_all(&mut *tx).await?);

    let (looked_at, ended, batches_under_way, requests_under_way): (_, i64, _, _) = sqlx::query_as(
        "select clock_timestamp(), count(*) filter (where progress <> 'under way'),
                count(*) filter (where progress = 'under way'),
                coalesce(sum(requests) filter (where progress = 'under way'), 0)::bigint
           from restante.batch_overview where complete_at is null",
    )
    .fetch_one(&mut *tx)
    .await?;
    Ok(Snapshot {
        batches_not_listed: (ended - BATCHES_MAX).max(0),
        batches,
        batches_under_way,
        requests_under_way,
        ..Snapshot::empty(looked_at)
    })
}

/// Which submissions are listed and counted.
const IS_OPEN: &str = "s.status not in ('complete', 'cancelled')";

/// Only columns that cost no look at the requests.
async fn submissions(tx: &mut PgConnection) -> sqlx::Result<Vec<Submission>> {
    let query = format!(
        "select o.submission, o.tag, o.state, o.reason, o.requests, o.parts, extract(epoch from o.age)::float8 as age_seconds,
                extract(epoch from o.likely_end_at - clock_timestamp())::float8 as likely_end_in_seconds,
                extract(epoch from o.expires_in)::float8 as expires_in_seconds
           from (select s.name, s.status, s.id from restante.submission as s where {IS_OPEN}
                  order by s.status not in ('uncertain', 'refused'), s.id limit {SUBMISSIONS_MAX}) as l
           join restante.submission_overview as o on o.submission = l.name
          order by l.status not in ('uncertain', 'refused'), l.id"
    );
    sqlx::query_as(AssertSqlSafe(query)).fetch_all(tx).await
}

async fn submissions_open(tx: &mut PgConnection) -> sqlx::Result<i64> {
    let query = format!("select count(*) from restante.submission as s where {IS_OPEN}");
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(tx).await
}

async fn old_transactions(tx: &mut PgConnection) -> sqlx::Result<Vec<OldTransaction>> {
    sqlx::query_as(
        "select kind, holder, role, state, extract(epoch from open_for)::float8 as open_for_seconds,
                transactions::bigint as transactions
           from restante.outbox_horizon
          where open_for > interval '5 minutes' or (open_for is null and transactions > 1000000)
          order by open_for desc nulls last, transactions desc limit 5",
    )
    .fetch_all(tx)
    .await
}

impl Snapshot {
    /// Nothing anywhere.
    pub(super) fn empty(looked_at: DateTime<Utc>) -> Snapshot {
        Snapshot {
            looked_at,
            takes_writes: true,
            health: Vec::new(),
            counted_up_to: None,
            finished_per_second: None,
            events: Vec::new(),
            reasons: Vec::new(),
            last_webhook_seconds_ago: None,
            unexplained_change_seconds: None,
            calls: Vec::new(),
            calls_not_listed: 0,
            paused_types: Vec::new(),
            subscribers: Vec::new(),
            services: Vec::new(),
            batches: Vec::new(),
            batches_not_listed: 0,
            batches_under_way: 0,
            requests_under_way: 0,
            submissions: Vec::new(),
            submissions_not_listed: 0,
            history: History::default(),
            old_transactions: Vec::new(),
            sees_all_transactions: true,
            finished_total: 0,
        }
    }
}
