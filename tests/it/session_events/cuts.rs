//! Exchanges that break off, and workers that are killed: each event is in its session once, in order, whatever happens.

use serde_json::json;

use super::{api_at, messages, send, session, statuses, work, work_to_rest};
use crate::support::cutter::{Cut, Cutter};
use crate::support::{Process, SimulatedApi, World};

/// Where an exchange of some 500 bytes breaks off: within its head, within its body, before, within and at the end of its answer.
const CUTS: [Cut; 12] = [
    Cut::Request(1),
    Cut::Request(60),
    Cut::Request(200),
    Cut::Request(300),
    Cut::Request(350),
    Cut::Request(400),
    Cut::Answer(1),
    Cut::Answer(16),
    Cut::Answer(200),
    Cut::Answer(400),
    Cut::Answer(500),
    Cut::Answer(600),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_breaks_off_anywhere_leaves_each_event_once_and_in_order() {
    let simulated = SimulatedApi::start().await;
    let cutter = Cutter::before_each(&simulated.url, false).await;
    let api = api_at(&cutter.url);
    let world = World::new().await;

    for cut in CUTS {
        let id = session(&simulated).await;
        cutter.cut([cut]);
        // The same words twice: what was sent before is not taken for what is sent now.
        send(&world, &id, &["a", "b"]).await;
        send(&world, &id, &["a", "b"]).await;
        send(&world, &id, &["c"]).await;
        work_to_rest(&world, &api).await;

        assert_eq!(messages(&simulated, &id).await.join(" "), "a b a b c", "{cut:?}");
    }
    assert_eq!(
        world.value("select string_agg(distinct status, ' ') from restante.session_send").await,
        "done"
    );
    let again = "select string_agg(id || ':' || attempt, ' ' order by id) from restante.session_send where attempt > 1";
    assert_eq!(
        world.value(again).await,
        "1:2 4:2 7:2 10:2 13:2 16:2",
        "what was cut in its request, and nothing else"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_anywhere_in_an_exchange_leaves_each_event_once() {
    let simulated = SimulatedApi::start().await;
    let cutter = Cutter::before_each(&simulated.url, true).await;
    let world = World::new().await;
    world.may_leave_running();

    for cut in CUTS.into_iter().step_by(2) {
        let id = session(&simulated).await;
        cutter.cut([cut]);
        send(&world, &id, &["a", "b"]).await;
        send(&world, &id, &["c"]).await;
        let mut worker = Process::worker(&world.url, &cutter.url, &[]).await;
        cutter.reached.notified().await;
        worker.kill_hard();
        cutter.go_on.notify_one();
        world.let_leases_run_out().await;
        work_to_rest(&world, &api_at(&simulated.url)).await;

        assert_eq!(messages(&simulated, &id).await.join(" "), "a b c", "{cut:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_is_looked_for_in_the_session_and_nothing_is_sent_again() {
    for mishap in ["lost", "silence", "error"] {
        let simulated = SimulatedApi::start().await;
        let api = api_at(&simulated.url);
        let world = World::new().await;
        let id = session(&simulated).await;
        send(&world, &id, &["a", "b"]).await;
        simulated.faults(json!({ "send_mishap": mishap })).await;

        work(&world, &api).await;
        let waits = "select concat_ws(' ', status, reason like '%its answer was lost%', unclear_since is not null) from restante.session_send";
        assert_eq!(world.value(waits).await, "sending t t", "{mishap}");
        world.wait_for_retries().await;
        work(&world, &api).await;

        assert_eq!(statuses(&world).await, "done", "{mishap}");
        assert_eq!(messages(&simulated, &id).await.join(" "), "a b", "{mishap}");
        assert_eq!(world.value("select attempt from restante.session_send").await, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_arrive_is_sent_again_only_after_some_time_in_doubt() {
    let simulated = SimulatedApi::start().await;
    let api = api_at(&simulated.url);
    let world = World::new().await;
    let id = session(&simulated).await;
    send(&world, &id, &["a"]).await;
    simulated.faults(json!({ "refusals": [{ "call": "send", "error": "503" }] })).await;

    work(&world, &api).await;
    world.wait_for_retries().await;
    work(&world, &api).await;
    assert_eq!((statuses(&world).await.as_str(), messages(&simulated, &id).await.len()), ("sending", 0));
    work_to_rest(&world, &api).await;

    assert_eq!((statuses(&world).await.as_str(), messages(&simulated, &id).await.len()), ("done", 1));
    assert_eq!(world.value("select attempt from restante.session_send").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_is_not_the_events_own_is_waited_out() {
    let simulated = SimulatedApi::start().await;
    let api = api_at(&simulated.url);
    let world = World::new().await;
    let id = session(&simulated).await;
    send(&world, &id, &["a"]).await;
    for error in ["401", "429", "organization_on_hold"] {
        simulated.faults(json!({ "refusals": [{ "call": "send", "error": error }] })).await;
        work(&world, &api).await;
        let waits = "select concat_ws(' ', status, sent_at, reason <> '') from restante.session_send";
        assert_eq!(world.value(waits).await, "waiting t", "{error}");
        world.wait_for_retries().await;
    }

    work_to_rest(&world, &api).await;

    assert_eq!(messages(&simulated, &id).await, ["a"]);
}
