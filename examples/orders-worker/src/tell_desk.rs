//! `session.status_idled`: the session of an agent is idle, and a person at the desk should look at it.

use std::time::Duration;

use anyhow::anyhow;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, StatusCode, redirect};
use restante::handler::{self, Classify, Context, Error, Handler};
use serde::Deserialize;
use serde_json::json;
use url::Url;

/// How long the desk may take to answer. It is less than the handler's own timeout, so that the error says what happened.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Notifies the desk by HTTP.
///
/// A call cannot be rolled back, and a worker can vanish between the answer and the completion of the event. So the desk
/// is called at least once. The event's identifier is the `idempotency-key`, by which the desk recognises repeated calls.
#[derive(Debug)]
pub struct TellDesk {
    http: Client,
    url: Url,
}

/// What the event says of its session.
#[derive(Debug, Deserialize)]
pub struct SessionRef {
    id: String,
}

impl TellDesk {
    /// A handler that calls the desk at this URL.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn new(url: Url) -> anyhow::Result<Self> {
        // The library also uses ring. An error only means that it has installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().timeout(ANSWER_TIMEOUT).redirect(redirect::Policy::none()).build()?;
        Ok(Self { http, url })
    }
}

impl Handler for TellDesk {
    const EVENT_TYPES: &'static [&'static str] = &["session.status_idled"];
    type Payload = SessionRef;

    async fn handle(&self, cx: &mut Context<'_>, session: SessionRef) -> handler::Result {
        let answer = self
            .http
            .post(self.url.clone())
            .header("idempotency-key", &cx.event.event_id)
            .json(&json!({ "session_id": session.id, "idle_since": cx.event.created_at }))
            .send()
            .await
            .retryable()?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let reason = anyhow!("the desk answered {status}");
        Err(match (status, retry_after(&answer)) {
            (_, Some(wait)) => Error::RetryAfter(wait, reason),
            (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS, None) => Error::Retryable(reason),
            // The desk has refused the call, and would refuse it again.
            (status, None) if status.is_client_error() => Error::Permanent(reason),
            _ => Error::Retryable(reason),
        })
    }
}

fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
