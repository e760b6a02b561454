//! A simulator on a port of its own, and a client that speaks to it as an SDK does.

use reqwest::{Client, Method, Response, redirect};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::{Settings, Simulator};

pub(super) const SEED: u64 = 7;

pub(super) struct World {
    pub(super) origin: String,
    pub(super) client: Client,
    _stop: DropGuard,
}

/// Settings under which nothing takes time.
pub(super) fn at_once() -> Settings {
    let mut settings =
        Settings { seed: Some(SEED), batch_seconds: 0.0, cancel_seconds: 0.0, ..Settings::default() };
    (settings.webhook_backoff, settings.session_seconds) = (0.0, 0.0);
    settings.faults.stream_pause_milliseconds = 0;
    settings
}

impl World {
    pub(super) async fn new(settings: Settings) -> World {
        // For the second test of the process it is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(Simulator::new(settings).serve(listener, stop.clone()));
        let client = Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        World { origin, client, _stop: stop.drop_guard() }
    }

    pub(super) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let request = (self.client.request(method, format!("{}{path}", self.origin)))
            .header("x-api-key", "sk-test")
            .header("anthropic-version", "2023-06-01")
            .header("anthropic-beta", "managed-agents-2026-04-01,agent-memory-2026-07-22");
        match body {
            Some(body) => request.json(&body).send().await.unwrap(),
            None => request.send().await.unwrap(),
        }
    }

    /// Status and body.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let response = self.send(method, path, body).await;
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, body) = self.call(Method::POST, path, Some(body)).await;
        assert_eq!(status, 200, "{body}");
        body
    }
}
