//! What each handler does with its events, without a process: the tests only call `worker::run_until_idle`.

use std::time::Duration;

use crate::desk::{Answer, Desk};
use crate::shop::Shop;

/// A shop whose subscriptions are stored, and a desk.
async fn open_shop() -> (Shop, Desk) {
    let (shop, desk) = (Shop::new().await, Desk::answering(Answer::Status(204)).await);
    assert_eq!(shop.work(orders_worker::registry(desk.url.clone()).unwrap()).await, 0);
    (shop, desk)
}

async fn work(shop: &Shop, desk: &Desk) -> u64 {
    shop.work(orders_worker::registry(desk.url.clone()).unwrap()).await
}

#[tokio::test]
async fn an_order_is_reserved_together_with_the_completion_of_its_event() {
    let (shop, desk) = open_shop().await;
    shop.stock("tea", 10).await;
    shop.order("o1", "tea", 3).await;
    shop.order("o1", "tea", 3).await;

    assert_eq!(work(&shop, &desk).await, 1);

    assert_eq!(shop.outbox().await, "placed_o1 done, attempt 1");
    assert_eq!(shop.value("select available from orders.stock").await, "7");
    assert_eq!(
        shop.value("select string_agg(order_id || ' ' || event_id, ', ') from orders.reservation").await,
        "o1 placed_o1"
    );
}

#[tokio::test]
async fn an_order_that_can_not_be_met_waits_for_a_person_and_is_met_when_he_replays_it() {
    let (shop, desk) = open_shop().await;
    shop.stock("tea", 1).await;
    shop.order("o1", "tea", 3).await;

    work(&shop, &desk).await;
    assert_eq!(shop.outbox().await, "placed_o1 dead, attempt 1");
    assert_eq!(shop.value("select last_error from restante.outbox_dead").await, "too little of tea is left");
    assert_eq!(shop.value("select count(*) from orders.reservation").await, "0");

    shop.sql("update orders.stock set available = 5").await;
    shop.sql("update restante.outbox set status = 'pending' where status = 'dead' and subscriber = 'orders'")
        .await;
    work(&shop, &desk).await;
    assert_eq!(shop.outbox().await, "placed_o1 done, attempt 1");
    assert_eq!(shop.value("select available from orders.stock").await, "2");
}

#[tokio::test]
async fn an_order_that_is_none_is_a_dead_letter_that_says_why() {
    let (shop, desk) = open_shop().await;
    shop.sql("select restante.enqueue('order.placed', '{\"order_id\": \"o1\"}', event_id => 'e')").await;

    work(&shop, &desk).await;

    assert_eq!(shop.outbox().await, "e dead, attempt 1");
    let reason = shop.value("select last_error from restante.outbox_dead").await;
    assert!(reason.contains("missing field `sku`"), "{reason}");
}

#[tokio::test]
async fn the_desk_hears_of_a_session_under_the_events_identifier_at_every_attempt() {
    let (shop, desk) = open_shop().await;
    desk.answers(Answer::Status(500));
    shop.session_idled("sesn_1").await;

    work(&shop, &desk).await;
    assert_eq!(shop.outbox().await, "whe_sesn_1 retry, attempt 1");
    desk.answers(Answer::Status(204));
    shop.sql("update restante.outbox set run_at = now() where status = 'retry'").await;
    work(&shop, &desk).await;

    assert_eq!(shop.outbox().await, "whe_sesn_1 done, attempt 2");
    let call = r#"whe_sesn_1 {"idle_since":"2026-11-01T12:00:00Z","session_id":"sesn_1"}"#;
    assert_eq!(desk.heard(), [call, call]);
}

#[tokio::test]
async fn what_the_desk_asks_for_is_done() {
    for (answer, event, status) in [
        (Answer::Status(400), "dead", "the desk answered 400 Bad Request"),
        (Answer::Status(429), "retry", "the desk answered 429 Too Many Requests"),
        (Answer::Status(301), "retry", "the desk answered 301 Moved Permanently"),
        (Answer::RetryAfterSeconds(3600), "retry", "the desk answered 503 Service Unavailable"),
    ] {
        let (shop, desk) = open_shop().await;
        desk.answers(answer.clone());
        shop.session_idled("sesn_1").await;

        work(&shop, &desk).await;

        assert_eq!(shop.outbox().await, format!("whe_sesn_1 {event}, attempt 1"), "{answer:?}");
        let last_error = "select last_error from restante.outbox where subscriber = 'orders'";
        assert_eq!(shop.value(last_error).await, status);
        if let Answer::RetryAfterSeconds(seconds) = answer {
            let wait = "select extract(epoch from run_at - now()) >= 3590 from restante.outbox where status = 'retry'";
            assert_eq!(shop.value(wait).await, "true", "not before {seconds} s");
        }
    }
}

#[tokio::test]
async fn a_batch_of_another_sender_is_noted_once_and_of_no_third_one() {
    let (shop, desk) = open_shop().await;
    shop.batch_completed("openai", "batch_1").await;
    shop.batch_completed("somebody", "batch_2").await;

    assert_eq!(work(&shop, &desk).await, 2);
    shop.sql("update restante.outbox set status = 'pending' where event_id = 'evt_batch_1' and subscriber = 'orders'")
        .await;
    work(&shop, &desk).await;

    assert_eq!(shop.outbox().await, "evt_batch_1 done, attempt 1; evt_batch_2 ignored, attempt 1");
    assert_eq!(
        shop.value("select string_agg(concat_ws(' ', batch_id, event_id, completed_at at time zone 'UTC'), ', ') from orders.translation_batch").await,
        "batch_1 evt_batch_1 2026-11-01 12:00:00"
    );
}

#[tokio::test]
async fn the_role_of_a_worker_and_a_schema_of_its_own_are_all_that_it_needs() {
    let (shop, desk) = (Shop::new().await, Desk::answering(Answer::Status(204)).await);
    shop.sql("drop schema orders cascade").await;
    let database = shop.value("select current_database()").await;
    shop.sql("create role orders_login login password 'secret' in role restante_worker").await;
    shop.sql(&format!("grant create on database {database} to orders_login")).await;
    let login = shop.as_login("orders_login", "secret").await;
    orders_worker::migrate(&login.pool).await.unwrap();
    assert_eq!(work(&login, &desk).await, 0);

    login.stock("tea", 1).await;
    shop.order("o1", "tea", 1).await;
    shop.order("o2", "tea", 2).await;
    shop.session_idled("sesn_1").await;
    assert_eq!(work(&login, &desk).await, 3);

    let expected = "placed_o1 done, attempt 1; placed_o2 dead, attempt 1; whe_sesn_1 done, attempt 1";
    assert_eq!(login.outbox().await, expected);
}

#[tokio::test]
async fn the_built_in_handler_of_the_same_kind_goes_its_own_way() {
    let (shop, desk) = open_shop().await;
    shop.session_idled("sesn_1").await;
    let minute = Duration::from_secs(60);
    let built_in =
        restante::handlers::Settings { batch_poll: minute, reconcile: None, allow_private_endpoints: false };

    // No API answers in these tests, so the event of the built-in handler waits, and does not hold up the other one.
    assert_eq!(shop.work(restante::handlers::registry(built_in)).await, 1);
    assert_eq!(work(&shop, &desk).await, 1);

    let rows = "select string_agg(format('%s: %s, attempt %s', subscriber, status, attempt), '; ' order by subscriber)
                  from restante.outbox";
    assert_eq!(shop.value(rows).await, ": retry, attempt 0; orders: done, attempt 1");
    assert_eq!(desk.heard().len(), 1);
}
