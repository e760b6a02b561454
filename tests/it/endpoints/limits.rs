//! How many notifications an endpoint gets, and that one which hangs holds up no other.

use super::receiver::{Receiver, Reply};
use super::{add, enqueue, registry, work_to_rest};
use crate::support::World;
use crate::support::world::no_api;

#[tokio::test]
async fn no_more_notifications_are_on_their_way_at_once_than_the_endpoint_takes() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "a", &receiver.url("/"), &["concurrency = 2"]).await;
    for _ in 0..40 {
        enqueue(&world, "order.placed", None, "{}").await;
    }
    work_to_rest(&world).await;
    assert_eq!(receiver.arrived().len(), 40);
    assert!(receiver.most_at_once() <= 2, "{}", receiver.most_at_once());
}

#[tokio::test]
async fn a_limit_by_the_second_holds_for_all_workers_together() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "a", &receiver.url("/"), &["per_second = 3"]).await;
    for _ in 0..8 {
        enqueue(&world, "order.placed", None, "{}").await;
    }
    let settings = world.worker_settings();
    let run = || restante::worker::run_until_idle(settings.clone(), world.pool.clone(), registry(), no_api());
    let began = std::time::Instant::now();
    let (one, other) = tokio::join!(run(), run());
    let (arrived, seconds) = (receiver.arrived().len(), began.elapsed().as_secs());
    assert!(one.unwrap() + other.unwrap() >= 8, "each was tried");
    assert!(arrived as u64 <= 3 * (seconds + 1), "{arrived} within {seconds} s");
    work_to_rest(&world).await;
    assert_eq!(receiver.arrived().len(), 8);
    assert_eq!(world.value("select cardinality(recent) <= 3 from restante.endpoint_pace").await, "true");
}

#[tokio::test]
async fn the_right_to_send_is_given_out_as_often_as_the_limit_says_within_any_second() {
    let world = World::new().await;
    let take = async || -> f64 {
        sqlx::query_scalar("select restante.take_slot('a', 2)").fetch_one(&world.pool).await.unwrap()
    };
    assert_eq!((take().await, take().await), (0.0, 0.0));
    let wait = take().await;
    assert!(wait > 0.0 && wait <= 1.0, "{wait}");
    // As if a second had passed since the first of both.
    world.sql("update restante.endpoint_pace set recent[1] = recent[1] - interval '1 second'").await;
    assert_eq!(take().await, 0.0);
    assert!(take().await > 0.0);
    world.sql("update restante.endpoint_pace set recent = array[now() + interval '1 day', now() + interval '1 day']").await;
    assert_eq!(take().await, 0.0, "the clock was set back");
}

#[tokio::test]
async fn an_endpoint_that_hangs_holds_up_no_other() {
    let (world, hanging, receiver) = (World::new().await, Receiver::start().await, Receiver::start().await);
    hanging.reply_always(Reply::Silence);
    add(&world, "hangs", &hanging.url("/"), &["event_types = '{order.*}'"]).await;
    add(&world, "sound", &receiver.url("/"), &["event_types = '{order.*}'"]).await;
    // If each took a handler until it is given up, the last one would have its turn after three minutes.
    for _ in 0..100 {
        enqueue(&world, "order.placed", None, "{}").await;
    }
    world.may_leave_running();
    let settings = world.worker_settings();
    let worker =
        tokio::spawn(restante::worker::run_until_idle(settings, world.pool.clone(), registry(), no_api()));
    crate::support::eventually("the sound one has got all", async || {
        let waiting =
            "update restante.outbox set run_at = now() where type = 'notify.sound' and status = 'retry'";
        world.sql(waiting).await;
        (receiver.arrived().len() == 100).then_some(())
    })
    .await;
    worker.abort();
}
