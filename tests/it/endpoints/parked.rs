//! A disabled endpoint: what comes for it is parked, and one UPDATE releases all of it, in order.

use std::collections::{HashMap, HashSet};

use super::receiver::{Receiver, Reply};
use super::{add, enqueue, work, work_to_rest};
use crate::support::{World, eventually};

#[tokio::test]
async fn a_hundred_events_for_a_disabled_endpoint_are_delivered_once_each_and_in_order_when_it_is_enabled() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "a", &receiver.url("/"), &["body = 'full'", "status = 'disabled'"]).await;
    for n in 0..100 {
        enqueue(
            &world,
            "order.placed",
            Some(&format!("k{}", n % 7)),
            &format!("{{\"key\":{},\"n\":{n}}}", n % 7),
        )
        .await;
        if n == 50 {
            work_to_rest(&world).await;
        }
    }
    work_to_rest(&world).await;
    assert_eq!(receiver.connections(), 0);
    let overview =
        "select concat_ws(' ', status, waiting, parked, disabled_because) from restante.endpoint_overview";
    assert_eq!(world.value(overview).await, "disabled 0 100 disabled by postgres");

    world.sql("update restante.endpoint set status = 'enabled' where name = 'a'").await;
    work_to_rest(&world).await;

    let mut of_key: HashMap<i64, Vec<i64>> = HashMap::new();
    let arrived = receiver.arrived();
    for one in &arrived {
        let data = &one.json()["data"];
        of_key.entry(data["key"].as_i64().unwrap()).or_default().push(data["n"].as_i64().unwrap());
    }
    assert_eq!(arrived.len(), 100);
    assert_eq!(arrived.iter().map(|one| one.header("webhook-id")).collect::<HashSet<_>>().len(), 100);
    for (key, numbers) in of_key {
        assert!(numbers.is_sorted() && numbers.iter().all(|n| n % 7 == key), "{key}: {numbers:?}");
    }
}

#[tokio::test]
async fn what_waits_when_an_endpoint_is_disabled_is_parked_and_what_runs_then_is_too() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "a", &receiver.url("/"), &[]).await;
    receiver.reply_always(Reply::Status(500, "", ""));
    for key in ["k", "k", "l"] {
        enqueue(&world, "order.placed", Some(key), "{}").await;
    }
    work(&world).await;
    assert_eq!(world.claim(1).await.len(), 0);
    world.wait_for_retries().await;
    let running = world.claim(1).await;
    assert_eq!(running.len(), 1);
    world.sql("update restante.endpoint set status = 'disabled', disabled_because = 'moving house'").await;
    let states = "select string_agg(status, ' ' order by id) from restante.outbox where type = 'notify.a'";
    assert_eq!(world.value(states).await, "running paused paused");
    world.let_leases_run_out().await;
    world.may_leave_running();
    // A worker takes it over, and finds the endpoint disabled.
    eventually("all of it is parked", async || {
        work(&world).await;
        (world.value(states).await == "paused paused paused").then_some(())
    })
    .await;
    assert_eq!(world.value("select reason from restante.paused_type").await, "moving house");
    assert_eq!(receiver.arrived().len(), 2);
}

#[tokio::test]
async fn who_ends_the_pause_by_hand_does_not_make_a_disabled_endpoint_get_anything() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "a", &receiver.url("/"), &["status = 'disabled'"]).await;
    enqueue(&world, "order.placed", Some("k"), "{}").await;
    world.sql("select restante.resume('notify.a')").await;
    work(&world).await;
    assert_eq!(receiver.connections(), 0);
    let state = "select concat_ws(' ', status, held_by) from restante.outbox where type = 'notify.a'";
    assert_eq!(world.value(state).await, "paused notify.a");
}

#[tokio::test]
async fn a_pause_that_a_person_made_of_all_notifications_outlasts_the_endpoint() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "a", &receiver.url("/"), &["status = 'disabled'"]).await;
    enqueue(&world, "order.placed", Some("k"), "{}").await;
    world.sql("select restante.pause('notify.*')").await;
    world.sql("update restante.endpoint set status = 'enabled'").await;
    // A worker does this every few seconds.
    world.sql("select restante.let_held_go()").await;
    work(&world).await;
    assert_eq!(receiver.connections(), 0);
    world.sql("select restante.resume('notify.*')").await;
    work(&world).await;
    assert_eq!(receiver.arrived().len(), 1);
}
