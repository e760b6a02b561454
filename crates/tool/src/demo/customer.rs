//! The customer of the demo asks the simulated API as any program asks the real one.
//!
//! It shares no code with the worker's API client, so its view of a batch is a second opinion.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use chrono::{DateTime, Utc};
use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

/// How long an answer may take.
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
