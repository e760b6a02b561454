//! Several senders and accounts in one outbox: nothing of one is taken for the other's.

use std::time::Duration;

use chrono::{DateTime, Utc};
use restante::event::{ANTHROPIC, Body, NewEvent};
use restante::internals::outbox::insert::seen_as;
use restante::internals::outbox::outcome::Finish;
use restante::internals::outbox::settle::{Finished, Next, finish};
use restante::internals::outbox::{self, Source};
use serde_json::json;

use crate::support::World;

/// An event of a sender that belongs to an account, or to none.
fn event(sender: &str, account: Option<&str>, event_id: &str, key: &str, second: u32) -> NewEvent {
    NewEvent {
        sender: sender.to_owned(),
        account: account.map(str::to_owned),
        event_id: event_id.to_owned(),
        event_type: "owl.arrived".to_owned(),
        key: Some(key.to_owned()),
        workspace_id: None,
        created_at: format!("2026-11-01T12:00:{second:02}Z").parse().unwrap(),
        body: Body::Json(json!({ "of": sender }).to_string()),
        traceparent: None,
    }
}

/// Stores each event in a call of its own, or all in one call.
async fn store(world: &World, events: &[NewEvent], together: bool) -> (u64, Vec<String>) {
    let (mut new, mut again) = (0, Vec::new());
    for call in events.chunks(if together { events.len() } else { 1 }) {
        let stored = outbox::insert_events(&world.pool, Source::Webhook, call).await.unwrap();
        new += stored.new;
        again.extend(
            stored.duplicates.into_iter().map(|it| format!("{} {} {}", it.sender, it.event_id, it.differs)),
        );
    }
    again.sort();
    (new, again)
}

#[tokio::test]
async fn an_identifier_is_stored_once_for_each_sender() {
    for together in [false, true] {
        let world = World::new().await;
        let events = [
            event(ANTHROPIC, Some(ANTHROPIC), "whe_1", "k", 0),
            event("staging", Some("staging"), "whe_1", "k", 1),
            event("openai", None, "whe_1", "k", 2),
        ];

        assert_eq!(store(&world, &events, together).await, (3, vec![]));
        assert_eq!(
            store(&world, &events, together).await,
            (
                0,
                ["anthropic whe_1 false", "openai whe_1 false", "staging whe_1 false"]
                    .map(str::to_owned)
                    .to_vec()
            )
        );

        let rows = "select string_agg(concat_ws(' ', sender, coalesce(account, '-'), event_id, key, payload->>'of'), ', '
                                      order by sender) from restante.outbox";
        assert_eq!(
            world.value(rows).await,
            "anthropic anthropic whe_1 k anthropic, openai - whe_1 k openai, staging staging whe_1 k staging"
        );
    }
}

#[tokio::test]
async fn a_body_that_differs_is_told_apart_for_its_own_sender_only() {
    for together in [false, true] {
        let world = World::new().await;
        let mut events =
            [event(ANTHROPIC, Some(ANTHROPIC), "whe_1", "k", 0), event("openai", None, "whe_1", "k", 0)];
        store(&world, &events, together).await;
        events[1].body = Body::Json(r#"{"of":"another"}"#.to_owned());

        let (new, again) = store(&world, &events, together).await;

        assert_eq!((new, again), (0, vec!["anthropic whe_1 false".into(), "openai whe_1 true".into()]));
        let differs = "select concat_ws(' ', sender, event_id, payload) from restante.delivery_differs";
        assert_eq!(world.value(differs).await, r#"openai whe_1 {"of":"another"}"#);
    }
}

#[tokio::test]
async fn the_order_of_a_key_holds_within_an_account_and_within_a_sender_that_has_none() {
    for together in [false, true] {
        let world = World::new().await;
        world.may_leave_running();
        let events = [
            event(ANTHROPIC, Some(ANTHROPIC), "a1", "k", 0),
            event(ANTHROPIC, Some(ANTHROPIC), "a2", "k", 1),
            event("hooks", Some("staging"), "s1", "k", 2),
            // Another sender of the same account speaks of the same object.
            event("old-hooks", Some("staging"), "s2", "k", 3),
            event("openai", None, "o1", "k", 4),
            event("openai", None, "o2", "k", 5),
            event("stripe", None, "t1", "k", 6),
        ];
        store(&world, &events, together).await;

        let heads = world.claim(10).await;
        let ids: Vec<_> = heads.iter().map(|claimed| claimed.event.event_id.as_str()).collect();
        assert_eq!(ids, ["a1", "s1", "o1", "t1"], "one head for each");

        let done: Vec<_> = heads
            .iter()
            .map(|claimed| Finished {
                lease: claimed.lease,
                finish: Finish::Done,
                result: None,
                delivered: None,
            })
            .collect();
        let next = Next { owner: "somebody", lease: Duration::from_secs(30), until: Utc::now() };
        let leased = if together {
            finish(&world.pool, &done, Some(next)).await.unwrap().next
        } else {
            let mut leased = Vec::new();
            for one in done {
                leased.extend(finish(&world.pool, &[one], Some(next)).await.unwrap().next);
            }
            leased
        };
        let mut leased: Vec<_> = leased
            .iter()
            .map(|it| (it.event.event_id.as_str(), it.event.sender.as_str(), it.event.account.as_deref()))
            .collect();
        leased.sort_unstable();
        assert_eq!(
            leased,
            [
                ("a2", ANTHROPIC, Some(ANTHROPIC)),
                ("o2", "openai", None),
                ("s2", "old-hooks", Some("staging"))
            ]
        );
        let finished = "select string_agg(concat_ws('/', sender, account), ' ' order by event_id) from restante.outbox where status = 'done'";
        assert_eq!(world.value(finished).await, "anthropic/anthropic openai hooks/staging stripe");
    }
}

#[tokio::test]
async fn what_a_person_does_to_a_key_touches_the_key_of_that_sender_only() {
    let world = World::new().await;
    let events = [
        event(ANTHROPIC, Some(ANTHROPIC), "a1", "k", 0),
        event(ANTHROPIC, Some(ANTHROPIC), "a2", "k", 1),
        event("openai", None, "o1", "k", 2),
        event("openai", None, "o2", "k", 3),
    ];
    store(&world, &events, true).await;

    world
        .sql("update restante.outbox set status = 'paused' where sender = 'openai' and event_id = 'o1'")
        .await;

    let pending =
        "select string_agg(event_id, ' ' order by event_id) from restante.outbox where status = 'pending'";
    assert_eq!(world.value(pending).await, "a1 o2");
    world.sql("update restante.outbox set status = 'cancelled' where event_id = 'a1'").await;
    assert_eq!(world.value(pending).await, "a2 o2");
}

#[tokio::test]
async fn an_application_may_say_whose_an_event_is() {
    let world = World::new().await;
    world
        .value("select restante.enqueue('order.placed', '{}', key => 'k', account => 'staging') is not null")
        .await;
    world.value("select restante.enqueue('order.placed', '{}', key => 'k') is not null").await;

    assert_eq!(
        world.value("select string_agg(concat_ws('/', sender, account, status), ' ' order by id) from restante.outbox").await,
        "anthropic/staging/pending anthropic/anthropic/pending"
    );
}

#[tokio::test]
async fn the_code_and_the_database_give_an_identifier_the_same_form() {
    let world = World::new().await;
    for (sender, event_id) in [(ANTHROPIC, "whe_1"), ("openai", "evt_1"), ("a-b_c9", "x y")] {
        let event = event(sender, None, event_id, "k", 0);
        let by_database: String = sqlx::query_scalar("select restante.seen_as($1, $2)")
            .bind(sender)
            .bind(event_id)
            .fetch_one(&world.pool)
            .await
            .unwrap();
        assert_eq!(seen_as(&event), by_database);
    }
}

#[tokio::test]
async fn a_late_event_is_late_within_its_account_only() {
    let world = World::new().await;
    world.may_leave_running();
    let at = |event: &NewEvent| -> DateTime<Utc> { event.created_at };
    let (younger, older) =
        (event("openai", None, "o2", "k", 9), event(ANTHROPIC, Some(ANTHROPIC), "a1", "k", 1));
    assert!(at(&younger) > at(&older));
    store(&world, &[younger], true).await;
    let claimed = world.claim(1).await.remove(0);
    let done = Finished { lease: claimed.lease, finish: Finish::Done, result: None, delivered: None };
    finish(&world.pool, &[done], None).await.unwrap();
    store(&world, &[older, event("openai", None, "o1", "k", 1)], true).await;

    let mut late = Vec::new();
    for claimed in world.claim(2).await {
        let is_late = outbox::claim::is_late(&world.pool, &claimed.event).await.unwrap();
        late.push((claimed.event.event_id, is_late));
    }

    late.sort();
    assert_eq!(late, [("a1".to_owned(), false), ("o1".to_owned(), true)]);
}
