//! Batches and their results: every batch is stored completely in the end, whatever the API does.

use std::fmt::Write;
use std::time::Duration;

use restante::handlers;
use restante::worker;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::World;
use crate::support::api::ScriptedApi;
use crate::support::cluster;

mod answers;
mod counts;
mod cuts;
mod events;
mod key;
mod lines;
pub(crate) mod memory;
mod search;
mod standing;
mod turns;
mod watch;

/// A database, and the API of a workspace.
pub(crate) async fn start() -> (World, ScriptedApi) {
    (World::on(cluster::fresh_database().await).await, ScriptedApi::new().await)
}

/// Runs a worker with the built-in handlers until no event may run now. A failed event may run again within that, because
/// the first wait can be short. So tests set the API's answers before the call.
pub(crate) async fn work(world: &World, api: &ScriptedApi) {
    work_as(world.worker_settings(), world, api).await;
}

/// Like [`work`], with these settings of the worker.
async fn work_as(worker: worker::Settings, world: &World, api: &ScriptedApi) {
    let settings = handlers::Settings {
        batch_poll: Duration::from_secs(60),
        reconcile: Some(Duration::from_secs(300)),
        allow_private_endpoints: false,
    };
    let registry = handlers::registry(settings);
    worker::run_until_idle(worker, world.pool.clone(), registry, api.client()).await.unwrap();
}

/// Like [`work`], once every retry is due.
async fn work_later(world: &World, api: &ScriptedApi) {
    world.wait_for_retries().await;
    work(world, api).await;
}

/// Stores the event of a webhook that says that a batch has ended.
pub(crate) async fn hear_of(world: &World, batch_id: &str) {
    let event = json!({
        "type": "event", "id": format!("wevt_{batch_id}"), "created_at": "2026-11-01T12:00:00Z",
        "data": { "type": "batch.completed", "id": batch_id },
    });
    assert_eq!(world.receive_body(&event).await, 1);
}

/// The line of a result that succeeded with this text.
pub(crate) fn succeeded(custom_id: &str, text: &str) -> String {
    let message = json!({
        "id": format!("msg_{custom_id}"), "type": "message", "role": "assistant", "model": "claude-opus-5-5",
        "content": [{ "type": "text", "text": text }], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {
            "input_tokens": 11, "output_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 7,
        },
    });
    format!("{}\n", json!({ "custom_id": custom_id, "result": { "type": "succeeded", "message": message } }))
}

/// The line of a result that errored.
fn errored(custom_id: &str, kind: &str) -> String {
    let error =
        json!({ "type": "error", "error": { "type": kind, "message": "why" }, "request_id": "req_1" });
    format!("{}\n", json!({ "custom_id": custom_id, "result": { "type": "errored", "error": error } }))
}

/// The line of a result that has only its type.
fn bare(custom_id: &str, outcome: &str) -> String {
    format!("{}\n", json!({ "custom_id": custom_id, "result": { "type": outcome } }))
}

/// What [`fate`] returns for an event whose batch is still being processed.
const NOT_ENDED: &str = "retry: the batch has not ended; this event polls the API again";

/// One result of each outcome, and what the API counts of them.
pub(crate) const ONE_OF_EACH: [u32; 4] = [1, 1, 1, 1];
pub(crate) fn one_of_each() -> String {
    [succeeded("a", "paid"), errored("b", "overloaded_error"), bare("c", "canceled"), bare("d", "expired")]
        .concat()
}

/// What is stored of a batch: its row, and a line for each of its results.
async fn stored(world: &World, batch_id: &str) -> String {
    let mut text = world
        .value(&format!(
            "select format('%s, %s results, %s bytes', case when complete_at is null then 'incomplete' else 'complete' end,
                           results_stored, bytes_stored)
               from restante.batch where id = '{batch_id}'"
        ))
        .await;
    text.push('\n');
    let query = "select concat_ws(' ', custom_id, outcome, quote_nullable(text), model, stop_reason, error_type, error_message,
                                  input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens)
                   from restante.batch_result where batch_id = $1 order by custom_id";
    for row in sqlx::query(query).bind(batch_id).fetch_all(&world.pool).await.unwrap() {
        writeln!(text, "{}", row.get::<String, _>(0)).unwrap();
    }
    text
}

/// The status of an event, and why its last attempt failed.
async fn fate(world: &World, event_id: &str) -> String {
    world
        .value(&format!(
            "select concat_ws(': ', status, last_error) from restante.outbox where event_id = '{event_id}'"
        ))
        .await
}

/// How many failures of an event were counted against it.
async fn failures(world: &World, event_id: &str) -> String {
    world.value(&format!("select count(*) from restante.failure where event_id = '{event_id}'")).await
}

/// How many batches are complete.
pub(crate) async fn complete(world: &World) -> String {
    world.value("select count(*) from restante.batch where complete_at is not null").await
}

/// The object with these fields changed.
fn with(mut object: Value, changes: Value) -> Value {
    let changes = changes.as_object().unwrap().clone();
    object.as_object_mut().unwrap().extend(changes);
    object
}
