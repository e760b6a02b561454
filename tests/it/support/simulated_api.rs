//! The simulated Claude API, in this process.

use reqwest::Method;
use restante_simulator::{Settings, Simulator};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::sender::client;

/// A running simulator; dropping it ends it.
pub struct SimulatedApi {
    pub url: String,
    _stop: DropGuard,
}

impl SimulatedApi {
    /// A simulator whose batches end as soon as they are created.
    pub async fn start() -> Self {
        let settings = Settings { batch_seconds: 0.0, text_bytes: 100, seed: Some(7), ..Settings::default() };
        Self::start_with(settings).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        // Its sender of webhooks needs the provider of TLS that this client brings.
        drop(client());
        tokio::spawn(Simulator::new(settings).serve(listener, stop.clone()));
        Self { url, _stop: stop.drop_guard() }
    }

    /// Makes a batch of `requests` requests, and returns its id.
    pub async fn batch(&self, requests: usize) -> String {
        self.batch_of("any", requests).await
    }

    /// The same in the workspace of this key.
    pub async fn batch_of(&self, key: &str, requests: usize) -> String {
        let batch = self.control(key, "batches", json!({ "requests": requests })).await;
        batch["id"].as_str().unwrap().to_owned()
    }

    /// Switches faults on or off.
    pub async fn faults(&self, faults: Value) {
        self.control("any", "faults", faults).await;
    }

    /// How many results of each outcome the API counts for a batch: `succeeded errored canceled expired`.
    pub async fn counts(&self, batch_id: &str) -> String {
        let url = format!("{}/v1/messages/batches/{batch_id}", self.url);
        let request = client().get(url).header("x-api-key", "any").header("anthropic-version", "2023-06-01");
        let batch: Value = request.send().await.unwrap().json().await.unwrap();
        let counts = &batch["request_counts"];
        ["succeeded", "errored", "canceled", "expired"].map(|outcome| counts[outcome].to_string()).join(" ")
    }

    /// Calls the API as a client does. Panics if it refuses.
    pub async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let request = client()
            .request(method, format!("{}{path}", self.url))
            .header("x-api-key", "any")
            .header("anthropic-version", "2023-06-01")
            .header("anthropic-beta", "managed-agents-2026-04-01,agent-memory-2026-07-22");
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        self.call(Method::POST, path, body).await
    }

    /// Keeps an object, of which no webhook tells.
    pub async fn resource(&self, object: Value) {
        self.control("any", "resources", object).await;
    }

    /// The requests that the API saw, in the order in which they came.
    pub async fn requests(&self) -> Vec<Value> {
        let url = format!("{}/_simulator/requests?limit=1000000", self.url);
        let mut page: Value = client().get(url).send().await.unwrap().json().await.unwrap();
        let Value::Array(seen) = page["data"].take() else { panic!("no list: {page}") };
        seen
    }

    async fn control(&self, key: &str, path: &str, body: Value) -> Value {
        let request = client().post(format!("{}/_simulator/{path}", self.url)).header("x-api-key", key);
        let answer = request.json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }
}
