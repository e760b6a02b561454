//! Batches that go out: submitted in a transaction, and paid once.

mod answers;
mod budget;
mod called_off;
mod commands;
mod cost;
mod cuts;
mod kept;
mod overview;
mod sql;

use std::time::Duration;

use restante::api::{self, Accounts};
use restante::handlers;
use restante::worker;
use serde_json::{Value, json};

use crate::support::sender::client;
use crate::support::{World, eventually};

/// The handlers of a worker that does not search for batches.
fn registry() -> restante::Registry {
    handlers::registry(handlers::Settings {
        batch_poll: Duration::from_secs(60),
        reconcile: None,
        allow_private_endpoints: false,
    })
}

fn api_at(url: &str) -> Accounts {
    api::Client::new(api::Settings::new(url.parse().unwrap(), "sk-test-key".into())).unwrap().into()
}

/// Works until nothing is left that may run now.
async fn work(world: &World, api: &Accounts) {
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry(), api.clone())
        .await
        .unwrap();
}

/// Works until no part waits for the API any more; time passes, but for what a person decides and for how long a worker leaves
/// an API in trouble alone. No other worker may run: what runs is that of one that was killed.
async fn work_to_rest(world: &World, api: &Accounts) {
    eventually("every part has come to rest", async || {
        work(world, api).await;
        let open = "select count(*) from restante.submission_part where status in ('waiting', 'sending')";
        if world.value(open).await == "0" {
            return Some(());
        }
        world.let_leases_run_out().await;
        world.wait_for_retries().await;
        world
            .sql("update restante.submission_part set unclear_since = unclear_since - interval '1 minute'")
            .await;
        None
    })
    .await;
}

/// The batches that the API has, each with the number of its requests.
async fn batches_of(api: &str) -> Vec<i64> {
    let request = client().get(format!("{api}/v1/messages/batches?limit=1000"));
    let answer = request.header("x-api-key", "sk-test-key").header("anthropic-version", "2023-06-01").send();
    let list: Value = answer.await.unwrap().json().await.unwrap();
    let count = |batch: &Value| {
        batch["request_counts"].as_object().unwrap().values().map(|n| n.as_i64().unwrap()).sum()
    };
    list["data"].as_array().unwrap().iter().map(count).collect()
}

/// Requests `first` to `last`, as the API wants them.
fn requests(first: usize, last: usize) -> Value {
    (first..=last)
        .map(|n| {
            json!({ "custom_id": format!("r-{n}"),
                    "params": { "model": "claude-opus-5-5", "max_tokens": 64,
                                "messages": [{ "role": "user", "content": format!("number {n} \u{1f600}") }] } })
        })
        .collect()
}

/// Submits requests under a name.
async fn submit(world: &World, name: &str, requests: &Value) {
    sqlx::query("select restante.submit_batch($1::json, name => $2)")
        .bind(requests.to_string())
        .bind(name)
        .execute(&world.pool)
        .await
        .unwrap();
}
