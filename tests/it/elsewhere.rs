//! Databases as other people run them: with their own settings, encodings, rights, publications, locks, standbys and limits.

use restante::database;
use restante::handlers;
use restante::registry::Registry;
use restante::worker;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::batches::{self, ONE_OF_EACH};
use crate::support::api::{Answer, ScriptedApi};
use crate::support::{Ledger, World, cluster};

mod cuts;
mod encodings;
mod locks;
mod replicas;
mod restore;
mod rights;
mod settings;
mod switchover;

/// A connection like that of an application or a person, with none of our settings.
async fn stranger(url: &SecretString) -> PgConnection {
    PgConnection::connect(url.expose_secret()).await.unwrap()
}

async fn execute(connection: &mut PgConnection, statements: &str) {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await.unwrap();
}

/// The quoted name of the database.
async fn name(connection: &mut PgConnection) -> String {
    sqlx::query_scalar("select quote_ident(current_database())").fetch_one(connection).await.unwrap()
}

/// Makes these the defaults of a database.
async fn set_defaults(url: &SecretString, settings: &[(&str, &str)]) {
    let mut connection = stranger(url).await;
    let name = name(&mut connection).await;
    for (setting, value) in settings {
        execute(&mut connection, &format!("alter database {name} set {setting} = {value}")).await;
    }
    connection.close().await.unwrap();
}

/// Does everything that Restante does with a database: stores events, runs them in the order of their keys, fails and retries,
/// stores the results of a batch, and obeys a person.
async fn a_day(world: &World) {
    let api = ScriptedApi::new().await;
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(batches::one_of_each()));
    batches::hear_of(world, "b").await;
    for (event_id, key, second) in [("e3", "k", 3), ("e1", "k", 1), ("e2", "k", 2), ("f", "", 9)] {
        assert_eq!(world.receive(event_id, key, second, json!({})).await, 1);
    }
    world.receive("twice", "t", 1, json!({ "fail_until_attempt": 2 })).await;
    world.receive("held", "h", 1, json!({})).await;
    world.sql("update restante.outbox set status = 'paused' where event_id = 'held'").await;
    let one = world.new_event("e4", "k", 4, json!({}));
    let other = world.new_event("g", "g", 4, json!({}));
    assert_eq!(world.receive_all(&[one, other]).await, 2);

    work(world, &api).await;
    world.wait_for_retries().await;
    world.sql("update restante.outbox set status = 'pending' where event_id in ('held', 'g')").await;
    work(world, &api).await;

    let unfinished = "select string_agg(format('%s %s: %s', event_id, status, last_error), '; ') from restante.outbox_live";
    assert_eq!(world.value(unfinished).await, "null");
    assert_eq!(batches::complete(world).await, "1");
    assert_eq!(world.value("select count(*) from restante.batch_result").await, "4");
    let ledger = world.ledger().await;
    let of_key: Vec<&str> = ledger.iter().map(String::as_str).filter(|id| id.starts_with('e')).collect();
    assert_eq!(of_key, ["e1", "e2", "e3", "e4"]);
    assert_eq!(ledger.iter().filter(|id| *id == "g").count(), 2, "replayed");
    assert_eq!(ledger.len(), 4 + 1 + 1 + 1 + 2, "{ledger:?}");
}

/// Runs a worker with everything that [`a_day`] needs.
async fn work(world: &World, api: &ScriptedApi) {
    let registry = registry();
    let settings = world.worker_settings();
    worker::run_until_idle(settings, world.pool.clone(), registry, api.client()).await.unwrap();
}

fn registry() -> Registry {
    let minute = std::time::Duration::from_secs(60);
    handlers::registry(handlers::Settings {
        batch_poll: minute,
        reconcile: None,
        allow_private_endpoints: false,
    })
    .register(TestLedger)
}

/// [`Ledger`] without the types that the built-in handlers handle.
#[derive(Debug)]
struct TestLedger;

impl restante::handler::Handler for TestLedger {
    const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
    const RETRY: restante::retry::Policy = Ledger::RETRY;
    type Payload = <Ledger as restante::handler::Handler>::Payload;

    async fn handle(
        &self,
        cx: &mut restante::handler::Context<'_>,
        play: Self::Payload,
    ) -> restante::handler::Result {
        Ledger.handle(cx, play).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_goes_well_where_nobody_has_changed_anything() {
    a_day(&World::new().await).await;
}
