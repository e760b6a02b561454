//! `notify.NAME`: delivers a notification to the endpoint NAME, signed, with the same identifier and the same bytes at every attempt.
//!
//! | the endpoint | the notification |
//! |---|---|
//! | answers 2xx | is delivered |
//! | answers 410, or has failed for as long as its `disable_after` says | is parked with all others, and the endpoint is disabled |
//! | answers `retry-after` | is tried again after that time, an hour at most; the others wait too |
//! | answers anything else, a redirect too, or not at all | is tried again, after 5 s at first and an hour at most, for three days |
//! | is disabled | is parked |
//! | is gone | is a dead letter |
//!
//! Each attempt is a row of `restante.endpoint_delivery`. That of one that was delivered is in the commit of its completion, which
//! notifications that end at the same time share. How many go to an endpoint at once is decided in `gate`; what is known of it, in
//! `known`; where they may go, in `egress`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::time::Instant;
use url::Url;

use crate::egress::{self, Answer, Rules};
use crate::event::Event;
use crate::handler::{self, Classify, Context, Error, Handler};
use crate::outbox::Delivered;
use crate::{database, retry, trace};

mod endpoint;
mod gate;
mod known;
mod sign;

use endpoint::{Delivery, Endpoint};
use gate::{Gates, Later, Pass, Terms};
use known::Known;

/// What the type of each notification begins with; the name of its endpoint follows.
const PREFIX: &str = "notify.";

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// How long to wait where something is wrong with this worker and not with the endpoint.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Three days: after the first ten attempts, they are seven eighths of an hour apart on average.
const RETRY: retry::Policy =
    retry::Policy { max_attempts: 93, first: Duration::from_secs(5), cap: Duration::from_secs(60 * 60) };

/// Delivers notifications.
#[derive(Debug)]
pub struct Notifications {
    /// An error if TLS could not be set up.
    client: Result<egress::Client, egress::Error>,
    gates: Gates,
    known: Known,
}

impl Notifications {
    /// Delivers to where the rules allow.
    pub fn new(rules: Rules) -> Self {
        Self::with(egress::Client::new(rules))
    }

    /// Delivers through a client of the caller.
    pub fn with(client: Result<egress::Client, egress::Error>) -> Self {
        Self { client, gates: Gates::default(), known: Known::default() }
    }
}

/// What is stored of a notification.
#[derive(Deserialize)]
struct Notification<'a> {
    /// Where it goes, if not to the URL of the endpoint.
    url: Option<String>,
    /// The body, byte for byte.
    #[serde(borrow)]
    body: &'a RawValue,
}

/// What the log of deliveries says of the event.
#[derive(Deserialize)]
struct Told {
    #[serde(rename = "type")]
    event_type: String,
}

impl Handler for Notifications {
    const EVENT_TYPES: &'static [&'static str] = &["notify.*"];
    const RETRY: retry::Policy = RETRY;
    type Payload = IgnoredAny;

    async fn handle(&self, cx: &mut Context<'_>, _: IgnoredAny) -> handler::Result {
        let event = cx.event;
        let Notification { url, body } =
            serde_json::from_str(event.body.as_json().unwrap_or_default()).permanent()?;
        let Told { event_type } = serde_json::from_str(body.get()).permanent()?;
        let name = event.event_type.strip_prefix(PREFIX).unwrap_or_default();
        let endpoint = self.endpoint_of(cx, name, url.as_deref()).await?;
        let client = match &self.client {
            Ok(client) => client,
            Err(error) => return Err(Error::Trouble(ASK_AGAIN, anyhow!("TLS could not be set up: {error}"))),
        };
        let pass = self.pass(cx, name, &endpoint).await?;
        let url: Url = url.as_deref().unwrap_or(&endpoint.url).parse().permanent()?;
        let body = Bytes::copy_from_slice(body.get().as_bytes());
        let call = trace::Span::call("notification");
        call.set("restante.endpoint", || name.to_owned());
        let headers = headers(event, &endpoint, &body, call.traceparent())?;

        let began = Instant::now();
        let answered = client.post(&url, headers, body).await;
        let took = began.elapsed();
        let taken = taken(answered);
        end(call, taken.as_ref().map_or_else(|failure| failure.answer.as_ref(), Some), taken.is_err());
        match taken {
            Ok(Answer { status, beginning: answer, .. }) => {
                pass.succeeded(took);
                cx.set_result(&serde_json::json!({ "status": status }));
                let (endpoint, event_id, attempt) = (name.to_owned(), event.event_id.clone(), event.attempt);
                cx.set_delivered(Delivered { endpoint, event_id, event_type, attempt, took, status, answer });
                Ok(())
            }
            Err(Failure { fault, answer }) => {
                let retry_after = answer.as_ref().and_then(|answer| answer.retry_after);
                pass.failed(retry_after);
                let delivery = Delivery {
                    endpoint: name,
                    event_type: &event_type,
                    took,
                    status: answer.as_ref().map(|answer| answer.status),
                    error: &fault,
                    answer: answer.as_ref().map(|answer| answer.beginning.as_str()),
                };
                Err(failed(cx, &delivery, retry_after).await?)
            }
        }
    }
}

/// Notes an attempt that failed, and says what becomes of the notification.
async fn failed(
    cx: &Context<'_>,
    delivery: &Delivery<'_>,
    retry_after: Option<Duration>,
) -> Result<Error, Error> {
    let (name, fault) = (delivery.endpoint, delivery.error);
    let mut checkpoint = cx.checkpoint().await?;
    let disabled_because = endpoint::note(&mut *checkpoint, cx.event, delivery).await?;
    checkpoint.commit().await?;
    if let Some(reason) = disabled_because {
        tracing::warn!(endpoint = name, reason, "an endpoint is disabled; what waits for it is parked");
        return Ok(parked(name));
    }
    let error = anyhow!("{name} did not take the notification: {fault}");
    // Never at once: half of the wait is sure, the other half is chance.
    let attempt = u32::try_from(cx.event.attempt).unwrap_or(1);
    Ok(Error::RetryAfter(retry_after.unwrap_or(RETRY.ceiling(attempt) / 2), error))
}

/// The type of the notification is paused by now, so this parks it.
fn parked(name: &str) -> Error {
    Error::Defer(Duration::ZERO, format!("the endpoint {name} is disabled").into())
}

impl Notifications {
    /// The endpoint, if it is enabled.
    async fn endpoint_of(
        &self,
        cx: &Context<'_>,
        name: &str,
        url: Option<&str>,
    ) -> Result<Arc<Endpoint>, Error> {
        let stored_at = cx.event.received_at;
        let mut found = self.known.endpoint(cx, name, stored_at).await?;
        if let (None, Some(url)) = (&found, url) {
            endpoint::add_for_callback(&mut *cx.connection().await?, url).await?;
            found = self.known.endpoint(cx, name, stored_at).await?;
        }
        match found {
            None => Err(Error::Permanent(anyhow!("there is no endpoint named {name} any more"))),
            Some(endpoint) if !endpoint.is_enabled => {
                endpoint::hold(&mut *cx.connection().await?, name).await?;
                Err(parked(name))
            }
            Some(endpoint) => Ok(endpoint),
        }
    }

    /// A place at the endpoint, within its limits.
    async fn pass(&self, cx: &Context<'_>, name: &str, endpoint: &Endpoint) -> Result<Pass, Error> {
        let terms = Terms {
            places: endpoint.concurrency,
            per_second: endpoint.per_second,
            edition: format!("{} {}", endpoint.enabled_at.timestamp_micros(), endpoint.url),
        };
        let pass = self.gates.enter(name, &terms).await.map_err(|later| match later {
            Later::Full(wait) => Error::Defer(
                wait,
                format!("{name} takes {} notifications at once from a worker", endpoint.concurrency).into(),
            ),
            Later::Closed(wait) => Error::Defer(
                wait,
                format!("{name} has failed; one notification at a time tries it again").into(),
            ),
        })?;
        let Some(per_second) = endpoint.per_second else { return Ok(pass) };
        let wait = endpoint::take_slot(&mut *cx.connection().await?, name, per_second).await?;
        if wait.is_zero() {
            return Ok(pass);
        }
        let reason = format!("{name} takes {per_second} notifications a second");
        Err(Error::Defer(wait.max(pass.paced()), reason.into()))
    }
}

/// The headers of one attempt. They are signed anew each time, because receivers refuse an old timestamp.
fn headers(
    event: &Event,
    endpoint: &Endpoint,
    body: &[u8],
    traceparent: Option<String>,
) -> Result<HeaderMap, Error> {
    let (id, now) = (&event.event_id, endpoint.now());
    let signature = sign::signatures(&endpoint.secrets, id, now, body).retryable()?;
    let values = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (WEBHOOK_ID, id.clone()),
        (WEBHOOK_TIMESTAMP, now.to_string()),
        (WEBHOOK_SIGNATURE, signature),
    ];
    // So that a receiver who traces goes on with the trace. It has random numbers only.
    let trace = traceparent.map(|traceparent| (TRACEPARENT, traceparent));
    let values = values.into_iter().chain(trace);
    values.map(|(name, value)| Ok((name, HeaderValue::try_from(value).permanent()?))).collect()
}

/// Ends the span of a notification. It has no URL, which may hold a secret of the receiver.
fn end(call: trace::Span, answer: Option<&Answer>, has_failed: bool) {
    if let Some(answer) = answer {
        call.set("http.response.status_code", || i64::from(answer.status));
    }
    if has_failed {
        call.failed(if answer.is_some() { "status" } else { "transport" });
    }
}

/// An attempt that failed.
struct Failure {
    /// Why.
    fault: String,
    /// What the endpoint answered, if it did.
    answer: Option<Answer>,
}

/// Has the endpoint taken the notification?
fn taken(answered: Result<Answer, egress::Error>) -> Result<Answer, Failure> {
    let answer = answered.map_err(|error| Failure { fault: database::told(&error), answer: None })?;
    let fault = match answer.status {
        200..=299 => return Ok(answer),
        status @ 300..=399 => format!("it answered {status}, a redirect, which is not followed"),
        status => format!("it answered {status}"),
    };
    Err(Failure { fault, answer: Some(answer) })
}
