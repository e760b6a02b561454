//! The customer of the demo calls the simulated API as any program calls the real one.
//!
//! It shares no code with the worker's API client, so its view of a batch is a second opinion.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

/// How long an answer may take: a batch of 100,000 requests is some 20 MB to post.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A customer of the API.
pub(super) struct Customer {
    http: Client,
    api: Url,
    key: SecretString,
}

/// A batch as the API describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Batch {
    pub(super) id: String,
    pub(super) processing_status: String,
    /// By outcome, and `processing`.
    pub(super) request_counts: BTreeMap<String, i64>,
}

/// An attempt of the simulated API to deliver a webhook, as the API noted it.
#[derive(Debug, Deserialize)]
pub(super) struct Delivery {
    pub(super) at: DateTime<Utc>,
    pub(super) event_id: String,
    #[serde(rename = "type")]
    pub(super) event_type: String,
    pub(super) status: Option<u16>,
    pub(super) milliseconds: f64,
    pub(super) error: Option<String>,
}

impl Customer {
    pub(super) fn new(api: Url, key: SecretString) -> anyhow::Result<Customer> {
        Ok(Customer { http: Client::builder().no_proxy().timeout(TIMEOUT).build()?, api, key })
    }

    /// The base URL of the API.
    pub(super) fn api(&self) -> &Url {
        &self.api
    }

    /// Posts a batch of `requests` requests.
    ///
    /// # Errors
    /// If the API does not accept the batch.
    pub(super) async fn post_batch(&self, requests: u32) -> anyhow::Result<Batch> {
        let requests: Vec<Value> = (1..=requests).map(request).collect();
        let url = self.api.join("v1/messages/batches")?;
        self.ask(self.http.post(url).json(&json!({"requests": requests})))
            .await
            .context("the API did not accept the batch")
    }

    /// A batch as it is now.
    ///
    /// # Errors
    /// If the API does not answer.
    pub(super) async fn batch(&self, id: &str) -> anyhow::Result<Batch> {
        let url = self.api.join(&format!("v1/messages/batches/{id}"))?;
        self.ask(self.http.get(url)).await
    }

    /// The webhooks that the API has tried to deliver so far. The real API shows these only in its Console.
    ///
    /// # Errors
    /// If the simulated API does not answer.
    pub(super) async fn deliveries(&self) -> anyhow::Result<Vec<Delivery>> {
        #[derive(Deserialize)]
        struct Page {
            data: Vec<Delivery>,
        }
        let url = self.api.join("_simulator/deliveries")?;
        Ok(self.ask::<Page>(self.http.get(url)).await?.data)
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let request = request.header("x-api-key", self.key.expose_secret());
        let response = request.header("anthropic-version", "2023-06-01").send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        ensure!(status.is_success(), "the API answered {status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }
}

/// The `custom_id` of the n-th request of the batch.
pub(super) fn custom_id(n: u32) -> String {
    format!("letter-{n:06}")
}

fn request(n: u32) -> Value {
    let content = format!(
        "Does letter {n} of today's post ask for an answer? Say yes or no, and why, in two sentences."
    );
    json!({
        "custom_id": custom_id(n),
        "params": {
            "model": "claude-opus-5-5",
            "max_tokens": 256,
            "messages": [{"role": "user", "content": content}],
        },
    })
}
