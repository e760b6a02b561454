//! `GET /messages/{id}/stream`: a reader gets every event once, wherever it comes back, and knows which attempt it reads.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{PATH, api_at, events, send, state, work_to_rest, written};
use crate::support::api::{Answer, ScriptedApi};
use crate::support::sender::client;
use crate::support::{Process, World, eventually};

const TOKEN: &str = "a-token-for-the-readers-of-the-tests";

/// One event of ours: its id, its name and its data.
type Frame = (String, String, String);

async fn worker(world: &World, api: &str) -> Process {
    Process::worker(&world.url, api, &[("RESTANTE_STREAM_TOKEN", TOKEN)]).await
}

fn address(worker: &Process) -> SocketAddr {
    worker.logged_address("answering /livez")
}

async fn get(worker: &Process, id: i64, last: Option<&str>) -> Response {
    let url = format!("http://{}/messages/{id}/stream", address(worker));
    let request = client().get(url).bearer_auth(TOKEN);
    let request = last.iter().fold(request, |request, last| request.header("last-event-id", *last));
    request.send().await.unwrap()
}

/// All that a reader gets until the end.
async fn read(worker: &Process, id: i64, last: Option<&str>) -> Vec<Frame> {
    let answer = get(worker, id, last).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");
    frames(&answer.text().await.unwrap())
}

/// What a reader gets until it has seen an event of this name, and then hangs up.
async fn read_until(worker: &Process, id: i64, last: Option<&str>, name: &str) -> Vec<Frame> {
    let mut bytes = get(worker, id, last).await.bytes_stream();
    let mut text = String::new();
    while !frames(&text).iter().any(|frame| frame.1 == name) {
        let chunk = bytes.next().await.expect("the event").unwrap();
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    frames(&text)
}

/// The events in a text, without comments.
fn frames(text: &str) -> Vec<Frame> {
    let field = |frame: &str, name: &str| {
        let values = frame.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        values.collect::<Vec<_>>().join("\n")
    };
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    let frames = whole.split("\n\n").filter(|frame| frame.starts_with("id: "));
    frames.map(|frame| (field(frame, "id"), field(frame, "event"), field(frame, "data"))).collect()
}

/// The frames of an attempt whose answer has these texts, from the one that begins it to that of the end.
fn expected(attempt: u32, texts: &[&str]) -> Vec<Frame> {
    let begins = json!({ "attempt": attempt }).to_string();
    let mut frames = vec![(format!("{attempt}:0"), "attempt".to_owned(), begins)];
    let said = events(texts).into_iter().filter(|event| event["type"] != "ping");
    for (number, event) in (1..).zip(said) {
        let name = event["type"].as_str().unwrap().to_owned();
        frames.push((format!("{attempt}:{number}"), name, event.to_string()));
    }
    frames.push((format!("{attempt}:end"), "done".to_owned(), done(attempt)));
    frames
}

fn done(attempt: u32) -> String {
    let told = json!({ "status": "done", "attempt": attempt, "stop_reason": "end_turn", "reason": null, "error_type": null });
    told.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_back_at_any_point_gets_every_event_once() {
    let api = ScriptedApi::new().await;
    let texts = ["One ", "two ", "three."];
    api.answer(PATH, Answer::events(written(&events(&texts))));
    let world = World::new().await;
    let worker = worker(&world, &api.origin).await;
    let id = send(&world, "Hi", ", partial => true").await;
    let expected = expected(1, &texts);

    assert_eq!(read(&worker, id, None).await, expected);
    assert_eq!(state(&world, id).await, "done 1 One two three.");
    for seen in 0..expected.len() - 1 {
        let rest = read(&worker, id, Some(&expected[seen].0)).await;
        assert_eq!(rest, expected[seen + 1..], "after {}", expected[seen].0);
    }
    let after_the_end = get(&worker, id, Some("1:end")).await;
    assert_eq!(after_the_end.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_in_the_middle_of_an_answer_that_is_being_written() {
    let api = ScriptedApi::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let texts = ["Early ", "late."];
    let answer = written(&events(&texts));
    let held = answer.windows(5).position(|bytes| bytes == b"late.").unwrap();
    api.answer(PATH, Answer::events(answer).held_at(held, &gate));
    let world = World::new().await;
    let worker = worker(&world, &api.origin).await;
    let id = send(&world, "Hi", ", partial => true").await;

    let mut seen = read_until(&worker, id, None, "content_block_delta").await;
    let last = seen.last().unwrap().0.clone();
    assert_eq!(last, "1:3");
    let (rest, ()) = tokio::join!(read(&worker, id, Some(&last)), async {
        gate.add_permits(1);
    });
    seen.extend(rest);

    assert_eq!(seen, expected(1, &texts));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_told_of_a_new_attempt_and_never_shown_what_a_dead_one_said() {
    let api = ScriptedApi::new().await;
    let dead = written(&events(&["Dead ", "text."]));
    let cut = dead.windows(5).position(|bytes| bytes == b"text.").unwrap();
    let gate = Arc::new(Semaphore::new(0));
    api.answer_once(PATH, [Answer::events(dead).cut_at(cut).held_at(cut, &gate)]);
    let texts = ["The ", "answer."];
    api.answer(PATH, Answer::events(written(&events(&texts))));
    let world = World::new().await;
    let worker = worker(&world, &api.origin).await;
    let id = send(&world, "Hi", ", partial => true").await;
    let seen = read_until(&worker, id, None, "content_block_delta").await;
    assert_eq!(seen.last().unwrap().0, "1:3");

    let along = tokio::spawn({
        let (address, last) = (address(&worker), seen.last().unwrap().0.clone());
        async move {
            let request = client().get(format!("http://{address}/messages/{id}/stream")).bearer_auth(TOKEN);
            let answer = request.header("last-event-id", last).send().await.unwrap();
            frames(&answer.text().await.unwrap())
        }
    });
    gate.add_permits(1);

    assert_eq!(along.await.unwrap(), expected(2, &texts));
    assert_eq!(read(&worker, id, None).await, expected(2, &texts));
    assert_eq!(read(&worker, id, Some("1:3")).await, expected(2, &texts));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_answer_stands_for_events_that_are_not_there_any_more() {
    let api = ScriptedApi::new().await;
    api.answer(PATH, Answer::events(written(&events(&["The ", "answer."]))));
    let world = World::new().await;
    let shown = send(&world, "Hi", ", partial => true").await;
    let not_shown = send(&world, "Hi", "").await;
    work_to_rest(&world, &api_at(&api.origin)).await;
    let worker = worker(&world, &api.origin).await;
    // An incomplete rest is as good as none.
    world
        .sql("delete from restante.message_chunk where seq = (select max(seq) from restante.message_chunk)")
        .await;

    for (id, last) in [(shown, None), (shown, Some("1:2")), (not_shown, None), (not_shown, Some("1:7"))] {
        let frames = read(&worker, id, last).await;
        let names: Vec<&str> = frames.iter().map(|frame| frame.1.as_str()).collect();
        assert_eq!(names[names.len() - 2..], ["final_message", "done"], "{id} {last:?}");
        let body: Value = serde_json::from_str(&frames[frames.len() - 2].2).unwrap();
        assert_eq!(body["content"][0]["text"], "The answer.");
        assert_eq!(frames.last().unwrap().2, done(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_told_that_no_answer_will_come() {
    let api = ScriptedApi::new().await;
    api.answer(PATH, Answer::refusal(400, "invalid_request_error", ""));
    let world = World::new().await;
    let worker = worker(&world, &api.origin).await;
    let id = send(&world, "Hi", ", partial => true").await;

    let frames = read(&worker, id, None).await;

    let (place, name, told) = frames.last().unwrap();
    assert_eq!((place.as_str(), name.as_str()), ("1:end", "failed"));
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!(told["error_type"], "invalid_request_error");
    assert!(told["reason"].as_str().unwrap().contains("scripted"), "{told}");
    world.sql("insert into restante.message (request, status) values ('{}', 'cancelled')").await;
    let cancelled = world.value("select max(id) from restante.message").await.parse().unwrap();
    assert_eq!(read(&worker, cancelled, None).await.last().unwrap().1, "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whoever_has_the_token_may_read_and_without_one_there_is_nothing_to_read() {
    let world = World::new().await;
    let id = send(&world, "Hi", "").await;
    let open = worker(&world, "http://127.0.0.1:9").await;
    let closed = Process::worker(&world.url, "http://127.0.0.1:9", &[]).await;
    let ask = async |worker: &Process, method: Method, path: &str, token: &str| {
        let request = client().request(method, format!("http://{}{path}", address(worker)));
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        request.send().await.unwrap().status().as_u16()
    };
    let path = format!("/messages/{id}/stream");

    assert_eq!(ask(&open, Method::GET, &path, "").await, 401);
    assert_eq!(ask(&open, Method::GET, &path, "a-token-for-the-readers-of-the-test").await, 401);
    assert_eq!(ask(&open, Method::GET, "/messages/0/stream", "").await, 401);
    assert_eq!(ask(&open, Method::GET, "/messages/0/stream", TOKEN).await, 404);
    assert_eq!(ask(&open, Method::GET, "/messages/x/stream", TOKEN).await, 404);
    assert_eq!(ask(&open, Method::GET, &format!("{path}/"), TOKEN).await, 404);
    assert_eq!(ask(&open, Method::POST, &path, TOKEN).await, 405);
    assert_eq!(ask(&closed, Method::GET, &path, TOKEN).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_needs_no_notification() {
    let world = World::new().await;
    let id = send(&world, "Hi", "").await;
    world.sql("update restante.outbox set status = 'paused'").await;
    let worker = worker(&world, "http://127.0.0.1:9").await;
    let mut reading = get(&worker, id, None).await.bytes_stream();

    // By hand, as if every hint had been lost.
    world.sql("update restante.message set status = 'sending', attempt = 1").await;
    let begins = reading.next().await.unwrap().unwrap();
    assert_eq!(begins, "id: 1:0\nevent: attempt\ndata: {\"attempt\":1}\n\n");
    world
        .sql(
            r#"insert into restante.message_chunk (message, attempt, seq, events)
               select id, 1, 2, '[{"type":"message_start"},{"type":"message_stop"}]' from restante.message"#,
        )
        .await;
    let said = reading.next().await.unwrap().unwrap();
    assert_eq!(
        said,
        "id: 1:1\nevent: message_start\ndata: {\"type\":\"message_start\"}\n\n\
         id: 1:2\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    );
    world.sql("update restante.message set status = 'done', body = '{}', done_at = now()").await;
    let ends = reading.next().await.unwrap().unwrap();
    assert!(ends.starts_with(b"id: 1:end\nevent: done\n"), "{ends:?}");
    assert!(reading.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_too_many_is_told_to_come_back() {
    let world = World::new().await;
    let id = send(&world, "Hi", "").await;
    world.sql("update restante.outbox set status = 'paused'").await;
    let worker = worker(&world, "http://127.0.0.1:9").await;
    let mut readers = Vec::new();
    for _ in 0..256 {
        readers.push(get(&worker, id, None).await);
    }
    assert!(readers.iter().all(|reader| reader.status() == 200));

    let refused = get(&worker, id, None).await;

    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "2"));
    drop(readers);
    eventually("a free place", async || (get(&worker, id, None).await.status() == 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_wait_do_not_keep_a_worker_from_stopping() {
    let world = World::new().await;
    let id = send(&world, "Hi", "").await;
    world.sql("update restante.outbox set status = 'paused'").await;
    let mut worker = worker(&world, "http://127.0.0.1:9").await;
    let waiting = get(&worker, id, None).await;
    assert_eq!(waiting.status(), 200);

    worker.signal(restante_playground::process::Signal::Terminate);

    assert_eq!(worker.ended().await.code(), Some(0));
    drop(waiting);
}
