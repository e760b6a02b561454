//! What the API refuses, what is uncertain, and what a person may decide about it.

use serde_json::json;

use super::{api_at, ask, message, messages, refused, send, session, statuses, work, work_to_rest};
use crate::support::{SimulatedApi, World};

const WAITING: &str =
    "update restante.session_send set status = 'waiting' where status in ('uncertain', 'refused')";
const CANCELLED: &str = "update restante.session_send set status = 'cancelled' where status = 'uncertain'";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_refuses_is_a_dead_letter_with_its_reason_and_later_sends_go_on() {
    let simulated = SimulatedApi::start().await;
    let api = api_at(&simulated.url);
    let world = World::new().await;
    let id = session(&simulated).await;
    simulated.faults(json!({ "refusals": [{ "call": "send", "error": "400" }] })).await;
    send(&world, &id, &["a"]).await;
    send(&world, &id, &["b"]).await;

    work(&world, &api).await;

    assert_eq!(statuses(&world).await, "refused done");
    let said = "select concat_ws(' ', s.reason like '%400 invalid_request_error%', s.done_at is not null, o.status)
                  from restante.session_send as s, restante.outbox as o where s.status = 'refused' and o.status = 'dead'";
    assert_eq!(world.value(said).await, "t t dead");

    world.sql(WAITING).await;
    work_to_rest(&world, &api).await;
    assert_eq!(
        (statuses(&world).await.as_str(), messages(&simulated, &id).await.join(" ")),
        ("done done", "b a".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_there_or_has_ended_takes_nothing() {
    let simulated = SimulatedApi::start().await;
    let world = World::new().await;
    let ended = session(&simulated).await;
    ask(&simulated, &format!("/_simulator/sessions/{ended}"), Some(json!({ "status": "terminated" }))).await;
    send(&world, &ended, &["a"]).await;
    send(&world, "sesn_nobody_knows", &["a"]).await;

    work(&world, &api_at(&simulated.url)).await;

    assert_eq!(statuses(&world).await, "refused refused");
    let reasons = world.value("select string_agg(reason, '; ' order by id) from restante.session_send").await;
    let (first, second) = reasons.split_once("; ").unwrap();
    assert!(first.starts_with("the API refused the request: 400 invalid_request_error"), "{first}");
    assert!(second.starts_with("the API does not find it: 404 not_found_error"), "{second}");
    assert_eq!(world.value("select count(*) from restante.outbox where status = 'dead'").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_two_events_may_be_the_one_a_person_decides_and_later_sends_wait_for_it() {
    for (decision, expected) in [(WAITING, "a a a b"), (CANCELLED, "a a b")] {
        let simulated = SimulatedApi::start().await;
        let api = api_at(&simulated.url);
        let world = World::new().await;
        let id = session(&simulated).await;
        simulated.faults(json!({ "send_mishap": "lost" })).await;
        send(&world, &id, &["a"]).await;
        work(&world, &api).await;
        // Another program says the same at the same time.
        ask(&simulated, &format!("/v1/sessions/{id}/events"), Some(json!({ "events": [message("a")] })))
            .await;
        send(&world, &id, &["b"]).await;
        work_to_rest(&world, &api).await;

        assert_eq!(statuses(&world).await, "uncertain waiting");
        let waits = "select concat_ws(' ', status, last_error like '%may be of this send or not%')
                       from restante.outbox where type = 'session_events.send' order by id limit 1";
        assert_eq!(world.value(waits).await, "retry t");
        super::time_passes(&world).await;
        work(&world, &api).await;
        assert_eq!(messages(&simulated, &id).await.join(" "), "a a", "nobody has decided");

        world.sql(decision).await;
        super::time_passes(&world).await;
        work_to_rest(&world, &api).await;
        assert_eq!(messages(&simulated, &id).await.join(" "), expected);
        assert_eq!(
            world.value("select count(*) from restante.outbox where status not in ('done', 'ignored')").await,
            "0"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_in_the_session_is_not_made_whole_by_a_guess() {
    let simulated = SimulatedApi::start().await;
    let api = api_at(&simulated.url);
    let world = World::new().await;
    let id = session(&simulated).await;
    simulated.faults(json!({ "refusals": [{ "call": "send", "error": "503" }] })).await;
    send(&world, &id, &["a", "b"]).await;
    work(&world, &api).await;
    ask(&simulated, &format!("/v1/sessions/{id}/events"), Some(json!({ "events": [message("a")] }))).await;

    work_to_rest(&world, &api).await;

    assert_eq!(statuses(&world).await, "uncertain");
    assert_eq!(messages(&simulated, &id).await, ["a"]);
    world.sql(CANCELLED).await;
    super::time_passes(&world).await;
    work(&world, &api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_by_hand_sends_twice_what_the_session_has_or_may_get() {
    let simulated = SimulatedApi::start().await;
    let api = api_at(&simulated.url);
    let world = World::new().await;
    let id = session(&simulated).await;
    send(&world, &id, &["a"]).await;
    for by_itself in ["done", "uncertain"] {
        let said = refused(&world, &format!("update restante.session_send set status = '{by_itself}'")).await;
        assert_eq!(said, format!("a send becomes {by_itself} by itself"));
    }
    simulated.faults(json!({ "send_mishap": "lost" })).await;
    work(&world, &api).await;
    for wanted in ["waiting", "cancelled"] {
        let said = refused(&world, &format!("update restante.session_send set status = '{wanted}'")).await;
        assert_eq!(said, "send 1 is under way");
    }
    work_to_rest(&world, &api).await;
    for wanted in ["waiting", "cancelled", "refused"] {
        let said = refused(&world, &format!("update restante.session_send set status = '{wanted}'")).await;
        assert_eq!(said, "the session has send 1");
    }
    assert_eq!(messages(&simulated, &id).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_is_called_off_before_it_went_out_is_not_sent() {
    let simulated = SimulatedApi::start().await;
    let world = World::new().await;
    let id = session(&simulated).await;
    send(&world, &id, &["a"]).await;
    send(&world, &id, &["b"]).await;
    world.sql("update restante.session_send set status = 'cancelled' where id = 1").await;

    work(&world, &api_at(&simulated.url)).await;

    assert_eq!(messages(&simulated, &id).await, ["b"]);
    assert_eq!(statuses(&world).await, "cancelled done");
}
