//! What an event costs the server does not grow. It is counted in buffers, which do not depend on how busy the machine is.
//!
//! The plans are made while the outbox is empty, as in a worker that started first, and must still be good when it is full.

use secrecy::ExposeSecret;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::support::world::World;

/// How many events pass while buffers are counted.
const COUNTED: i64 = 100;
/// How much the cost may grow. A deeper index costs a little; a scan over irrelevant rows costs many times as much.
const FLAT: f64 = 1.5;

/// Where a claim begins to look.
enum Claim {
    FromTheFirst,
    FromWhereTheLastEnded,
}

/// One connection that moves events, like that of a worker.
struct Counter {
    connection: PgConnection,
    round: u32,
}

impl Counter {
    /// A counter whose plans are made.
    async fn new(world: &World) -> Self {
        let connection = PgConnection::connect(world.url.expose_secret()).await.unwrap();
        let mut counter = Self { connection, round: 0 };
        for _ in 0..3 {
            counter.buffers_per_event(Claim::FromTheFirst).await;
        }
        counter
    }

    /// Stores one event alone and others together, claims them, and finishes one alone and the others together. Returns the
    /// buffers per event of each of these steps.
    async fn buffers_per_event(&mut self, claim: Claim) -> [f64; 5] {
        self.round += 1;
        let floor: String = match claim {
            Claim::FromTheFirst => "-infinity".to_owned(),
            Claim::FromWhereTheLastEnded => {
                let now = sqlx::query_scalar("select clock_timestamp()::text");
                now.fetch_one(&mut self.connection).await.unwrap()
            }
        };
        let each =
            |value: &str| format!("(select array_agg({value}) from generate_series(1, {COUNTED}) as n)");
        let name = format!("'{}_' || md5(n::text)", self.round);
        let alone = self
            .explained(&format!(
                "select restante.insert_event({name}, 'test.flat', {name}, null, clock_timestamp(), '{{}}', null, null, null, 'webhook')
                   from (select 'alone') as a (n)"
            ))
            .await;
        let stored = self
            .explained(&format!(
                "select restante.insert_events({}, {}, {}, {}, {}, {}, {}, null, 'webhook')",
                each(&name),
                each("'test.flat'::text"),
                each(&name),
                each("null::text"),
                each("clock_timestamp()"),
                each("'{}'::text"),
                each("null::bytea"),
            ))
            .await;
        let claimed = self
            .explained(&format!(
                "select restante.claim_except('flat', array[''], {COUNTED} + 1, interval '1 minute', '{floor}', 16777216, true, null, null)"
            ))
            .await;
        let (ids, tokens): (Vec<i64>, Vec<i64>) = sqlx::query_as(
            "select array_agg(id), array_agg(lease_token) from restante.outbox_live where status = 'running'",
        )
        .fetch_one(&mut self.connection)
        .await
        .unwrap();
        assert_eq!(i64::try_from(ids.len()).unwrap(), COUNTED + 1);
        let finished_alone = self
            .explained(&format!("select restante.finish_event({}, {}, 'done', null)", ids[0], tokens[0]))
            .await;
        let (ids, tokens) = (&ids[1..], &tokens[1..]);
        let finished = self
            .explained(&format!(
                "select restante.finish_events(array{ids:?}::bigint[], array{tokens:?}::bigint[], {}, {})",
                each("'done'::text"),
                each("null::text"),
            ))
            .await;
        let [stored, claimed, finished] = [stored, claimed, finished].map(|buffers| buffers / COUNTED as f64);
        [alone, stored, claimed, finished_alone, finished]
    }

    async fn explained(&mut self, statement: &str) -> f64 {
        let explain = format!("explain (analyze, buffers, format json) {statement}");
        let row = sqlx::query(AssertSqlSafe(explain)).fetch_one(&mut self.connection).await.unwrap();
        let plan = &row.get::<Value, _>(0)[0]["Plan"];
        plan["Shared Hit Blocks"].as_f64().unwrap() + plan["Shared Read Blocks"].as_f64().unwrap()
    }
}

/// Fills an outbox with rows of these values, and asserts that an event costs the same as before.
async fn stays_flat_beside(key_created_at_status_run_at_finished_at: &str) {
    stays_flat_in(World::new().await, key_created_at_status_run_at_finished_at).await;
}

async fn stays_flat_in(world: World, key_created_at_status_run_at_finished_at: &str) {
    let mut counter = Counter::new(&world).await;
    let empty = counter.buffers_per_event(Claim::FromTheFirst).await;
    let fill = format!(
        "insert into restante.outbox (event_id, type, payload, key, created_at, status, run_at, finished_at)
         select 'old_' || n, 'test.flat', '{{}}', {key_created_at_status_run_at_finished_at}
           from generate_series(1, 20000) as n"
    );
    world.sql(&fill).await;
    let full = counter.buffers_per_event(Claim::FromTheFirst).await;
    assert!(growth(empty, full) < FLAT, "{full:?} after {empty:?}");
}

/// The growth of the statement that grew most, as a factor.
fn growth(before: [f64; 5], after: [f64; 5]) -> f64 {
    before.into_iter().zip(after).map(|(before, after)| after / before).fold(0.0, f64::max)
}

#[tokio::test]
async fn an_event_costs_no_more_beside_a_long_history() {
    stays_flat_beside("'old_' || n, now(), 'done', '-infinity', clock_timestamp()").await;
}

#[tokio::test]
async fn an_event_costs_no_more_beside_many_that_wait() {
    stays_flat_beside("'old_' || n, now() + n * interval '1 ms', 'pending', '-infinity', 'infinity'").await;
}

#[tokio::test]
async fn an_event_that_has_a_subscriber_costs_no_more_beside_many_that_wait() {
    let world = World::new().await;
    world.sql("insert into restante.subscription (subscriber, type) values ('copy', '*')").await;
    stays_flat_in(world, "'old_' || n, now() + n * interval '1 ms', 'pending', '-infinity', 'infinity'")
        .await;
}

#[tokio::test]
async fn an_alarm_costs_no_more_beside_many_retries() {
    let world = World::new().await;
    let mut connection =
        Counter { connection: PgConnection::connect(world.url.expose_secret()).await.unwrap(), round: 0 };
    let mut buffers = async || {
        let mut sum = 0.0;
        for function in ["ring", "take_back"] {
            sum += connection.explained(&format!("select restante.{function}(array[-1, -2, -3])")).await;
        }
        sum
    };
    buffers().await;
    let empty = buffers().await;
    let fill = "insert into restante.outbox (event_id, type, payload, status, run_at)
                select 'old_' || n, 'test.flat', '{}', 'retry', now() + interval '1 day' from generate_series(1, 20000) as n";
    world.sql(fill).await;

    let full = buffers().await;

    assert!(full < empty * FLAT + 10.0, "{full} after {empty}");
}

#[tokio::test]
async fn an_event_costs_no_more_beside_many_that_wait_behind_one_key() {
    stays_flat_beside("'one', now(), 'blocked', '-infinity', 'infinity'").await;
}

#[tokio::test]
async fn an_event_costs_no_more_beside_many_retries() {
    stays_flat_beside("'old_' || n, now(), 'retry', now() + interval '1 day', 'infinity'").await;
}

#[tokio::test]
async fn an_event_costs_no_more_while_an_old_snapshot_is_held() {
    let world = World::new().await;
    let mut counter = Counter::new(&world).await;
    let mut snapshot = world.pool.begin().await.unwrap();
    sqlx::query("set transaction isolation level repeatable read").execute(&mut *snapshot).await.unwrap();
    sqlx::query("select count(*) from restante.outbox").execute(&mut *snapshot).await.unwrap();
    let first = counter.buffers_per_event(Claim::FromTheFirst).await;

    for _ in 0..50 {
        counter.buffers_per_event(Claim::FromWhereTheLastEnded).await;
    }
    let last = counter.buffers_per_event(Claim::FromWhereTheLastEnded).await;
    assert!(growth(first, last) < FLAT, "{last:?} after {first:?}");
    snapshot.rollback().await.unwrap();
}
