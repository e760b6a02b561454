//! A database of the release before: its rows keep their identity, its programs go on, and nothing is handled twice.

use expect_test::expect;
use restante::database;
use secrecy::SecretString;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, PgPool, Row};

use crate::support::World;
use crate::support::cluster::empty_database;

/// A database as the first release made it, with its newest migration.
async fn first_release() -> (SecretString, PgConnection) {
    const NEWEST: i64 = 9;
    let url = empty_database().await;
    let mut connection = database::connect(&url, "test").await.unwrap();
    let migrations =
        sqlx::migrate!("./migrations").iter().filter(|it| it.version <= NEWEST).cloned().collect();
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.dangerous_set_table_name("restante.schema_migration");
    migrator.create_schema("restante");
    migrator.run_direct(None, &mut connection, false).await.unwrap();
    sqlx::query("select restante.make_partitions()").execute(&mut connection).await.unwrap();
    (url, connection)
}

/// The calls of the first release's programs, as they send them.
const INSERT_EVENT: &str = "select id is not null as new, differs
                              from restante.insert_event($1, 'test.ledger', $2, null, now(), '{}', null, 1, null, 'webhook')";
const CLAIM: &str = "select * from restante.claim($1, array[''], 10, '30 s', '-infinity', 1000000, true)";
const FINISH: &str =
    "select finished, unblocked, (next).* from restante.finish($1, $2, $3, $4, $5, '30 s', now())";
const FINISH_ONE: &str =
    "select finished, unblocked, (next).* from restante.finish_one($1, $2, 'done', null, $3, '30 s', now())";

async fn insert(connection: &mut PgConnection, event_id: &str, key: Option<&str>) -> (bool, bool) {
    let row = sqlx::query(INSERT_EVENT).bind(event_id).bind(key).fetch_one(connection).await.unwrap();
    (row.get("new"), row.get("differs"))
}

async fn insert_many(connection: &mut PgConnection, event_ids: &[&str], keys: &[&str]) -> i32 {
    sqlx::query_scalar(
        "select stored from restante.insert_events($1, array_fill('test.ledger'::text, array[$3]), $2, array_fill(null::text, array[$3]),
                                                   array_fill(now(), array[$3]), array_fill('{}'::text, array[$3]),
                                                   array_fill(null::bytea, array[$3]), array_fill(1::bigint, array[$3]), 'webhook')",
    )
    .bind(event_ids)
    .bind(keys)
    .bind(event_ids.len() as i32)
    .fetch_one(connection)
    .await
    .unwrap()
}

/// The identifiers, numbers and tokens of what a claim of the first release brings.
async fn claim(connection: &mut PgConnection) -> Vec<(String, i64, i64)> {
    let rows = sqlx::query(CLAIM).bind("old worker").fetch_all(connection).await.unwrap();
    rows.iter()
        .filter(|row| row.get::<Option<i64>, _>("id").is_some())
        .map(|row| (row.get("event_id"), row.get("id"), row.get("lease_token")))
        .collect()
}

/// The number and the token of the event that a completion leased.
fn leased_of(rows: &[PgRow]) -> (i64, i64) {
    let row = rows.iter().find(|row| row.get::<Option<i64>, _>("id").is_some()).unwrap();
    (row.get("id"), row.get("lease_token"))
}

#[tokio::test]
async fn the_rows_of_the_release_before_keep_their_identity_and_its_programs_go_on() {
    let (url, mut old) = first_release().await;
    // Something in every state, some of it behind something else.
    for (event_id, key) in [("done", "k"), ("running", "k"), ("blocked", "k"), ("paused", "p"), ("free", "")]
    {
        let key = Some(key).filter(|key| !key.is_empty());
        assert_eq!(insert(&mut old, event_id, key).await, (true, false));
    }
    assert_eq!(insert_many(&mut old, &["many1", "many2"], &["m", "m"]).await, 2);
    sqlx::query("update restante.outbox set status = 'paused' where event_id = 'paused'")
        .execute(&mut old)
        .await
        .unwrap();
    let first = claim(&mut old).await;
    let (_, id, token) = first.iter().find(|it| it.0 == "done").unwrap();
    let leased =
        sqlx::query(FINISH_ONE).bind(id).bind(token).bind("old worker").fetch_all(&mut old).await.unwrap();
    let running = leased_of(&leased);
    let rows = "select string_agg(concat_ws(' ', id, event_id, status, lease_token, attempt), '; ' order by id) from restante.outbox";
    let before: String = sqlx::query_scalar(rows).fetch_one(&mut old).await.unwrap();

    database::migrate(&url).await.unwrap();

    assert_eq!(sqlx::query_scalar::<_, String>(rows).fetch_one(&mut old).await.unwrap(), before);
    let of = "select string_agg(distinct concat_ws('/', sender, account), ' ') from restante.outbox";
    assert_eq!(sqlx::query_scalar::<_, String>(of).fetch_one(&mut old).await.unwrap(), "anthropic/anthropic");
    // The programs of the release before, on connections that have prepared their statements already.
    assert_eq!(insert(&mut old, "done", Some("k")).await, (false, false), "a duplicate");
    assert_eq!(insert(&mut old, "newer", Some("k")).await, (true, false));
    assert_eq!(insert_many(&mut old, &["many2", "many3"], &["m", "m"]).await, 1);
    let done = sqlx::query(FINISH)
        .bind(vec![running.0])
        .bind(vec![running.1])
        .bind(vec!["done"])
        .bind(vec![None::<&str>])
        .bind("old worker")
        .fetch_all(&mut old)
        .await
        .unwrap();
    let successor = leased_of(&done);
    assert!(successor.0 > running.0, "its successor is leased");
    assert!(claim(&mut old).await.is_empty(), "everything else waits or is leased");
    // And those of this one.
    let world = World::with_ledger(url).await;
    world.let_leases_run_out().await;
    world.work().await;
    expect![[r#"
        blocked done
        done done
        free done
        many1 done
        many2 done
        many3 done
        newer done
        paused paused
        running done"#]]
    .assert_eq(
        &world
            .value(
                "select string_agg(event_id || ' ' || status, E'\\n' order by event_id) from restante.outbox",
            )
            .await,
    );
}

/// A pool of programs of the first release that receive: returns what was acknowledged once `stop` says so.
async fn receive(pool: PgPool, mut stop: tokio::sync::watch::Receiver<bool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    while !*stop.borrow_and_update() {
        let event_id = format!("e{}", acknowledged.len());
        let key = format!("k{}", acknowledged.len() % 7);
        let stored = sqlx::query(INSERT_EVENT).bind(&event_id).bind(key).fetch_one(&pool).await;
        // One that was refused is sent again, as senders do.
        if stored.is_ok() {
            acknowledged.push(event_id);
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn the_migration_waits_for_nobody_for_long_while_deliveries_come_in() {
    let (url, mut reader) = first_release().await;
    let pool = database::pool(&url, "old ingest", 4).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let ingest = tokio::spawn(receive(pool.clone(), stopped));
    // A report that is under way: the migration cannot have the table before it has ended.
    let mut report = reader.begin().await.unwrap();
    sqlx::query("select count(*) from restante.outbox").execute(&mut *report).await.unwrap();
    let count = async || {
        sqlx::query_scalar::<_, i64>("select count(*) from restante.outbox_seen")
            .fetch_one(&pool)
            .await
            .unwrap()
    };

    let migration = tokio::spawn({
        let url = url.clone();
        async move { database::migrate(&url).await }
    });
    // It is tried at least once, in vain, and deliveries go on.
    let waits =
        "select count(*) > 0 from pg_locks where not granted and relation = 'restante.outbox'::regclass";
    crate::support::eventually("the migration waits", async || {
        sqlx::query_scalar::<_, bool>(waits).fetch_one(&pool).await.unwrap().then_some(())
    })
    .await;
    let so_far = count().await;
    crate::support::eventually("deliveries go on", async || (count().await > so_far + 20).then_some(()))
        .await;
    assert!(!migration.is_finished());
    report.rollback().await.unwrap();
    migration.await.unwrap().unwrap();
    let so_far = count().await;
    crate::support::eventually("deliveries go on", async || (count().await > so_far + 20).then_some(()))
        .await;
    stop.send(true).unwrap();
    let acknowledged = ingest.await.unwrap();

    let world = World::with_ledger(url).await;
    world.work().await;
    let handled: i64 =
        sqlx::query_scalar("select count(*) from restante.outbox where status = 'done' and attempt = 1")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(handled, acknowledged.len() as i64);
    assert_eq!(count().await, handled);
}

#[tokio::test]
async fn batches_and_objects_of_the_release_before_are_those_of_the_account_of_the_environment() {
    let (url, mut old) = first_release().await;
    for statement in [
        "insert into restante.batch (id) values ('b')",
        "insert into restante.batch_result (batch_id, custom_id, outcome, line) values ('b', 'r', 'expired', '{}')",
        "insert into restante.resource (type, id, status, observed_at) values ('session', 's', 'idle', now())",
        "insert into restante.outcome_evaluation (session_id, outcome_id, iteration, observed_at) values ('s', 'o', 0, now())",
    ] {
        sqlx::query(statement).execute(&mut old).await.unwrap();
    }
    let ensure = async |old: &mut PgConnection| -> i32 {
        let types = ["batch.poll", "batch.ended", "batch.reconcile"];
        let call = sqlx::query_scalar("select restante.ensure_standing_jobs($1)").bind(&types[..]);
        call.fetch_one(old).await.unwrap()
    };
    assert_eq!(ensure(&mut old).await, 1, "the search");

    database::migrate(&url).await.unwrap();

    assert_eq!(ensure(&mut old).await, 0, "by a worker of the release before: nothing is missing");
    let world = World::with_ledger(url).await;
    let rows = "select string_agg(row, ', ') from (
                   select concat_ws(' ', account, id) as row from restante.batch
                   union all select concat_ws(' ', account, batch_id, custom_id) from restante.batch_result
                   union all select concat_ws(' ', account, type, id) from restante.resource
                   union all select concat_ws(' ', account, session_id, outcome_id) from restante.outcome_evaluation) as r";
    assert_eq!(world.value(rows).await, "anthropic b, anthropic b r, anthropic session s, anthropic s o");
    let jobs = "select string_agg(concat_ws(' ', sender, account, event_id), ', ' order by id) from restante.outbox_live";
    assert_eq!(
        world.value(jobs).await,
        "anthropic anthropic batch.poll:b, anthropic anthropic batch.reconcile"
    );
}
