//! Connections that stay with their users, and what happens to them when something goes wrong.

use std::time::Duration;

use restante::database::Connections;
use sqlx::{Connection, Executor, Row};

use crate::support::eventually;
use crate::support::world::World;

async fn backend(connection: &mut sqlx::PgConnection) -> i32 {
    connection.fetch_one("select pg_backend_pid()").await.unwrap().get(0)
}

#[tokio::test]
async fn a_connection_on_which_all_went_well_is_lent_again() {
    let world = World::new().await;
    let connections = Connections::of(&world.pool, 2);

    let mut first = connections.lend().await.unwrap();
    let pid = backend(&mut first).await;
    first.keep();
    let mut second = connections.lend().await.unwrap();

    assert_eq!(backend(&mut second).await, pid);
}

#[tokio::test]
async fn a_transaction_that_was_left_open_half_way_is_rolled_back() {
    let world = World::new().await;
    world.receive("a", "k", 1, serde_json::json!({})).await;
    let connections = Connections::of(&world.pool, 1);

    let mut lent = connections.lend().await.unwrap();
    // The state that a `begin` leaves if its future is dropped before the answer comes.
    lent.execute("begin").await.unwrap();
    lent.execute("select from restante.outbox_live for update").await.unwrap();
    drop(lent);

    let free = "select count(*) from (select from restante.outbox_live for update skip locked) as l";
    eventually("the row is free", async || (world.value(free).await == "1").then_some(())).await;
}

#[tokio::test]
async fn a_small_pool_gets_all_of_its_connections_back() {
    let world = World::new().await;
    let small = restante::database::pool(&world.url, "small", 1).unwrap();
    let connections = Connections::of(&small, 1);

    connections.lend().await.unwrap().keep();

    let one: i32 = sqlx::query_scalar("select 1").fetch_one(&small).await.unwrap();
    assert_eq!(one, 1);
}

#[tokio::test]
async fn who_waits_for_a_connection_gets_the_next_that_is_free() {
    let world = World::new().await;
    let connections = Connections::of(&world.pool, 1);
    let mut lent = connections.lend().await.unwrap();
    let pid = backend(&mut lent).await;

    let waiting = tokio::spawn({
        let connections = connections.clone();
        async move { backend(&mut connections.lend().await.unwrap()).await }
    });
    tokio::task::yield_now().await;
    lent.keep();

    assert_eq!(waiting.await.unwrap(), pid);
}

#[tokio::test]
async fn closing_a_pool_does_not_wait_for_connections_that_nobody_uses() {
    let world = World::new().await;
    let connections = Connections::of(&world.pool, 2);
    connections.lend().await.unwrap().keep();

    tokio::time::timeout(Duration::from_secs(20), world.pool.close()).await.unwrap();

    assert!(connections.lend().await.is_err());
}

#[tokio::test]
async fn after_a_fault_no_spare_connection_is_used_any_more() {
    let world = World::new().await;
    let connections = Connections::of(&world.pool, 2);
    let (mut first, mut second) = (connections.lend().await.unwrap(), connections.lend().await.unwrap());
    let (first_pid, second_pid) = (backend(&mut first).await, backend(&mut second).await);
    second.keep();
    world.sql(&format!("select pg_terminate_backend({first_pid}), pg_terminate_backend({second_pid})")).await;

    assert!(first.ping().await.is_err());
    drop(first);

    backend(&mut connections.lend().await.unwrap()).await;
}
