//! Reports, backups and other transactions that stay open: only a new weekly partition waits for them.

use std::time::Duration;

use restante::internals::outbox::upkeep;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::support::eventually;

/// Drops the last weekly partition, as if time had passed.
async fn drop_last_week(world: &World) {
    world
        .sql(
            r"do $$ declare v text; begin
                select c.relname into v from pg_class as c where c.relnamespace = 'restante'::regnamespace
                   and c.relname ~ '^outbox_\d{4}w\d\d$' order by c.relname desc limit 1;
                execute format('drop table restante.%I', v); end $$",
        )
        .await;
}

async fn weeks(world: &World) -> String {
    world.value("select count(*) from pg_inherits where inhparent = 'restante.outbox'::regclass").await
}

/// Statements in a transaction that stays open, for which a new weekly partition would have to wait.
const OPEN: [&str; 4] = [
    // A report.
    "select count(*) from restante.outbox",
    // What pg_dump does first.
    "lock table restante.outbox, restante.outbox_live, restante.outbox_overflow, restante.failure in access share mode",
    "lock table only restante.outbox in share update exclusive mode",
    "delete from restante.outbox_overflow",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_new_week_gives_way_at_once_to_whoever_reads_the_outbox_and_is_made_later() {
    for statement in OPEN {
        let world = World::new().await;
        drop_last_week(&world).await;
        let mut somebody = stranger(&world.url).await;
        execute(&mut somebody, &format!("begin; {statement}")).await;

        let refused = upkeep::make_partitions(&world.pool).await.unwrap_err();

        assert!(database::is_locked(&refused), "{statement}: {refused}");
        execute(&mut somebody, "rollback").await;
        // The refused statement releases its own locks a moment after it has failed.
        let made = async || upkeep::make_partitions(&world.pool).await.ok();
        assert_eq!(eventually("a new week", made).await, 1, "{statement}");
        assert_eq!(weeks(&world).await, "29");
        somebody.close().await.unwrap();
        world.pool.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_behind_a_new_week_that_a_report_keeps_from_being_made() {
    let world = World::new().await;
    drop_last_week(&world).await;
    let mut report = stranger(&world.url).await;
    execute(
        &mut report,
        "begin; select count(*) from restante.outbox; select count(*) from restante.failure",
    )
    .await;
    let stop = CancellationToken::new();
    let api = ScriptedApi::new().await;
    let running = tokio::spawn(worker::run(
        world.worker_settings(),
        world.pool.clone(),
        registry(),
        api.client(),
        stop.clone(),
    ));
    // A key without a head, which the sweep heals.
    world
        .sql(
            "insert into restante.outbox_live (event_id, type, payload, key, status, lane)
                values ('headless', 'test.ledger', '{\"data\":{}}', 'headless', 'blocked', 'b')",
        )
        .await;

    for number in 0..50 {
        world.receive(&format!("e{number}"), &format!("k{}", number % 3), 1, json!({})).await;
    }
    eventually("all of it is done", async || {
        (world.value("select count(*) from restante.outbox where status = 'done'").await == "51")
            .then_some(())
    })
    .await;

    assert_eq!(weeks(&world).await, "28");
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    assert_eq!(world.value(waiting).await, "0");
    stop.cancel();
    running.await.unwrap().unwrap();
    execute(&mut report, "rollback").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_start_together_make_each_week_once() {
    let world = World::new().await;
    drop_last_week(&world).await;
    let made = (0..8).map(|_| {
        let pool = world.pool.clone();
        tokio::spawn(async move { upkeep::make_partitions(&pool).await })
    });
    let mut sum = 0;
    for made in made.collect::<Vec<_>>() {
        match made.await.unwrap() {
            Ok(made) => sum += made,
            Err(error) => assert!(database::is_locked(&error), "{error}"),
        }
    }
    assert_eq!(sum, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_beside_a_backup_ends_and_leaves_the_weeks_to_come_to_the_worker() {
    let world = World::new().await;
    drop_last_week(&world).await;
    let mut backup = stranger(&world.url).await;
    execute(&mut backup, &format!("begin; {}", OPEN[1])).await;

    tokio::time::timeout(Duration::from_secs(60), database::migrate(&world.url)).await.unwrap().unwrap();

    assert_eq!(weeks(&world).await, "28");
}
