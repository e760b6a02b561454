//! One session that repeatedly acts at random: as a service, a person or an application.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use secrecy::ExposeSecret;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::support::World;

/// Few enough keys for the actors to meet.
pub const KEYS: u32 = 6;

pub struct Actor {
    name: String,
    connection: PgConnection,
    chance: StdRng,
    events: u32,
    /// The leases that this session believes to have.
    leases: Vec<(i64, i64)>,
    stored: u64,
}

impl Actor {
    pub async fn new(world: &World, number: u64, seed: u64) -> Self {
        let mut connection = PgConnection::connect(world.url.expose_secret()).await.unwrap();
        let table = "create table if not exists deleted (event_id text, subscriber text)";
        sqlx::query(table).execute(&mut connection).await.unwrap();
        let name = format!("actor{number}");
        Self {
            name,
            connection,
            chance: StdRng::seed_from_u64(seed),
            events: 0,
            leases: Vec::new(),
            stored: 0,
        }
    }

    /// Acts until it is stopped. Returns how many events this session has committed.
    pub async fn act_until(mut self, stop: Arc<AtomicBool>) -> u64 {
        while !stop.load(Ordering::Relaxed) {
            match self.chance.random_range(0..10) {
                0..=6 => self.serve().await,
                7..=8 => self.be_a_person().await,
                _ => self.be_a_handler_or_an_application().await,
            }
        }
        self.stored
    }

    async fn run(&mut self, statement: &str) -> sqlx::Result<u64> {
        Ok(sqlx::query(AssertSqlSafe(statement.to_owned()))
            .execute(&mut self.connection)
            .await?
            .rows_affected())
    }

    async fn number(&mut self, query: &str) -> sqlx::Result<i64> {
        sqlx::query_scalar(AssertSqlSafe(format!("select coalesce(({query}), 0)::bigint")))
            .fetch_one(&mut self.connection)
            .await
    }

    /// Runs a statement of a service, and repeats it if a person moved a row into the history at the same moment.
    async fn serve_with(&mut self, statement: &str) -> Vec<PgRow> {
        loop {
            match sqlx::query(AssertSqlSafe(statement.to_owned())).fetch_all(&mut self.connection).await {
                Ok(rows) => return rows,
                Err(error) => {
                    let code = error.as_database_error().and_then(|error| error.code().map(Cow::into_owned));
                    assert_eq!(code.as_deref(), Some("40001"), "{error}: {statement}");
                }
            }
        }
    }

    fn key(&mut self) -> String {
        format!("k{}", self.chance.random_range(0..KEYS))
    }

    fn event_type(&mut self) -> &'static str {
        if self.chance.random_bool(0.7) { "random.a" } else { "random.b" }
    }

    fn event_id(&mut self) -> String {
        self.events += 1;
        format!("{}_{}", self.name, self.events)
    }

    /// Runs one statement of a service, which commits by itself, never waits and never fails.
    async fn serve(&mut self) {
        self.be_called("service", "2s").await;
        match self.chance.random_range(0..12) {
            0..=2 => self.insert().await,
            3..=5 => self.claim().await,
            6..=8 => self.settle().await,
            9 => {
                let expire = format!(
                    "update restante.outbox_live set lease_until = clock_timestamp() where id in (
                       select id from restante.outbox_live where status = 'running' and lease_owner <> '{}'
                        order by random() limit 1 for update skip locked)",
                    self.name
                );
                self.serve_with(&expire).await;
            }
            10 => {
                self.serve_with("select * from restante.sweep(null)").await;
            }
            _ => {
                let (ids, tokens) = self.arrays();
                let renew = format!(
                    "update restante.outbox_live as l set lease_until = clock_timestamp() + interval '30 s' where id in (
                       select l.id from unnest({ids}, {tokens}) as t (id, token)
                         join restante.outbox_live as l on l.id = t.id and l.lease_token = t.token and l.status = 'running'
                          for no key update of l skip locked)"
                );
                self.serve_with(&renew).await;
            }
        }
        self.be_called("person", "50ms").await;
    }

    /// Names the session, so that services can be told apart from people, who may wait for each other for a moment.
    async fn be_called(&mut self, name: &str, lock_timeout: &str) {
        let settings =
            "select set_config('application_name', $1, false), set_config('lock_timeout', $2, false)";
        sqlx::query(settings).bind(name).bind(lock_timeout).execute(&mut self.connection).await.unwrap();
    }

    async fn insert(&mut self) {
        let count = self.chance.random_range(1..4);
        let mut columns = [const { Vec::new() }; 4];
        for _ in 0..count {
            let second = self.chance.random_range(0..60);
            columns[0].push(format!("'{}'", self.event_id()));
            columns[1].push(format!("'{}'", self.event_type()));
            columns[2].push(if self.chance.random_bool(0.9) {
                format!("'{}'", self.key())
            } else {
                "null".into()
            });
            columns[3].push(format!("timestamptz '2026-11-01 12:00:{second:02}Z'"));
        }
        let [ids, types, keys, times] = columns.map(|column| format!("array[{}]", column.join(", ")));
        let insert = if count == 1 {
            format!(
                "select count(id) from restante.insert_event(({ids})[1], ({types})[1], ({keys}::text[])[1], null, ({times})[1],
                   '{{}}', null, null, null, 'webhook')"
            )
        } else {
            format!(
                "select stored::bigint from restante.insert_events({ids}, {types}, {keys}::text[], null, {times},
                   array_fill('{{}}'::text, array[{count}]), null, null, 'webhook')"
            )
        };
        let stored: i64 = self.serve_with(&insert).await[0].get(0);
        self.stored += u64::try_from(stored).unwrap();
    }

    async fn claim(&mut self) {
        let claim = format!(
            "select id, lease_token from restante.claim_except('{}', array['', 'audit'], {}, '30 s', '-infinity', 1000000, {}, null, null)
              where id is not null",
            self.name,
            self.chance.random_range(1..6),
            self.chance.random_bool(0.8)
        );
        let rows = self.serve_with(&claim).await;
        self.leases.extend(rows.iter().map(|row| (row.get::<i64, _>(0), row.get::<i64, _>(1))));
    }

    fn arrays(&self) -> (String, String) {
        let (ids, tokens): (Vec<i64>, Vec<i64>) = self.leases.iter().copied().unzip();
        (format!("array{ids:?}::bigint[]"), format!("array{tokens:?}::bigint[]"))
    }

    /// Settles the events that this session believes to have leased, in a random way.
    async fn settle(&mut self) {
        let (ids, tokens) = self.arrays();
        let statement = match self.chance.random_range(0..6) {
            0..=1 => {
                let next = if self.chance.random_bool(0.5) {
                    format!(", '{}', '30 s', 'infinity'", self.name)
                } else {
                    String::new()
                };
                let count = self.leases.len();
                format!(
                    "select (next).id, (next).lease_token from restante.finish_events({ids}, {tokens},
                       array_fill('done'::text, array[{count}]), array_fill(null::text, array[{count}]){next})
                      where (next).id is not null"
                )
            }
            2 => format!("select restante.hand_back({ids}, {tokens})"),
            way => {
                let Some((id, token)) = self.leases.pop() else { return };
                match way {
                    3 => format!("select from restante.finish_event({id}, {token}, 'done', null)"),
                    4 => format!(
                        "select restante.fail({id}, {token}, 'retry', 'retryable', 'handler', 'no', '1 ms', false)"
                    ),
                    _ => format!(
                        "select restante.fail({id}, {token}, 'dead', 'permanent', 'handler', 'no', null, {})",
                        self.chance.random_bool(0.2)
                    ),
                }
            }
        };
        let is_all = statement.contains("restante.finish_events(") || statement.contains("hand_back");
        if is_all {
            self.leases.clear();
        }
        let is_finish = statement.contains("restante.finish_events(");
        let rows = self.serve_with(&statement).await;
        if is_finish {
            self.leases.extend(rows.iter().map(|row| (row.get::<i64, _>(0), row.get::<i64, _>(1))));
        }
    }

    /// Runs a transaction of statements by hand, and leaves it open for a while. It may wait for other people, and then gives up.
    async fn be_a_person(&mut self) {
        let isolation = ["read committed", "repeatable read"][self.chance.random_range(0..2)];
        self.run(&format!("begin isolation level {isolation}")).await.unwrap();
        for _ in 0..self.chance.random_range(1..4) {
            let status = ["pending", "paused", "cancelled", "dead", "retry"][self.chance.random_range(0..5)];
            let which = match self.chance.random_range(0..4) {
                0 => format!("key = '{}' and finished_at = 'infinity'", self.key()),
                1 => "finished_at = 'infinity' and id % 3 = 0".to_owned(),
                2 => "finished_at <> 'infinity' and id % 17 = 0".to_owned(),
                _ => format!("key in ('{}', '{}')", self.key(), self.key()),
            };
            let statement = match self.chance.random_range(0..9) {
                0 => "select restante.pause('random.b')".to_owned(),
                1 => "select restante.resume(type) from restante.paused_type".to_owned(),
                2 => format!(
                    "with gone as (delete from restante.outbox where {which} and id % 5 = 0 returning event_id, subscriber)
                     insert into deleted select * from gone"
                ),
                3 => format!("update restante.outbox set run_at = now() where {which}"),
                4 => format!("update restante.outbox set max_attempts = 7 where {which}"),
                5 => format!("select id from restante.outbox where {which} for update"),
                _ => format!("update restante.outbox set status = '{status}' where {which}"),
            };
            if self.run(&statement).await.is_err() {
                break;
            }
            self.linger().await;
        }
        let end = if self.chance.random_bool(0.7) { "commit" } else { "rollback" };
        self.run(end).await.unwrap_or(0);
    }

    /// Runs a transaction that stores events and may finish one, and leaves it open for a while.
    async fn be_a_handler_or_an_application(&mut self) {
        let isolation = ["read committed", "repeatable read"][self.chance.random_range(0..2)];
        self.run(&format!("begin isolation level {isolation}")).await.unwrap();
        let mut stored = 0;
        for _ in 0..self.chance.random_range(1..3) {
            let (event_type, key, event_id) = (self.event_type(), self.key(), self.event_id());
            let enqueue = format!(
                "select restante.enqueue('{event_type}', '{{}}', key => '{key}', event_id => '{event_id}')"
            );
            if self.run(&enqueue).await.is_err() {
                self.run("rollback").await.unwrap();
                return;
            }
            stored += 1;
            self.linger().await;
        }
        if let Some((id, token)) = self.leases.pop()
            && self
                .run(&format!("select from restante.finish_event({id}, {token}, 'done', null)"))
                .await
                .is_err()
        {
            self.run("rollback").await.unwrap();
            return;
        }
        if self.chance.random_bool(0.7) {
            if self.run("commit").await.is_ok() {
                self.stored += stored;
            }
        } else {
            self.run("rollback").await.unwrap();
        }
    }

    async fn linger(&mut self) {
        let ms = self.chance.random_range(0..40);
        self.number(&format!("select 0 from pg_sleep({ms} / 1000.0)")).await.unwrap();
    }
}
