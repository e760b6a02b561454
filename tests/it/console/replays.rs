//! Replays of many events: counted first, then begun again a portion at a time, at a rate.

use expect_test::expect;
use restante::internals::outbox::upkeep::replay_portion;
use serde_json::json;
use sqlx::{Connection, Executor};

use super::{lines, receive_type, refused};
use crate::support::World;

/// `count` dead letters, named d1 and so on.
async fn dead_letters(count: u32) -> World {
    let world = World::new().await;
    for n in 1..=count {
        world.receive(&format!("d{n}"), "", 0, json!({ "permanent": true })).await;
    }
    world.work().await;
    world
}

const STATES: &str = "select string_agg(event_id || ' ' || status, ', ' order by id) from restante.outbox";
const HOW_FAR: &str = "select status, events, replayed, left_out, left_over, ended_at is not null as has_ended from restante.replay_overview";

#[tokio::test]
async fn a_dry_run_which_is_the_default_counts_and_changes_nothing() {
    let world = dead_letters(2).await;

    assert_eq!(world.value("select restante.replay()").await, "2");
    assert_eq!(world.value("select restante.replay(type => 'other.*')").await, "0");

    assert_eq!(world.value("select count(*) from restante.replay").await, "0");
    assert_eq!(replay_portion(&world.pool).await.unwrap(), 0);
    assert_eq!(world.value(STATES).await, "d1 dead, d2 dead");
    assert_eq!(world.value("select count(*) from restante.operation").await, "0");
}

#[tokio::test]
async fn events_begin_again_once_each_also_those_that_fail_again() {
    let world = dead_letters(3).await;

    assert_eq!(world.value("select restante.replay(name => 'again', dry_run => false)").await, "3");
    assert_eq!(world.value(STATES).await, "d1 dead, d2 dead, d3 dead");
    while replay_portion(&world.pool).await.unwrap() > 0 {}
    assert_eq!(world.value(STATES).await, "d1 pending, d2 pending, d3 pending");
    world.work().await;

    assert_eq!(replay_portion(&world.pool).await.unwrap(), 0);
    assert_eq!(world.value(STATES).await, "d1 dead, d2 dead, d3 dead");
    expect![[r#"
        {"status":"done","events":3,"replayed":3,"left_out":0,"left_over":0,"has_ended":true}
    "#]]
    .assert_eq(&lines(&world, HOW_FAR).await);
}

#[tokio::test]
async fn no_more_begin_again_than_the_rate_allows() {
    let world = dead_letters(5).await;
    world.value("select restante.replay(per_second => 0.01, name => 'slowly', dry_run => false)").await;
    assert_eq!(replay_portion(&world.pool).await.unwrap(), 0, "nothing is due in the first 100 seconds");

    // As if 100 seconds had passed, and then a year in which no worker ran.
    for (passed, states) in [
        ("100 seconds", "d1 pending, d2 dead, d3 dead, d4 dead, d5 dead"),
        ("1 year", "d1 pending, d2 pending, d3 dead, d4 dead, d5 dead"),
    ] {
        world.sql(&format!("update restante.replay set paid_until = paid_until - interval '{passed}'")).await;
        assert_eq!(replay_portion(&world.pool).await.unwrap(), 1);
        assert_eq!(replay_portion(&world.pool).await.unwrap(), 0);
        assert_eq!(world.value(STATES).await, states);
    }
    assert_eq!(world.value("select likely_end_at > now() from restante.replay_overview").await, "true");
}

#[tokio::test]
async fn a_replay_is_held_and_called_off_with_an_update() {
    let world = dead_letters(2).await;
    world.value("select restante.replay(name => 'again', dry_run => false)").await;

    world.sql("update restante.replay set status = 'paused'").await;
    assert_eq!(replay_portion(&world.pool).await.unwrap(), 0);
    world.sql("update restante.replay set status = 'running'").await;
    world.sql("update restante.replay set status = 'cancelled'").await;
    assert_eq!(replay_portion(&world.pool).await.unwrap(), 0);

    assert_eq!(world.value(STATES).await, "d1 dead, d2 dead");
    assert_eq!(world.value("select count(*) from restante.replay_event").await, "0");
    let again = refused(&world, "update restante.replay set status = 'running'").await;
    assert!(again.contains("the replay again is cancelled: it does not go on"), "{again}");
}

#[tokio::test]
async fn what_a_person_has_changed_meanwhile_is_left_out_and_what_is_locked_comes_later() {
    let world = dead_letters(3).await;
    world.value("select restante.replay(name => 'again', dry_run => false)").await;
    world.sql("update restante.outbox set status = 'cancelled' where event_id = 'd1'").await;
    let mut connection = world.pool.acquire().await.unwrap();
    let mut open = connection.begin().await.unwrap();
    open.execute("select * from restante.outbox where event_id = 'd2' for update").await.unwrap();

    assert_eq!(replay_portion(&world.pool).await.unwrap(), 2);
    assert_eq!(world.value(STATES).await, "d1 cancelled, d2 dead, d3 pending");
    assert_eq!(replay_portion(&world.pool).await.unwrap(), 0);

    open.rollback().await.unwrap();
    assert_eq!(replay_portion(&world.pool).await.unwrap(), 1);
    expect![[r#"
        {"status":"done","events":3,"replayed":2,"left_out":1,"left_over":0,"has_ended":true}
    "#]]
    .assert_eq(&lines(&world, HOW_FAR).await);
}

#[tokio::test]
async fn the_conditions_say_which_events_begin_again() {
    let world = World::new().await;
    for (event_id, event_type, key) in [
        ("thread", "session.thread_created", "sesn_1"),
        ("idle", "session.status_idled", "sesn_2"),
        ("vault", "vault.created", "vlt_1"),
    ] {
        receive_type(&world, event_id, event_type, key).await;
    }
    world.work().await;
    world.receive("dead", "sesn_1", 1, json!({ "permanent": true })).await;
    world.work().await;

    for (arguments, events) in [
        ("", "1"),
        ("kind => 'handler'", "1"),
        ("kind => 'database'", "0"),
        ("key => 'sesn_1'", "1"),
        ("subscriber => 'billing'", "0"),
        ("since => now() - interval '1 hour'", "1"),
        ("until => now() - interval '1 hour'", "0"),
        ("status => 'done', since => now() - interval '1 hour'", "2"),
        ("status => 'done', since => now() - interval '1 hour', type => 'session.thread_*'", "1"),
        ("status => 'done', since => now() - interval '1 hour', key => 'sesn_2'", "1"),
        ("status => 'done', since => now() - interval '2 hours', until => now() - interval '1 hour'", "0"),
        ("status => 'ignored', since => now() - interval '1 hour'", "1"),
    ] {
        assert_eq!(world.value(&format!("select restante.replay({arguments})")).await, events, "{arguments}");
    }
}

#[tokio::test]
async fn what_is_finished_begins_again_and_keeps_the_order_of_its_key() {
    let world = World::new().await;
    world.receive("k1", "k", 1, json!({})).await;
    world.receive("k2", "k", 2, json!({})).await;
    world.work().await;

    world
        .value("select restante.replay(status => 'done', since => now() - interval '1 hour', key => 'k', dry_run => false)")
        .await;
    while replay_portion(&world.pool).await.unwrap() > 0 {}
    world.work().await;

    assert_eq!(world.ledger().await, ["k1", "k2", "k1", "k2"]);
}

#[tokio::test]
async fn a_mistake_in_a_replay_names_the_argument() {
    let world = dead_letters(1).await;
    world.value("select restante.replay(name => 'again', dry_run => false)").await;
    for (arguments, reason) in [
        ("status => 'running'", "status must be dead, done, ignored or cancelled"),
        ("status => null", "status must be dead, done, ignored or cancelled"),
        ("status => 'done'", "since is missing: say from when on the events became done"),
        ("status => 'done', since => now(), kind => 'handler'", "kind is for dead letters"),
        ("per_second => 0", "per_second must be 0.001 to 100000"),
        ("per_second => 'NaN'", "per_second must be 0.001 to 100000"),
        ("name => ''", "name must have 1 to 200 bytes"),
        ("name => 'again'", "there is a replay named again already"),
        ("dry_run => null", "dry_run is null"),
    ] {
        let told = refused(&world, &format!("select restante.replay({arguments})")).await;
        assert!(told.contains(&format!("restante.replay: {reason}")), "{arguments}: {told}");
    }
}
