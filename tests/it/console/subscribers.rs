//! Which subscriber fell behind, and one that a person holds.

use expect_test::expect;
use restante::internals::outbox::upkeep::oldest_claimable_seconds;
use restante::registry::Registry;
use serde_json::json;

use super::lines;
use crate::support::{Ledger, World};

fn registry() -> Registry {
    Registry::new().register(Ledger).subscribe("billing", Ledger)
}

#[tokio::test]
async fn a_subscriber_that_nobody_serves_falls_behind_and_the_others_keep_up() {
    let world = World::new().await;
    world.work_with(registry()).await;
    world.sql("insert into restante.subscription (subscriber, type) values ('reports', 'test.*'), ('idle', 'other.*')").await;
    world.receive("a", "k", 1, json!({})).await;
    world.receive("b", "k", 2, json!({})).await;
    world.work_with(registry()).await;
    world.receive("c", "m", 3, json!({})).await;
    world.sql("update restante.outbox_live set received_at = received_at - interval '10 minutes' where subscriber = 'reports'").await;

    let shown = "select subscriber, types, waiting, running, retrying, dead, behind_by > interval '9 minutes' as is_behind, how
                   from restante.subscriber_lag order by subscriber";
    expect![[r#"
        {"subscriber":"","types":null,"waiting":1,"running":0,"retrying":0,"dead":0,"is_behind":false,"how":"keeps up"}
        {"subscriber":"billing","types":["session.*","test.ledger"],"waiting":1,"running":0,"retrying":0,"dead":0,"is_behind":false,"how":"keeps up"}
        {"subscriber":"idle","types":["other.*"],"waiting":0,"running":0,"retrying":0,"dead":0,"is_behind":null,"how":"nothing is left to do"}
        {"subscriber":"reports","types":["test.*"],"waiting":3,"running":0,"retrying":0,"dead":0,"is_behind":true,"how":"behind: nothing was claimed for a minute or more; does a worker of it run?"}
    "#]]
    .assert_eq(&lines(&world, shown).await);
}

#[tokio::test]
async fn a_paused_subscriber_claims_nothing_while_the_others_go_on_and_says_why() {
    let world = World::new().await;
    world.work_with(registry()).await;
    world.receive("a", "k", 1, json!({})).await;

    assert_eq!(
        world.value("select restante.pause(subscriber => 'billing', reason => 'the ledger is closed')").await,
        "1"
    );
    world.receive("b", "k", 2, json!({})).await;
    world.work_with(registry()).await;

    let ran = "select string_agg(event_id || subscriber, ' ' order by line) from ledger";
    assert_eq!(world.value(ran).await, "a b");
    let told = "select waits_for || ': ' || reason from restante.outbox_waiting where status = 'pending'";
    let reason = "person: held by restante.pause(subscriber => 'billing'): the ledger is closed";
    assert_eq!(world.value(told).await, reason);
    world.sql("update restante.outbox_live set received_at = received_at - interval '10 minutes'").await;
    assert_eq!(world.value("select count(*) from restante.outbox_stuck").await, "0");
    assert_eq!(oldest_claimable_seconds(&world.pool).await.unwrap(), 0.0);
    let how = "select how from restante.subscriber_lag where subscriber = 'billing'";
    assert_eq!(
        world.value(how).await,
        "held by restante.pause(subscriber => 'billing'): the ledger is closed"
    );

    assert_eq!(world.value("select restante.resume(subscriber => 'billing')").await, "2");
    world.work_with(registry()).await;
    assert_eq!(world.value(ran).await, "a b abilling bbilling");
}

#[tokio::test]
async fn the_handlers_of_all_types_are_paused_as_the_subscriber_without_a_name() {
    let world = World::new().await;
    world.work_with(registry()).await;
    world.value("select restante.pause(subscriber => '')").await;
    world.receive("a", "k", 1, json!({})).await;

    world.work_with(registry()).await;

    assert_eq!(
        world.value("select string_agg(event_id || subscriber, ' ' order by line) from ledger").await,
        "abilling"
    );
}
