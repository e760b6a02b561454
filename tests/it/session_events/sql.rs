//! What an application calls, what it is told of a mistake, and the order in which its events arrive.

use super::{api_at, ask, messages, refused, send, session, statuses, work, work_to_rest};
use crate::support::{SimulatedApi, World};

#[tokio::test]
async fn a_mistake_is_an_error_at_once_that_names_the_argument_and_the_rule() {
    let world = World::new().await;
    let fitting = r#"[{"type":"user.interrupt"}]"#;
    let id = "session must be the id of a session: 1 to 200 of the characters a-z A-Z 0-9 _ -";
    let cannot_hold = "events has an escape or a number that Postgres cannot hold (such as \\u0000, or half of a surrogate pair)";
    for (call, expected) in [
        (format!("'', '{fitting}'"), id),
        (format!("null, '{fitting}'"), id),
        (format!("'../x', '{fitting}'"), id),
        (format!("'{}', '{fitting}'", "s".repeat(201)), id),
        (format!("'sesn_1', '{fitting}', account => ''"), "account must have 1 to 200 bytes"),
        (format!("'sesn_1', '{fitting}', account => null"), "account must have 1 to 200 bytes"),
        ("'sesn_1', null".to_owned(), "events is no list"),
        (r#"'sesn_1', '{"type":"user.message"}'"#.to_owned(), "events is no list"),
        ("'sesn_1', '[]'".to_owned(), "events is empty"),
        (r#"'sesn_1', '[{"type":"a"}, 7]'"#.to_owned(), "event 2: it is no object"),
        (r#"'sesn_1', '[{}]'"#.to_owned(), "event 1: type must be a text, such as user.message"),
        (r#"'sesn_1', '[{"type":7}]'"#.to_owned(), "event 1: type must be a text, such as user.message"),
        (r#"'sesn_1', '[{"type":""}]'"#.to_owned(), "event 1: type must be a text, such as user.message"),
        (r#"'sesn_1', '[{"type":"a","b":"\u0000"}]'"#.to_owned(), cannot_hold),
        (r#"'sesn_1', '[{"type":"a","b":"\ud800"}]'"#.to_owned(), cannot_hold),
        (
            r#"'sesn_1', json_build_array(json_build_object('type', 'a', 'b', repeat('x', 32000000)))"#
                .to_owned(),
            "events is larger than the API takes at once (32 MB)",
        ),
    ] {
        let said = refused(&world, &format!("select restante.send_session_events({call})")).await;
        assert_eq!(
            said,
            format!("restante.send_session_events: {expected}"),
            "{}",
            &call[..call.len().min(99)]
        );
    }
    assert_eq!(world.value("select count(*) from restante.session_send").await, "0");
    assert_eq!(world.value("select count(*) from restante.outbox").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_the_order_of_the_calls_with_the_identifiers_that_the_api_gave_them() {
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    let (one, other) = (session(&api).await, session(&api).await);
    for n in 0..5 {
        send(&world, &one, &[&format!("a{n}"), &format!("b{n}")]).await;
        send(&world, &other, &[&format!("c{n}")]).await;
    }
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("select restante.send_session_events($1, '[{\"type\": \"user.interrupt\"}]')")
        .bind(&one)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.rollback().await.unwrap();

    work(&world, &api_at(&api.url)).await;

    assert_eq!(messages(&api, &one).await.join(" "), "a0 b0 a1 b1 a2 b2 a3 b3 a4 b4");
    assert_eq!(messages(&api, &other).await.join(" "), "c0 c1 c2 c3 c4");
    let of = format!(
        "select string_agg(e.id, ' ' order by s.id, e.nth) from restante.session_send as s, unnest(s.event_ids) with ordinality as e (id, nth)
          where s.session = '{one}' and s.status = 'done' and s.attempt = 1 and s.done_at >= s.sent_at"
    );
    let list = ask(&api, &format!("/v1/sessions/{one}/events?types[]=user.message"), None).await;
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(world.value(&of).await, ids.join(" "));
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_do_not_wait_behind_webhooks_about_their_session() {
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    let id = session(&api).await;
    world.receive("whe_1", &id, 0, serde_json::json!({})).await;
    world.sql("update restante.outbox set status = 'paused'").await;
    send(&world, &id, &["a"]).await;

    work_to_rest(&world, &api_at(&api.url)).await;

    assert_eq!(messages(&api, &id).await, ["a"]);
    world.sql("update restante.outbox set status = 'cancelled' where event_id = 'whe_1'").await;
}

#[tokio::test]
async fn an_event_that_a_webhook_made_up_sends_nothing() {
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    let id = session(&api).await;
    send(&world, &id, &["a"]).await;
    world.sql("update restante.outbox set status = 'cancelled'").await;
    let forged = serde_json::json!({ "type": "event", "id": "whe_1", "created_at": "2026-11-01T12:00:00Z",
                                     "data": { "type": "session_events.send", "send": 1 } });
    world.receive_body(&forged).await;

    work(&world, &api_at(&api.url)).await;

    assert_eq!(statuses(&world).await, "waiting");
    assert_eq!(messages(&api, &id).await, Vec::<String>::new());
    let skipped = "select result->>'skipped' from restante.outbox where event_id = 'whe_1'";
    assert_eq!(world.value(skipped).await, "only restante.send_session_events() sends");
}
