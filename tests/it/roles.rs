//! Each role can do what its program or person needs, and nothing else.

mod matrix;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use restante::handlers;
use restante::internals::ingest::{OutboxStore, Store};
use restante::registry::Registry;
use restante::{api, worker};
use restante_simulator::{self as simulator, Simulator};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::support::world::no_api;
use crate::support::{Ledger, World, eventually};
use matrix::{MATRIX, Rights};

/// SQLSTATE of Postgres: insufficient_privilege.
const NO_RIGHT: &str = "42501";

#[tokio::test]
async fn each_role_may_do_what_it_needs_and_nothing_else() {
    let world = World::new().await;
    one_event_of_each_status(&world).await;
    assert!(MATRIX.iter().map(|rights| rights.may_not.len()).sum::<usize>() >= 40);

    let mut wrong = Vec::new();
    for Rights { role, may, may_not } in MATRIX {
        let mut connection = PgConnection::connect(world.url.expose_secret()).await.unwrap();
        execute(&mut connection, &format!("set role {role}")).await.unwrap();
        for statement in *may {
            if let Err(error) = rolled_back(&mut connection, statement).await {
                wrong.push(format!("{role} may not `{statement}`: {error}"));
            }
        }
        for statement in *may_not {
            match rolled_back(&mut connection, statement).await {
                Err(error) if sqlstate(&error).as_deref() == Some(NO_RIGHT) => {}
                Err(error) => wrong.push(format!("{role}, `{statement}`: refused by accident, {error}")),
                Ok(()) => wrong.push(format!("{role} may `{statement}`")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn who_has_no_role_may_nothing() {
    let world = World::new().await;
    let nobody = Login::new(&world, &[]).await;
    let mut connection = PgConnection::connect(nobody.url.expose_secret()).await.unwrap();

    for Rights { may, .. } in MATRIX {
        for statement in may.iter().filter(|statement| statement.contains("restante.")) {
            let error = rolled_back(&mut connection, statement).await.expect_err(statement);
            assert_eq!(sqlstate(&error).as_deref(), Some(NO_RIGHT), "{statement}: {error}");
        }
    }

    connection.close().await.unwrap();
    nobody.drop(&world).await;
}

#[tokio::test]
async fn nothing_of_the_schema_is_open_to_everybody() {
    let world = World::new().await;

    let functions = "select coalesce(string_agg(p.oid::regprocedure::text, ', '), 'none') from pg_proc as p
       cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
       where p.pronamespace = 'restante'::regnamespace and a.grantee = 0";
    assert_eq!(world.value(functions).await, "none");
    let relations = "select coalesce(string_agg(c.oid::regclass::text, ', '), 'none') from pg_class as c
       cross join lateral aclexplode(c.relacl) as a
       where c.relnamespace = 'restante'::regnamespace and a.grantee = 0";
    assert_eq!(world.value(relations).await, "none");
    let schema = "select count(*) from pg_namespace as n cross join lateral aclexplode(n.nspacl) as a
       where n.nspname = 'restante' and a.grantee = 0";
    assert_eq!(world.value(schema).await, "0");
}

#[tokio::test]
async fn the_operator_may_read_everything_but_secrets_and_what_the_locks_of_keys_are_made_of() {
    let world = World::new().await;

    let unreadable = "select coalesce(string_agg(c.relname, ', ' order by c.relname), 'none') from pg_class as c
       where c.relnamespace = 'restante'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
         and not has_table_privilege('restante_operator', c.oid, 'select')";
    assert_eq!(world.value(unreadable).await, "endpoint, key_salt");
    let unreadable = "select string_agg(a.attname, ', ') from pg_attribute as a
       where a.attrelid = 'restante.endpoint'::regclass and a.attnum > 0 and not a.attisdropped
         and not has_column_privilege('restante_operator', a.attrelid, a.attnum, 'select')";
    assert_eq!(world.value(unreadable).await, "secret");
}

#[tokio::test]
async fn what_runs_with_the_owners_rights_finds_nobody_elses_functions() {
    let world = World::new().await;

    let pinned = "array['search_path=pg_catalog, pg_temp']";
    let definers = "from pg_proc where pronamespace = 'restante'::regnamespace and prosecdef";
    assert_ne!(world.value(&format!("select count(*) {definers}")).await, "0");
    let loose = format!(
        "select coalesce(string_agg(proname, ', '), 'none') {definers} and (proconfig @> {pinned}) is not true"
    );
    assert_eq!(world.value(&loose).await, "none");
}

#[tokio::test]
async fn ingest_stores_events_with_its_role_and_can_not_become_more() {
    let world = World::new().await;
    let login = Login::new(&world, &["restante_ingest"]).await;
    let as_ingest = World::on(login.url.clone()).await;
    restante::database::ready(&as_ingest.pool, Duration::ZERO).await.unwrap();
    let stop = CancellationToken::new();
    let store = OutboxStore::new(as_ingest.pool.clone(), "test", stop.clone());

    let body = json!({ "type": "event", "id": "a", "created_at": "2026-11-01T12:00:00Z",
                       "data": { "type": "test.ledger", "id": "k" } });
    let event = restante::internals::envelope::read(body.to_string().as_bytes(), None, 0).unwrap();
    store.insert(&[event.clone(), event]).await.unwrap();

    assert_eq!(world.outbox().await, "a pending, attempt 0\n");
    for role in ["restante_worker", "restante_operator", "postgres"] {
        let become_more = AssertSqlSafe(format!("set role {role}"));
        let error = sqlx::query(become_more).execute(&as_ingest.pool).await.unwrap_err();
        assert_eq!(sqlstate(&error).as_deref(), Some(NO_RIGHT), "{role}: {error}");
    }
    stop.cancel();
    as_ingest.pool.close().await;
    login.drop(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_all_its_work_with_its_role() {
    let world = World::new().await;
    let login = Login::new(&world, &["restante_worker"]).await;
    world.sql(&format!("grant select, insert on ledger, snoozed to {}", login.name)).await;
    let as_worker = World::on(login.url.clone()).await;
    restante::database::ready(&as_worker.pool, Duration::ZERO).await.unwrap();
    // One of everything: each outcome, a scheduled event, a key without a head, a week without its partition.
    world.receive("done", "k", 0, json!({})).await;
    world.receive("retry", "", 1, json!({ "fail_until_attempt": 9 })).await;
    world.receive("dead", "", 2, json!({ "permanent": true })).await;
    world.receive("snoozed", "", 3, json!({ "snooze": true })).await;
    world.receive("gone", "j", 4, json!({})).await;
    world.receive("healed", "j", 5, json!({})).await;
    world.sql("delete from restante.outbox_live where event_id = 'gone'").await;
    let weeks = "select count(*) from pg_inherits where inhparent = 'restante.outbox'::regclass";
    let weeks_made = world.value(weeks).await;
    let last = "select max(c.relname) from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
                where i.inhparent = 'restante.outbox'::regclass and c.relname like 'outbox\\_2%'";
    let last = world.value(last).await;
    world.sql(&format!("drop table restante.{last}")).await;

    let stop = CancellationToken::new();
    let registry = Registry::new().register(Ledger).subscribe("billing", Ledger);
    let settings = as_worker.worker_settings();
    let running =
        tokio::spawn(worker::run(settings, as_worker.pool.clone(), registry, no_api(), stop.clone()));
    // First, because a weekly partition is made only while no session reads the outbox.
    eventually("the worker has made the week", async || {
        (world.value(weeks).await == weeks_made).then_some(())
    })
    .await;
    eventually("the worker has done all that it can", async || {
        let wanted = "done done, attempt 1\nretry retry, attempt 1\ndead dead, attempt 1\n\
                      snoozed retry, attempt 0\nhealed done, attempt 1\n";
        (world.outbox().await == wanted).then_some(())
    })
    .await;
    stop.cancel();
    assert_eq!(running.await.unwrap().unwrap(), 0);
    assert_eq!(
        world
            .value(
                "select string_agg(subscriber || ' ' || type, ', ' order by type) from restante.subscription"
            )
            .await,
        "billing session.*, billing test.ledger"
    );

    as_worker.pool.close().await;
    login.drop(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_results_of_a_batch_are_stored_with_the_role_of_a_worker() {
    let world = World::new().await;
    let login = Login::new(&world, &["restante_worker"]).await;
    let as_worker = World::on(login.url.clone()).await;
    let stop = CancellationToken::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let settings =
        simulator::Settings { seed: Some(1), batch_seconds: 0.0, ..simulator::Settings::default() };
    let serving = tokio::spawn(Simulator::new(settings).serve(listener, stop.clone()));
    let api = api::Client::new(api::Settings::new(address.parse().unwrap(), "sk-test-key".into())).unwrap();
    let batch = create_batch(&address, 5).await;
    world
        .receive_body(&json!({ "type": "event", "id": "ended", "created_at": "2026-11-01T12:00:00Z",
                                "data": { "type": "batch.completed", "id": batch } }))
        .await;
    handlers::batch_reconcile::schedule(&as_worker.pool).await.unwrap();

    let every = Duration::from_secs(60);
    let registry = handlers::registry(handlers::Settings {
        batch_poll: every,
        reconcile: Some(every),
        allow_private_endpoints: false,
    });
    let pool = as_worker.pool.clone();
    worker::run_until_idle(as_worker.worker_settings(), pool, registry, api).await.unwrap();

    let stored = "select count(*) || ' of ' || max(b.results_stored) || ', complete: ' || bool_and(complete_at is not null)
                    from restante.batch as b join restante.batch_result as r on r.batch_id = b.id";
    assert_eq!(world.value(stored).await, "5 of 5, complete: true");
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
    stop.cancel();
    serving.await.unwrap().unwrap();
    as_worker.pool.close().await;
    login.drop(&world).await;
}

/// A new login for this test, with the rights of these roles and no others.
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) url: SecretString,
}

impl Login {
    pub(crate) async fn new(world: &World, roles: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("login_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        world.sql(&format!("create role {name} login password 'secret'")).await;
        for role in roles {
            world.sql(&format!("grant {role} to {name}")).await;
        }
        let mut url: url::Url = world.url.expose_secret().parse().unwrap();
        url.set_username(&name).unwrap();
        url.set_password(Some("secret")).unwrap();
        Self { name, url: SecretString::from(String::from(url)) }
    }

    /// Drops the login, because roles belong to the whole server.
    pub(crate) async fn drop(self, world: &World) {
        world.sql(&format!("drop owned by {}", self.name)).await;
        world.sql(&format!("drop role {}", self.name)).await;
    }
}

/// Makes an event in each state that a statement may meet, and a paused type.
async fn one_event_of_each_status(world: &World) {
    for (event_id, second) in
        [("done", 0), ("dead", 1), ("retry", 2), ("running", 3), ("pending", 4), ("blocked", 5)]
    {
        let key = if event_id == "blocked" { "pending" } else { event_id };
        let play = match event_id {
            "dead" => json!({ "permanent": true }),
            "retry" => json!({ "fail_until_attempt": 9 }),
            _ => json!({}),
        };
        world.receive(event_id, key, second, play).await;
        match event_id {
            "done" | "dead" | "retry" => assert_eq!(world.work().await, 1),
            "running" => assert_eq!(world.claim(1).await.len(), 1),
            _ => {}
        }
    }
    world.sql("insert into restante.paused_type (type) values ('test.held')").await;
    world
        .sql(
            "insert into restante.endpoint (name, url, event_types) values ('a', 'https://a.example/', '{}')",
        )
        .await;
}

/// Creates a batch of `requests` requests at the simulator, which ends at once.
async fn create_batch(address: &str, requests: usize) -> String {
    let params =
        json!({ "model": "claude-test", "max_tokens": 9, "messages": [{ "role": "user", "content": "Hi" }] });
    let requests: Vec<_> =
        (0..requests).map(|n| json!({ "custom_id": format!("r{n}"), "params": params })).collect();
    let answer = reqwest::Client::new()
        .post(format!("{address}v1/messages/batches"))
        .header("x-api-key", "sk-test-key")
        .header("anthropic-version", "2023-06-01")
        .json(&json!({ "requests": requests }))
        .send()
        .await
        .unwrap()
        .json::<serde_json::Value>()
        .await
        .unwrap();
    answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Runs a statement and rolls it back.
async fn rolled_back(connection: &mut PgConnection, statement: &str) -> sqlx::Result<()> {
    let mut tx = connection.begin().await?;
    let ran = execute(&mut tx, statement).await;
    tx.rollback().await?;
    ran
}

async fn execute(connection: &mut PgConnection, statement: &str) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}

fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}
