//! API keys: a new one is used from the next call on, and what a refused one held up goes on.

use restante::internals::key_use::Fingerprint;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{Folder, hang_up};
use crate::support::api::{Answer, ScriptedApi};
use crate::support::processes::WORKER;
use crate::support::{Process, World, eventually};

const OLD: &str = "sk-ant-the-old-key-of-the-account";
const NEW: &str = "sk-ant-the-new-key-of-the-account";

/// A worker whose API key stands in the file `key`.
async fn worker_of(world: &World, api: &ScriptedApi, folder: &Folder) -> Process {
    let key = folder.text("key");
    let variables = [
        ("DATABASE_URL", world.url.expose_secret()),
        ("ANTHROPIC_API_KEY_FILE", key.as_str()),
        ("ANTHROPIC_BASE_URL", api.origin.as_str()),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_RECONCILE_SECONDS", "0"),
    ];
    let mut worker = Process::start(WORKER, &variables);
    worker.until_logged("the worker starts").await;
    worker
}

fn told_of(session: &str) -> Value {
    let data = json!({ "type": "session.updated", "id": session });
    let event_id = format!("evt_{session}");
    json!({ "type": "event", "id": event_id, "created_at": "2026-11-01T12:00:00Z", "data": data })
}

fn session(id: &str) -> Answer {
    Answer::json(&json!({ "type": "session", "id": id }))
}

async fn until_done(world: &World, sessions: usize) {
    let done = format!(
        "select count(*) = {sessions} from restante.outbox where type = 'session.updated' and status = 'done'"
    );
    eventually("the sessions", async || (world.value(&done).await == "true").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_that_is_swapped_under_running_calls_fails_none_of_them() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let folder = Folder::new();
    folder.put("key", OLD);
    let mut worker = worker_of(&world, &api, &folder).await;
    for number in 0..200 {
        api.answer(&format!("/v1/sessions/sesn_{number}"), session(&format!("sesn_{number}")));
    }

    let mut number = 0;
    for (nth, key) in [NEW, OLD, NEW].into_iter().enumerate() {
        for _ in 0..50 {
            world.receive_body(&told_of(&format!("sesn_{number}"))).await;
            number += 1;
            if number % 25 == 0 {
                folder.put("key", key);
                hang_up(&worker);
            }
        }
        let has_key = format!(
            "select exists (select from restante.key_loaded where kind = 'api' and fingerprint = '{}')",
            Fingerprint::of_text(key.as_bytes())
        );
        eventually("the key", async || (world.value(&has_key).await == "true").then_some(())).await;
        world.receive_body(&told_of(&format!("sesn_{}", 190 + nth))).await;
    }
    until_done(&world, 153).await;

    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
    let keys: Vec<String> = api
        .requests()
        .iter()
        .filter_map(|head| head.lines().find_map(|line| Some(line.strip_prefix("x-api-key: ")?.to_owned())))
        .collect();
    assert!(keys.iter().any(|key| key == OLD) && keys.iter().any(|key| key == NEW), "{}", keys.len());
    let used = "select count(*) = 2 from restante.key_use where kind = 'api' and last_used_at is not null";
    eventually("both are known", async || (world.value(used).await == "true").then_some(())).await;
    assert_eq!(worker.stopped().await, Some(0), "{}", worker.log());
    assert!(!worker.log().contains("sk-ant"), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refused_key_held_up_goes_on_with_a_new_one() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let folder = Folder::new();
    folder.put("key", OLD);
    api.answer_all(Some(Answer::refusal(401, "authentication_error", "")));
    let mut worker = worker_of(&world, &api, &folder).await;
    for number in 0..20 {
        world.receive_body(&told_of(&format!("sesn_{number}"))).await;
    }
    // The rest of them is not claimed while the breaker is open.
    let waiting = "select bool_and(status in ('pending', 'retry') and attempt = 0) from restante.outbox_live where type = 'session.updated'";
    let is_open = "select exists (select from restante.api_breaker where opened_at is not null)";
    eventually("all of them wait", async || {
        (world.value(is_open).await == "true" && world.value(waiting).await == "true").then_some(())
    })
    .await;
    // Each alone would wait for an hour, and the breaker lets few calls pass.
    world
        .sql("update restante.outbox_live set run_at = now() + interval '1 hour' where status = 'retry'")
        .await;

    api.answer_all(None);
    for number in 0..20 {
        api.answer(&format!("/v1/sessions/sesn_{number}"), session(&format!("sesn_{number}")));
    }
    folder.put("key", NEW);

    until_done(&world, 20).await;
    let old = Fingerprint::of_text(OLD.as_bytes());
    let used = world
        .value(&format!(
            "select count(*) from restante.key_use where fingerprint = '{old}' and last_used_at is not null"
        ))
        .await;
    assert_eq!(used, "0", "a call that was refused is no use of the key");
    assert_eq!(worker.stopped().await, Some(0), "{}", worker.log());
}
