//! Endpoints that do not take what they are sent: what becomes of the notification, and of the endpoint.

use super::receiver::{Receiver, Reply};
use super::{add, enqueue, work, work_to_rest};
use crate::support::World;

/// The state of the only notification, for how many minutes it waits, and the endpoint.
async fn state(world: &World) -> String {
    let state = "select concat_ws(' ', o.status, 'attempt', o.attempt, e.status)
                   from restante.outbox as o, restante.endpoint as e where o.type = 'notify.a'";
    world.value(state).await
}

async fn with_one(reply: Reply) -> (World, Receiver) {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "a", &receiver.url("/"), &[]).await;
    receiver.reply_always(reply);
    enqueue(&world, "order.placed", Some("k"), "{}").await;
    (world, receiver)
}

#[tokio::test]
async fn an_endpoint_that_answers_500_for_a_day_is_disabled_and_its_notifications_wait_in_order() {
    let (world, receiver) = with_one(Reply::Status(500, "", "out of order")).await;
    enqueue(&world, "order.placed", Some("k"), "{}").await;
    for _ in 0..9 {
        work(&world).await;
        world.wait_for_retries().await;
    }
    world.sql("update restante.endpoint set failing_since = failing_since - interval '23 hours'").await;
    let failing = "select concat_ws(' ', status, failures_in_a_row) from restante.endpoint";
    assert_eq!(world.value(failing).await, "enabled 9");
    work(&world).await;
    assert_eq!(world.value(failing).await, "enabled 10", "a day is not over");
    world.wait_for_retries().await;
    world.sql("update restante.endpoint set failing_since = failing_since - interval '1 hour'").await;
    work(&world).await;

    assert_eq!(world.value(failing).await, "disabled 11");
    let parked = "select string_agg(concat_ws(' ', status, attempt, held_by), ', ' order by id) from restante.outbox where type = 'notify.a'";
    assert_eq!(
        world.value(parked).await,
        "paused 10 notify.a, paused 0 notify.a",
        "the last attempt does not count"
    );
    let why = world.value("select disabled_because from restante.endpoint").await;
    assert!(
        why.starts_with("nothing was delivered since ") && why.ends_with("the last one: it answered 500"),
        "{why}"
    );

    receiver.reply_always(Reply::Status(200, "", "ok"));
    world.sql("update restante.endpoint set status = 'enabled'").await;
    work(&world).await;
    assert_eq!(receiver.arrived().len(), 13);
    let healthy = "select concat_ws(' ', status, failures_in_a_row, failing_since, disabled_because) from restante.endpoint";
    assert_eq!(world.value(healthy).await, "enabled 0");
}

#[tokio::test]
async fn one_success_forgives_the_failures_before_it() {
    let (world, receiver) = with_one(Reply::Status(204, "", "")).await;
    receiver.reply(Reply::Status(500, "", ""));
    work(&world).await;
    let failing =
        "select concat_ws(' ', failures_in_a_row, failing_since is not null) from restante.endpoint";
    assert_eq!(world.value(failing).await, "1 t");
    work_to_rest(&world).await;
    assert_eq!(world.value(failing).await, "0 f");
}

#[tokio::test]
async fn an_endpoint_that_answers_410_is_disabled_at_once_and_nothing_is_lost() {
    let (world, receiver) = with_one(Reply::Status(410, "", "gone")).await;
    work_to_rest(&world).await;
    assert_eq!(state(&world).await, "paused attempt 0 disabled");
    assert_eq!(receiver.arrived().len(), 1);
    let why = "select disabled_because from restante.endpoint";
    assert_eq!(world.value(why).await, "it answered 410: it wants no more notifications");
    enqueue(&world, "order.placed", Some("k"), "{}").await;
    work_to_rest(&world).await;
    assert_eq!(receiver.arrived().len(), 1);
}

#[tokio::test]
async fn a_wait_that_the_endpoint_asks_for_is_kept_by_all_that_wait_for_it() {
    let (world, receiver) = with_one(Reply::Status(429, "retry-after: 120\r\n", "slow down")).await;
    work(&world).await;
    let waits = "select concat_ws(' ', status, run_at between received_at + interval '2 minutes' and now() + interval '4 minutes', last_error)
                   from restante.outbox where type = 'notify.a'";
    assert_eq!(world.value(waits).await, "retry t a did not take the notification: it answered 429");
    // A second one, in the same worker, does not ask.
    let registry = super::registry();
    let settings = || world.worker_settings();
    receiver.reply_always(Reply::Status(503, "retry-after: 7200\r\n", ""));
    world.wait_for_retries().await;
    restante::worker::run_until_idle(
        settings(),
        world.pool.clone(),
        registry.clone(),
        crate::support::world::no_api(),
    )
    .await
    .unwrap();
    enqueue(&world, "order.placed", Some("other"), "{}").await;
    restante::worker::run_until_idle(
        settings(),
        world.pool.clone(),
        registry,
        crate::support::world::no_api(),
    )
    .await
    .unwrap();
    assert_eq!(receiver.arrived().len(), 2);
    let waits = "select string_agg(concat_ws(' ', attempt, run_at > now() + interval '59 minutes', run_at < now() + interval '121 minutes'), ', ' order by id)
                   from restante.outbox where type = 'notify.a'";
    assert_eq!(
        world.value(waits).await,
        "2 t t, 0 t t",
        "an hour at most is waited for, and the second was not sent"
    );
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let target = Receiver::start().await;
    let location: &'static str = Box::leak(format!("location: {}\r\n", target.url("/")).into_boxed_str());
    for status in [301, 302, 303, 307, 308] {
        let (world, receiver) = with_one(Reply::Status(status, location, "")).await;
        work(&world).await;
        assert_eq!(state(&world).await, "retry attempt 1 enabled");
        let error = "select error from restante.endpoint_delivery";
        assert_eq!(
            world.value(error).await,
            format!("it answered {status}, a redirect, which is not followed")
        );
        assert_eq!(receiver.arrived().len(), 1);
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn an_answer_of_a_gigabyte_is_taken_by_its_status_and_not_read() {
    let (world, receiver) = with_one(Reply::Endless).await;
    work(&world).await;
    assert_eq!(state(&world).await, "done attempt 1 enabled");
    let log = "select concat_ws(' ', status, error, length(answer)) from restante.endpoint_delivery";
    assert_eq!(world.value(log).await, "200 1024");
    // What the buffers of the kernel take is no gigabyte.
    assert!(receiver.endless_bytes() < 64_000_000, "{}", receiver.endless_bytes());
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_given_up_after_its_time_and_tried_again() {
    let (world, receiver) = with_one(Reply::Status(204, "", "")).await;
    receiver.reply(Reply::Silence);
    work(&world).await;
    assert_eq!(state(&world).await, "retry attempt 1 enabled");
    let log = "select concat_ws(' ', status, error, took between '14 s' and '25 s') from restante.endpoint_delivery";
    assert_eq!(world.value(log).await, "no answer within 15 s t");
    work_to_rest(&world).await;
    assert_eq!(state(&world).await, "done attempt 2 enabled");
}

#[tokio::test]
async fn what_an_answer_says_is_kept_as_text_whatever_its_bytes_are() {
    let (world, _receiver) = with_one(Reply::Status(500, "", "a\0b")).await;
    work(&world).await;
    assert_eq!(world.value("select answer from restante.endpoint_delivery").await, "a\u{fffd}b");
}

#[tokio::test]
async fn a_notification_whose_endpoint_was_deleted_is_a_dead_letter_that_says_so() {
    let (world, receiver) = with_one(Reply::Status(204, "", "")).await;
    world.sql("update restante.endpoint set status = 'disabled'").await;
    world.sql("delete from restante.endpoint").await;
    work(&world).await;
    let dead = "select concat_ws(' ', status, last_error) from restante.outbox where type = 'notify.a'";
    assert_eq!(world.value(dead).await, "dead there is no endpoint named a any more");
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_person_who_holds_an_endpoint_in_an_open_transaction_holds_up_nothing() {
    let (world, receiver) = with_one(Reply::Status(204, "", "")).await;
    receiver.reply(Reply::Status(500, "", ""));
    let mut holder = restante::database::connect(&world.url, "test").await.unwrap();
    let mut tx = sqlx::Connection::begin(&mut holder).await.unwrap();
    sqlx::query("update restante.endpoint set concurrency = 3").execute(&mut *tx).await.unwrap();
    work_to_rest(&world).await;
    assert_eq!(state(&world).await, "done attempt 2 enabled");
    assert_eq!(receiver.arrived().len(), 2);
}
