//! The endpoint for deliveries: a path for each sender, and one answer for each way that a delivery can end.
//!
//! The checks come in the order of their cost: announced length, body under its deadline, signature, envelope,
//! commit. Bodies are never decompressed, whatever `content-encoding` says, because the signature covers the bytes
//! as they were sent. `content-type` does not matter either. A refused sender learns only the status.

mod refusal;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::Utc;
use metrics::Label;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::refusal::Refusal;
use super::accept::CLOSE;
use super::body::{Incoming, NotRead};
use super::commit::{Committer, Kept};
use super::refusals::Refusals;
use super::senders::{Sender, Senders};
use super::throttle::{Allowance, Pace, Throttle};
use super::{Limits, PROBE_PREFIX};
use crate::envelope;
use crate::event::ANTHROPIC;
use crate::key_use::{Fingerprint, Key, Kind, Uses};
use crate::signature::{self, Diagnosis, Verified};
use crate::telemetry::metric;
use crate::trace;

/// The paths of a sender, with and without a trailing slash: a redirect from one to the other would make the API disable the
/// endpoint.
const PATHS: [&str; 2] = ["/webhooks/{sender}", "/webhooks/{sender}/"];

/// Further names of `/webhooks/anthropic`.
const ALIASES: [&str; 4] = ["/webhook", "/webhook/", "/anthropic-webhook", "/anthropic-webhook/"];

/// How many refused deliveries are looked at more closely in a second. What is wrong with a sender is wrong with each of its
/// deliveries, so a few of them are enough.
const CLOSER_LOOKS_PER_SECOND: u32 = 20;

/// The router for all requests: deliveries and health checks. Any other request gets a 404 or 405.
pub(super) fn router(
    senders: Senders,
    now: fn() -> i64,
    committer: Committer,
    counts: Counts,
    stop: CancellationToken,
    limits: &Limits,
) -> Router {
    let endpoint = Arc::new(Endpoint {
        senders,
        now,
        committer,
        counts,
        closer_looks: Allowance::new(CLOSER_LOOKS_PER_SECOND),
        refusals: Pace::new(limits.refusals_per_second),
        stop,
        large_bodies: Semaphore::new(limits.large_bodies_bytes_max),
        limits: limits.clone(),
        throttle: Throttle::default(),
    });
    let mut router = Router::new().route("/", get(health).fallback(elsewhere)).fallback(elsewhere);
    for path in PATHS.into_iter().chain(ALIASES) {
        router = router.route(path, get(health_of).post(deliver).fallback(wrong_method));
    }
    router.with_state(endpoint)
}

async fn deliver(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let senders = endpoint.senders.now();
    let name = sender_of(request.uri());
    let Some(sender) = senders.iter().find(|known| known.name == name) else {
        return endpoint.refuse_unread(Refusal::NotFound, request).await;
    };
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let chunked = head.headers.contains_key(TRANSFER_ENCODING);
    let mut body = Incoming::new(&head.headers, body);
    let mut response = match endpoint.receive(sender, &head.headers, &mut body, started).await {
        Ok(reason) => {
            count(Some(sender), "204", reason);
            metrics::histogram!(metric::ACK_SECONDS).record(started.elapsed());
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refusal) => endpoint.refuse(Some(sender), refusal, body).await,
    };
    if chunked {
        // The sender may have given a length too, which hyper then drops. A proxy in between may have used that
        // length, so the next bytes on the connection may belong to another sender.
        response.headers_mut().insert(CONNECTION, CLOSE);
    }
    response
}

/// Answers the health check of a load balancer. It says 503 from the stop on, while deliveries are still taken.
async fn health(State(endpoint): State<Arc<Endpoint>>) -> StatusCode {
    if endpoint.stop.is_cancelled() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

async fn health_of(endpoint: State<Arc<Endpoint>>, request: Request) -> StatusCode {
    if endpoint.knows(sender_of(request.uri())) { health(endpoint).await } else { StatusCode::NOT_FOUND }
}

async fn wrong_method(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let is_known = endpoint.knows(sender_of(request.uri()));
    endpoint.refuse_unread(if is_known { Refusal::WrongMethod } else { Refusal::NotFound }, request).await
}

/// Whose path this is, character for character as it came.
fn sender_of(uri: &Uri) -> &str {
    uri.path().strip_prefix("/webhooks/").map_or(ANTHROPIC, |name| name.strip_suffix('/').unwrap_or(name))
}

async fn elsewhere(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    endpoint.refuse_unread(Refusal::NotFound, request).await
}

/// What is counted for the database.
pub(super) struct Counts {
    pub(super) refusals: Refusals,
    pub(super) uses: Uses,
}

struct Endpoint {
    senders: Senders,
    now: fn() -> i64,
    committer: Committer,
    counts: Counts,
    closer_looks: Allowance,
    refusals: Pace,
    stop: CancellationToken,
    limits: Limits,
    large_bodies: Semaphore,
    throttle: Throttle,
}

impl Endpoint {
    /// Is a sender of this name configured?
    fn knows(&self, sender: &str) -> bool {
        self.senders.now().iter().any(|known| known.name == sender)
    }

    /// Reads, verifies and commits a delivery. `Ok` means that its event is committed, or in the journal, and is the
    /// reason for the metrics.
    async fn receive(
        &self,
        sender: &Sender,
        headers: &HeaderMap,
        body: &mut Incoming,
        started: Instant,
    ) -> Result<&'static str, Refusal> {
        let (body, _room) = body.read(&self.limits, &self.large_bodies).await?;
        let now = (self.now)();
        let verified = signature::verify(&sender.keys, headers, &body, now).map_err(|rejection| {
            let refused = signature::Refused { rejection, keys: &sender.keys, headers, body: &body, now };
            Refusal::Unverified(rejection, self.diagnose(sender, refused))
        })?;
        self.note_use(sender, &verified);
        // Not before: whoever has no key must not make a span.
        let trace = traced(sender, headers, started);
        let (webhook_id, timestamp) = (verified.webhook_id.as_deref(), verified.timestamp);
        let (event, reason) = match envelope::read(&body, webhook_id, timestamp) {
            Ok(event) => (event, "stored"),
            Err(fault) => {
                if let Some(left_out) = self.throttle.admit(envelope::UNREADABLE, Instant::now()) {
                    tracing::warn!(
                        %fault,
                        sender = sender.name,
                        trace_id = trace.trace_id(),
                        left_out,
                        "storing a signed delivery whose body cannot be read; it will become a dead letter"
                    );
                }
                (envelope::unreadable(&body, webhook_id, timestamp), envelope::UNREADABLE)
            }
        };
        // The signature covers the identifier, so nobody on the way can make a probe of a delivery.
        if event.event_id.starts_with(PROBE_PREFIX) {
            return Err(Refusal::Probe);
        }
        // The event has its own copy.
        drop(body);
        let mut event = sender.stamp(event);
        event.traceparent = trace.traceparent();
        trace.set("restante.event.id", || event.event_id.clone());
        trace.set("restante.event.type", || event.event_type.clone());
        let event_id = event.event_id.clone();
        let commit = trace.part("commit");
        let kept = self.committer.commit(event).await.inspect_err(|not_stored| {
            commit.failed(not_stored.reason());
            trace.failed(not_stored.reason());
        })?;
        drop(commit);
        let reason = self.kept(sender, &event_id, kept, reason, &trace);
        trace.set("restante.reason", || reason);
        // The older scheme has no identifier.
        let scheme = if verified.webhook_id.is_some() { "standard" } else { "older" };
        let labels = labels(Some(sender), [("scheme", scheme.to_owned())]);
        metrics::gauge!(metric::LAST_DELIVERY_TIMESTAMP_SECONDS, labels).set((self.now)() as f64);
        Ok(reason)
    }

    /// The reason for the metrics; `new` is that of an event that was not there before.
    fn kept(
        &self,
        sender: &Sender,
        event_id: &str,
        kept: Kept,
        new: &'static str,
        trace: &trace::Span,
    ) -> &'static str {
        match kept {
            Kept::New => return new,
            Kept::Journaled => return "journaled",
            Kept::Again { differs: false } => {}
            Kept::Again { differs: true } => {
                if let Some(left_out) = self.throttle.admit("differs", Instant::now()) {
                    tracing::warn!(
                        event.id = event_id,
                        sender = sender.name,
                        trace_id = trace.trace_id(),
                        left_out,
                        "a delivery repeats the identifier of an event with another body: the event is unchanged, \
                         and the other body is in restante.delivery_differs"
                    );
                }
            }
        }
        "duplicate"
    }

    /// Notes which keys a delivery fitted. While a sender signs with the old and the new key, it needs neither of them.
    fn note_use(&self, sender: &Sender, verified: &Verified) {
        let fits: BTreeSet<Fingerprint> = verified.fits.iter().copied().collect();
        let (is_needed, at) = (fits.len() == 1, Utc::now());
        for fingerprint in fits {
            let key = Key { kind: Kind::Signing, party: sender.name.clone(), fingerprint };
            self.counts.uses.note(&key, at, is_needed);
        }
    }

    /// Looks more closely at a delivery that was refused, as often as that is allowed. Anyone can send such deliveries, and a closer
    /// look costs several checks.
    fn diagnose(&self, sender: &Sender, refused: signature::Refused<'_>) -> Diagnosis {
        if !self.closer_looks.admit(Instant::now()) {
            return Diagnosis::As(refused.rejection);
        }
        let senders = self.senders.now();
        refused.diagnose(senders.iter().filter(|other| other.name != sender.name).map(|other| &other.keys))
    }

    /// As [`Endpoint::refuse`], for a request that is refused by its path or method alone.
    async fn refuse_unread(&self, refusal: Refusal, request: Request) -> Response {
        let (head, body) = request.into_parts();
        self.refuse(None, refusal, Incoming::new(&head.headers, body)).await
    }

    /// Counts a refusal, logs its reason and nothing else of the request, and returns the answer: as fast as it can where the
    /// fault is ours, and else at a pace that leaves the machine to good deliveries.
    async fn refuse(&self, sender: Option<&Sender>, refusal: Refusal, unread: Incoming) -> Response {
        let status = refusal.status();
        count(sender, status.as_str(), refusal.reason());
        let reason = refusal.closer_reason();
        if !matches!(refusal, Refusal::Probe) {
            self.counts.refusals.note(sender.map(|sender| sender.name.as_str()), reason, Utc::now());
        }
        if let Some(left_out) = self.throttle.admit(reason, Instant::now()) {
            let sender = sender.map(|sender| sender.name.as_str());
            tracing::info!(reason, status = status.as_u16(), sender, left_out, "refused a delivery");
        }

        if !matches!(refusal, Refusal::NotRead(NotRead::Slow | NotRead::Broken)) {
            unread.run_out();
        }
        if status.is_client_error() {
            sleep(self.refusals.wait(Instant::now())).await;
        }
        refusal.answer()
    }
}

/// The first span of the trace of a delivery, which began with the head of its request.
fn traced(sender: &Sender, headers: &HeaderMap, started: Instant) -> trace::Span {
    let began = SystemTime::now() - started.elapsed();
    let from_outside = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let trace = trace::Span::first("delivery", began, from_outside);
    trace.set("restante.sender", || sender.name.clone());
    trace
}

/// Counts an answer.
fn count(sender: Option<&Sender>, answer: &str, reason: &'static str) {
    let labels = labels(sender, [("answer", answer.to_owned()), ("reason", reason.to_owned())]);
    metrics::counter!(metric::DELIVERIES_TOTAL, labels).increment(1);
}

/// Labels, with the sender's name where it is not the one that needs no configuration file.
fn labels<const N: usize>(sender: Option<&Sender>, labels: [(&'static str, String); N]) -> Vec<Label> {
    let sender =
        sender.filter(|sender| sender.name != ANTHROPIC).map(|sender| ("sender", sender.name.clone()));
    labels.into_iter().chain(sender).map(|(name, value)| Label::new(name, value)).collect()
}
