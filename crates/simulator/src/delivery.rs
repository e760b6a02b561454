//! The sender of webhooks. It tries to deliver each event three times and then drops it, as the API's guide to webhooks says.
//!
//! Redirects are never followed, and disable the endpoint. Every attempt is in the journal.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use reqwest::{Client, redirect};
use secrecy::SecretString;
use tokio::sync::{Semaphore, mpsc};

use super::app::App;
use super::endpoint::Delivery;
use super::flags::duration;
use super::held::held;
use super::webhook::Event;
use super::{dice, sign};

/// How many seconds in the past the timestamp of a stale delivery is; receivers accept five minutes.
const STALE_SECONDS: i64 = 600;
/// The key that signs forged deliveries, valid in both schemes.
const FORGED_KEY: &str = "whsec_Zm9yZ2VkIGZvcmdlZCBmb3JnZWQgZm9yZ2VkIGZvcmc=";

/// Sends webhooks to the endpoint of the settings.
pub(super) struct Sender {
    app: Arc<App>,
    client: Client,
    url: String,
    room: Semaphore,
}

impl Sender {
    /// A sender, if the settings have a webhook URL.
    ///
    /// # Errors
    ///
    /// If the HTTP client cannot be built, or a key cannot sign.
    pub(super) fn new(app: Arc<App>) -> io::Result<Option<Sender>> {
        let Some(url) = app.settings.webhook_url.clone() else { return Ok(None) };
        let timeout = duration(app.settings.webhook_timeout_seconds);
        let client = Client::builder().redirect(redirect::Policy::none()).timeout(timeout).no_proxy();
        let client = client.build().map_err(io::Error::other)?;
        let room = Semaphore::new(app.settings.webhook_concurrency.max(1));
        let sender = Sender { app, client, url, room };
        let signed = sender.headers("", 0, b"", false);
        signed.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Some(sender))
    }

    /// Delivers the events of the queue until the simulator stops.
    pub(super) async fn deliver_all(self, mut queue: mpsc::UnboundedReceiver<Event>) {
        let sender = Arc::new(self);
        let stop = sender.app.stop.clone();
        while let Some(Some(event)) = stop.run_until_cancelled(queue.recv()).await {
            let (sender, stop) = (sender.clone(), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(sender.deliver(event)).await });
        }
    }

    /// Makes all attempts to deliver one event, with the faults that hit it.
    async fn deliver(&self, event: Event) {
        let faults = self.app.faults();
        let hit = |topic: &str, share: f64| dice::roll(self.app.mint.seed, topic, &event.id) < share;
        if hit("lost", faults.lost_share) {
            return self.lose(&event, "lost");
        }
        if hit("reorder", faults.reorder_share) {
            let part = dice::roll(self.app.mint.seed, "held back", &event.id);
            tokio::time::sleep(duration(faults.reorder_seconds * part)).await;
        }
        if hit("stale", faults.stale_share) {
            self.attempt(&event, 0, Some("stale")).await;
        }
        if hit("forged", faults.forged_share) {
            self.attempt(&event, 0, Some("forged")).await;
        }
        for attempt in 1..=self.app.settings.webhook_attempts {
            if held(&self.app.endpoint).disabled_reason.is_some() {
                return self.lose(&event, "endpoint disabled");
            }
            let status = self.attempt(&event, attempt, None).await;
            held(&self.app.endpoint).note(status, self.app.settings.webhook_failures);
            match status {
                Some(200..=299) if hit("duplicate", faults.duplicate_share) => {
                    self.attempt(&event, 0, Some("duplicate")).await;
                    return;
                }
                Some(200..=399) => return,
                _ if attempt < self.app.settings.webhook_attempts => {
                    tokio::time::sleep(self.backoff(attempt, &event.id)).await;
                }
                _ => {}
            }
        }
        held(&self.app.endpoint).lost += 1;
    }

    /// Makes one delivery. Returns the status of the answer, if there was one.
    async fn attempt(&self, event: &Event, attempt: u32, fault: Option<&'static str>) -> Option<u16> {
        let forged = fault == Some("forged");
        // No event has this id, so a receiver that accepts the forgery is noticed.
        let event_id = if forged { format!("{}_forged", event.id) } else { event.id.clone() };
        let body = event.body(&event_id);
        let _room = self.room.acquire().await.ok()?;
        let now = Utc::now();
        let timestamp = now.timestamp() - if fault == Some("stale") { STALE_SECONDS } else { 0 };
        let started = Instant::now();
        let outcome = match self.headers(&event_id, timestamp, &body, forged) {
            Ok(headers) => {
                let post = self.client.post(&self.url).header("content-type", "application/json");
                let post = headers.into_iter().fold(post, |post, (name, value)| post.header(name, value));
                post.body(body).send().await.map_err(|error| reason(&error.without_url()))
            }
            Err(error) => Err(error.to_string()),
        };
        let (status, error) = match outcome {
            Ok(response) => (Some(response.status().as_u16()), None),
            Err(error) => (None, Some(error)),
        };
        let error_shown = error.as_deref();
        tracing::info!(
            event_id,
            r#type = event.kind,
            attempt,
            status,
            error = error_shown,
            fault,
            "delivered a webhook"
        );
        self.app.deliveries.push(Delivery {
            at: now,
            event_id,
            kind: event.kind.clone(),
            attempt,
            status,
            milliseconds: started.elapsed().as_secs_f64() * 1e3,
            error,
            fault,
        });
        status
    }

    /// The signature headers of every scheme that has a key.
    fn headers(
        &self,
        event_id: &str,
        timestamp: i64,
        body: &[u8],
        forged: bool,
    ) -> Result<Vec<(&'static str, String)>, sign::InvalidKey> {
        let settings = &self.app.settings;
        let key = |key: &SecretString| if forged { FORGED_KEY.to_owned().into() } else { key.clone() };
        let mut headers = Vec::new();
        if let Some(signing_key) = &settings.signing_key {
            headers.extend(sign::standard(&key(signing_key), event_id, timestamp, body)?);
        }
        if let Some(secret) = &settings.webhook_secret {
            headers.extend(sign::older(&key(secret), timestamp, body)?);
        }
        Ok(headers)
    }

    /// How long to wait after a failed attempt: 5 to 30 s after the first, 5 to 120 s after a later one, times the factor of
    /// the settings.
    fn backoff(&self, attempt: u32, event_id: &str) -> Duration {
        let longest = if attempt == 1 { 30.0 } else { 120.0 };
        let roll = dice::roll(self.app.mint.seed, "backoff", &format!("{event_id} {attempt}"));
        duration((5.0 + roll * (longest - 5.0)) * self.app.settings.webhook_backoff)
    }

    fn lose(&self, event: &Event, why: &'static str) {
        held(&self.app.endpoint).lost += 1;
        self.app.deliveries.push(Delivery {
            at: Utc::now(),
            event_id: event.id.clone(),
            kind: event.kind.clone(),
            attempt: 0,
            status: None,
            milliseconds: 0.0,
            error: None,
            fault: Some(why),
        });
    }
}

/// Why there was no answer, with all causes.
fn reason(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    reason
}
