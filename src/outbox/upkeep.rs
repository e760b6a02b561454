//! What the outbox needs now and then, from whichever worker comes by.

use sqlx::PgExecutor;

/// Makes the history's partitions for the coming half year and answers how many were missing.
///
/// # Errors
/// What the database says.
pub async fn make_partitions(executor: impl PgExecutor<'_>) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"select restante.make_partitions() as "made!""#).fetch_one(executor).await
}

/// One page of a sweep over the keys with waiting events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// How many keys had lost their head and have one again.
    pub healed: i32,
    /// Where the next page begins; none, when this was the last.
    pub next_after: Option<String>,
}

/// Gives each key that waits without a head its head back, page by page.
///
/// # Errors
/// What the database says.
pub async fn sweep(executor: impl PgExecutor<'_>, after: Option<&str>) -> sqlx::Result<Swept> {
    sqlx::query_as!(Swept, r#"select healed as "healed!", next_after from restante.sweep($1)"#, after)
        .fetch_one(executor)
        .await
}

/// Lets events go whose pause ended while they were being stored, a page of them. Returns how many rows it changed; 0 means that
/// no more are left, or that other sessions have locked the rest.
///
/// # Errors
/// What the database says.
pub async fn let_held_go(executor: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select restante.let_held_go() as "rows!""#).fetch_one(executor).await
}

/// Begins a portion of a replay again, at its rate. Returns how many events it dealt with; 0 means that there is nothing to do at
/// the moment.
///
/// # Errors
/// What the database says.
pub async fn replay_portion(executor: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select restante.replay_portion() as "events!""#).fetch_one(executor).await
}

/// Adds up the throughput of one past hour. Returns whether there was one that was not added up.
///
/// # Errors
/// What the database says.
pub async fn add_up_hour(executor: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select restante.add_up_hour() as "was_one!""#).fetch_one(executor).await
}

/// Makes sure that `subscriber` gets a row of its own for each event of `event_types`, from now on.
///
/// # Errors
/// What the database says.
pub async fn subscribe(
    executor: impl PgExecutor<'_>,
    subscriber: &str,
    event_types: &[&str],
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into restante.subscription (subscriber, type) select $1, unnest($2::text[]) on conflict do nothing",
        subscriber,
        event_types as &[&str],
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Tells listening workers that there is something new. A hint: a worker that misses it polls.
///
/// # Errors
/// What the database says.
pub async fn notify(executor: impl PgExecutor<'_>) -> sqlx::Result<()> {
    // A hint that is lost in a crash has told nobody anything, so its commit does not wait for the disk.
    sqlx::query!("select set_config('synchronous_commit', 'off', true), pg_notify($1, '')", super::CHANNEL)
        .fetch_one(executor)
        .await?;
    Ok(())
}

/// How long the oldest event that may run now has been waiting for a worker, in seconds; 0 where none waits.
///
/// # Errors
/// What the database says.
pub async fn oldest_claimable_seconds(executor: impl PgExecutor<'_>) -> sqlx::Result<f64> {
    sqlx::query_scalar!(
        r#"
        select coalesce(extract(epoch from clock_timestamp() - min(r.received_at)), 0)::float8 as "seconds!"
          -- From each subscriber's end of the index: a backlog of a million costs no more than one of ten.
          from (select '' as subscriber union select subscriber from restante.subscription where subscriber <> 'notify') as s
          cross join lateral (
                select l.received_at from restante.outbox_live as l
                 where l.lane = 'r' and l.status = 'pending' and l.subscriber = s.subscriber
                 order by l.created_at, l.id limit 1) as r
         -- Nobody claims what a person holds.
         where not exists (select from restante.paused_type as t where t.type = 'subscriber:' || s.subscriber)
        "#,
    )
    .fetch_one(executor)
    .await
}

/// How old the oldest event is that has not been dealt with and should be, in seconds since it was received; 0 where there is
/// none. What is scheduled for later, paused or dead does not count, nor a job that looks again and again.
///
/// # Errors
/// What the database says.
pub async fn oldest_unfinished_seconds(executor: impl PgExecutor<'_>) -> sqlx::Result<f64> {
    sqlx::query_scalar!(
        r#"
        select coalesce(extract(epoch from clock_timestamp() - min(o.received_at)), 0)::float8 as "seconds!"
          from (
            -- Numbers grow as events are received. Where ten thousand dead letters come first, the claimable ones below tell.
            (select f.received_at
               from (select l.received_at, l.type, l.status, l.outcome, l.run_at from restante.outbox_live as l
                      order by l.id limit 10000) as f
              where restante.state(f.type, f.status, f.outcome, f.run_at) in ('pending', 'running', 'blocked', 'retry')
              limit 1)
            union all
            (select r.received_at
               from (select '' as subscriber union select subscriber from restante.subscription where subscriber <> 'notify') as s
               cross join lateral (
                     select l.received_at from restante.outbox_live as l
                      where l.lane = 'r' and l.subscriber = s.subscriber and not restante.is_standing(l.type, l.status, l.outcome)
                      order by l.created_at, l.id limit 1) as r)) as o
        "#,
    )
    .fetch_one(executor)
    .await
}

/// How many events have a state, and wait for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Any status that is no finish; `scheduled` or `standing` where restante.state() says so.
    pub status: String,
    /// How many there are, up to a limit.
    pub events: i64,
    /// What they wait for, one of [`REASONS`]; nothing for running ones and standing jobs.
    pub reason: Option<String>,
}

/// What an event may wait for: a worker that is free, its time, a repair of ours or of the other side.
pub const REASONS: [&str; 8] =
    ["worker", "scheduled_time", "too_early", "its_turn", "repair", "next_attempt", "older_event", "person"];

/// Counts what is not finished, by state. Of each lane only `limit` rows are looked at, so that it costs little when
/// the backlog is large.
///
/// # Errors
/// What the database says.
pub async fn count_unfinished(executor: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<Unfinished>> {
    // In the order of an index, since otherwise a plan made for an empty table could read all of it.
    sqlx::query_as!(
        Unfinished,
        r#"
        select restante.state(l.type, l.status, l.outcome, l.run_at) as "status!",
               case
                 when l.status = 'running' or restante.is_standing(l.type, l.status, l.outcome) then null
                 when l.status = 'blocked' then 'older_event'
                 when l.status in ('paused', 'dead') then 'person'
                 when l.status = 'retry' and l.outcome = 'trouble' then 'repair'
                 when l.run_at <= statement_timestamp() then 'worker'
                 when l.status = 'pending' then 'scheduled_time'
                 when l.outcome = 'snoozed' then 'too_early'
                 when l.outcome = 'deferred' then 'its_turn'
                 else 'next_attempt'
               end as reason, count(*) as "events!"
          from ((select type, status, outcome, run_at from restante.outbox_live
                  where lane = 'r' order by subscriber, created_at, id limit $1)
                union all
                (select type, status, outcome, run_at from restante.outbox_live
                  where lane = 'l' order by subscriber, run_at, id limit $1)
                union all
                (select type, status, outcome, run_at from restante.outbox_live
                  where lane = 'b' order by key, subscriber, created_at, id limit $1)
                union all
                (select type, status, outcome, run_at from restante.outbox_live
                  where lane = 'p' order by event_id limit $1)) as l
         group by 1, 2
        "#,
        limit,
    )
    .fetch_all(executor)
    .await
}
