//! Exchanges that break off, and workers that are killed, at every event and at odd bytes: one final message comes of it, of one attempt.

use super::{PATH, api_at, attempts, events, send, work_to_rest, written};
use crate::support::api::{Answer, ScriptedApi};
use crate::support::cutter::{Cut, Cutter};
use crate::support::{Process, World};

/// Bytes of an answer after which it breaks off: at each end of an event, and within each.
fn places() -> Vec<usize> {
    let head = Answer::events("").head_bytes();
    let mut places = vec![1, head - 1];
    let mut end = head;
    for event in events(&["The ", "answer."]) {
        let bytes = written(&[event]).len();
        places.extend([end, end + bytes / 3, end + bytes - 1]);
        end += bytes;
    }
    places
}

async fn answered_once(world: &World, id: i64, before: &str, place: usize) {
    let state = format!("select concat_ws(' ', status, text) from restante.message where id = {id}");
    assert_eq!(world.value(&state).await, "done The answer.", "{place}");
    assert_eq!(attempts(world, id).await, format!("{before} answered"), "{place}");
    let of_others =
        "select count(*) from restante.message_chunk as c join restante.message as m on m.id = c.message
                      where c.attempt <> m.attempt";
    assert_eq!(world.value(of_others).await, "0", "{place}");
    let shown =
        format!("select string_agg(text, '' order by seq) from restante.message_chunk where message = {id}");
    assert_eq!(world.value(&shown).await, "The answer.", "{place}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_at_any_place_is_asked_for_anew() {
    let api = ScriptedApi::new().await;
    api.answer(PATH, Answer::events(written(&events(&["The ", "answer."]))));
    let cutter = Cutter::before(&api.origin, false).await;
    let world = World::new().await;

    for place in places() {
        cutter.cut([Cut::Answer(place)]);
        let id = send(&world, "Hi", ", partial => true").await;
        work_to_rest(&world, &api_at(&cutter.url)).await;

        let before = attempts(&world, id).await;
        let before = before.strip_suffix(" answered").unwrap_or(&before).to_owned();
        assert!(["lost?", "cut?"].contains(&before.as_str()), "{place}: {before}");
        answered_once(&world, id, &before, place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_at_any_place_of_an_answer_leaves_one_final_message() {
    let api = ScriptedApi::new().await;
    api.answer(PATH, Answer::events(written(&events(&["The ", "answer."]))));
    let cutter = Cutter::before(&api.origin, true).await;
    let world = World::new().await;
    world.may_leave_running();
    let rounds = std::env::var("RESTANTE_CUT_ROUNDS").is_ok();

    for (nth, place) in places().into_iter().enumerate() {
        // Each start of a worker takes a while. A long run takes all places.
        if !rounds && nth % 3 != 0 {
            continue;
        }
        cutter.cut([Cut::Answer(place)]);
        let id = send(&world, "Hi", ", partial => true").await;
        let mut worker = Process::worker(&world.url, &cutter.url, &[]).await;
        cutter.reached.notified().await;
        worker.kill_hard();
        cutter.go_on.notify_one();
        world.let_leases_run_out().await;
        work_to_rest(&world, &api_at(&api.origin)).await;

        answered_once(&world, id, "lost?", place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_off_has_not_been_sent() {
    let api = ScriptedApi::new().await;
    api.answer(PATH, Answer::events(written(&events(&["The ", "answer."]))));
    let cutter = Cutter::before(&api.origin, false).await;
    let world = World::new().await;

    for place in [1, 60, 300] {
        cutter.cut([Cut::Request(place)]);
        let id = send(&world, "Hi", ", attempts_max => 2").await;
        work_to_rest(&world, &api_at(&cutter.url)).await;

        let state = format!("select concat_ws(' ', status, text) from restante.message where id = {id}");
        assert_eq!(world.value(&state).await, "done The answer.", "{place}");
    }
}
