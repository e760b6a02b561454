//! Messages that go out one by one: handed over in a transaction, answered as a stream, and never joined of two.

mod answers;
mod broken;
mod called_off;
mod cuts;
mod frozen;
mod partial;
mod reading;
mod refused;
mod sql;
mod stopping;

use std::time::Duration;

use restante::api::{self, Accounts};
use restante::handlers;
use restante::worker;
use serde_json::{Value, json};

use crate::support::{World, eventually};

/// The path of the API that answers messages.
const PATH: &str = "/v1/messages";

/// The handlers of a worker that does not search for batches.
fn registry() -> restante::Registry {
    handlers::registry(handlers::Settings {
        batch_poll: Duration::from_secs(60),
        reconcile: None,
        allow_private_endpoints: false,
    })
}

/// The API at this URL, which may be silent for a second.
fn api_at(url: &str) -> Accounts {
    let settings = api::Settings::new(url.parse().unwrap(), "sk-test-key".into());
    api::Client::new(api::Settings { idle_timeout: Duration::from_secs(1), ..settings }).unwrap().into()
}

/// Works until nothing is left that may run now.
async fn work(world: &World, api: &Accounts) {
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry(), api.clone())
        .await
        .unwrap();
}

/// Works until no message waits any more; time passes. No other worker may run: what runs is that of one that was killed.
async fn work_to_rest(world: &World, api: &Accounts) {
    eventually("every message has come to rest", async || {
        work(world, api).await;
        let open = "select count(*) from restante.message where status in ('waiting', 'sending')";
        if world.value(open).await == "0" {
            return Some(());
        }
        world.let_leases_run_out().await;
        world.wait_for_retries().await;
        None
    })
    .await;
}

/// A request of the Messages API.
fn request(prompt: &str) -> Value {
    json!({ "model": "claude-opus-5-5", "max_tokens": 64, "messages": [{ "role": "user", "content": prompt }] })
}

/// Sends a message. `more` are further arguments, as in `, key => 'k'`.
async fn send(world: &World, prompt: &str, more: &str) -> i64 {
    let call = format!("select restante.send_message('{}'{more})", request(prompt));
    world.value(&call).await.parse().unwrap()
}

/// The status of a message, how often it was sent, and its text.
async fn state(world: &World, id: i64) -> String {
    world
        .value(&format!("select concat_ws(' ', status, attempt, text) from restante.message where id = {id}"))
        .await
}

/// What became of each attempt, in order, with a `?` for those that may be paid without an answer.
async fn attempts(world: &World, id: i64) -> String {
    let query = format!(
        "select string_agg(concat(coalesce(outcome, 'open'), case when may_be_paid and outcome <> 'answered' then '?' end), ' '
                           order by attempt)
           from restante.message_attempt where message = {id}"
    );
    world.value(&query).await
}

/// The events of a stream whose answer has these texts, one delta each.
fn events(texts: &[&str]) -> Vec<Value> {
    let start = json!({ "id": "msg_scripted", "type": "message", "role": "assistant", "model": "claude-opus-5-5", "content": [],
                        "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": 12, "output_tokens": 1 } });
    let delta = |text| json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } });
    let block = json!({ "type": "text", "text": "" });
    let mut events = vec![
        json!({ "type": "message_start", "message": start }),
        json!({ "type": "content_block_start", "index": 0, "content_block": block }),
        json!({ "type": "ping" }),
    ];
    events.extend(texts.iter().map(delta));
    events.extend([
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null },
                "usage": { "output_tokens": 31 } }),
        json!({ "type": "message_stop" }),
    ]);
    events
}

/// Events as the API writes them.
fn written(events: &[Value]) -> Vec<u8> {
    let write = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(write).collect::<String>().into_bytes()
}
