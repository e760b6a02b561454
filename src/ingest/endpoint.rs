//! The endpoint for deliveries: one path under three names, and one answer for each way that a delivery can end.
//!
//! The checks stand in the order of their cost: announced length, body under its deadline, signature, envelope,
//! commit. Bodies are never decompressed, whatever `content-encoding` says, since the signature is over the bytes
//! as they were sent; nor does `content-type` matter. A refused sender learns nothing but the status.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONNECTION, RETRY_AFTER, TRANSFER_ENCODING};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::Limits;
use super::commit::{Committer, NotStored};
use super::throttle::Throttle;
use crate::envelope::{self, Unreadable};
use crate::signature::{self, Keys, Rejection};
use crate::telemetry::metric;

/// Where deliveries are received, each with and without a trailing slash: redirecting from one spelling to the
/// other would disable the endpoint.
const PATHS: [&str; 6] = [
    "/webhooks/anthropic",
    "/webhooks/anthropic/",
    "/webhook",
    "/webhook/",
    "/anthropic-webhook",
    "/anthropic-webhook/",
];

/// Up to this size a body counts as small. Deliveries of the API are below 1 kB.
const SMALL_BODY_BYTES_MAX: u64 = 16 * 1024;

/// When a sender is asked to come back after a 503, in seconds: the shortest pause that the API makes by itself.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The router that answers every request: deliveries with what became of them, all else with 404 or 405.
pub(super) fn router(keys: Keys, now: fn() -> i64, committer: Committer, limits: &Limits) -> Router {
    let endpoint = Arc::new(Endpoint {
        keys,
        now,
        committer,
        large_bodies: Semaphore::new(limits.large_bodies_bytes_max),
        limits: limits.clone(),
        throttle: Throttle::default(),
    });
    let mut router = Router::new().fallback(elsewhere);
    for path in PATHS {
        router = router.route(path, post(deliver).fallback(wrong_method));
    }
    router.with_state(endpoint)
}

async fn deliver(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let started = Instant::now();
    let chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let mut response = match endpoint.receive(request).await {
        Ok(()) => {
            metrics::counter!(metric::DELIVERIES_TOTAL, "answer" => "204", "reason" => "stored").increment(1);
            metrics::histogram!(metric::ACK_SECONDS).record(started.elapsed());
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refusal) => endpoint.refuse(&refusal),
    };
    if chunked {
        // The sender may have given a length too, which hyper then drops. A proxy between us may have believed the
        // length, so what follows on the connection could be anybody's.
        response.headers_mut().insert(CONNECTION, CLOSE);
    }
    response
}

async fn wrong_method(State(endpoint): State<Arc<Endpoint>>) -> Response {
    endpoint.refuse(&Refusal::WrongMethod)
}

async fn elsewhere(State(endpoint): State<Arc<Endpoint>>) -> Response {
    endpoint.refuse(&Refusal::NotFound)
}

struct Endpoint {
    keys: Keys,
    now: fn() -> i64,
    committer: Committer,
    limits: Limits,
    large_bodies: Semaphore,
    throttle: Throttle,
}

impl Endpoint {
    /// Takes a delivery in. `Ok` means that its event is committed.
    async fn receive(&self, request: Request) -> Result<(), Refusal> {
        let (head, body) = request.into_parts();
        let _room = self.room_for(&body)?;
        let body = self.read(body).await?;
        let verified = signature::verify(&self.keys, &head.headers, &body, (self.now)())?;
        let event = envelope::read(&body, verified.webhook_id.as_deref(), verified.timestamp)?;
        // The bytes are in the event now.
        drop(body);
        self.committer.commit(event).await?;
        // The older scheme has no identifier.
        let scheme = if verified.webhook_id.is_some() { "standard" } else { "older" };
        metrics::gauge!(metric::LAST_DELIVERY_TIMESTAMP_SECONDS, "scheme" => scheme).set((self.now)() as f64);
        Ok(())
    }

    /// Memory for a body, before any of it is read. Small bodies always have some, so that a sender of large ones
    /// cannot shut them out.
    fn room_for(&self, body: &Body) -> Result<Option<SemaphorePermit<'_>>, Refusal> {
        let size = body.size_hint();
        let bytes_max = self.limits.body_bytes_max as u64;
        if size.lower() > bytes_max {
            return Err(Refusal::TooLarge);
        }
        // A chunked body can become as large as is allowed.
        let bytes = size.upper().unwrap_or(bytes_max).min(bytes_max);
        if bytes <= SMALL_BODY_BYTES_MAX {
            return Ok(None);
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.large_bodies.try_acquire_many(bytes).map(Some).map_err(|_| Refusal::Busy)
    }

    async fn read(&self, body: Body) -> Result<Bytes, Refusal> {
        let mut chunks = body.into_data_stream();
        let whole = async {
            let mut bytes = BytesMut::new();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|_| Refusal::Broken)?;
                if bytes.len() + chunk.len() > self.limits.body_bytes_max {
                    return Err(Refusal::TooLarge);
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes.freeze())
        };
        timeout(self.limits.body_timeout, whole).await.unwrap_or(Err(Refusal::Slow))
    }

    /// Counts a refusal, logs it with its reason only, and makes its answer.
    fn refuse(&self, refusal: &Refusal) -> Response {
        let status = refusal.status();
        let reason = refusal.reason();
        let answer = status.as_str().to_owned();
        metrics::counter!(metric::DELIVERIES_TOTAL, "answer" => answer, "reason" => reason).increment(1);
        if let Some(left_out) = self.throttle.admit(reason, Instant::now()) {
            tracing::info!(reason, status = status.as_u16(), left_out, "refused a delivery");
        }

        let mut response = status.into_response();
        let headers = response.headers_mut();
        match refusal {
            Refusal::WrongMethod => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            // What is left of the body is not read.
            Refusal::TooLarge | Refusal::Slow | Refusal::Broken => {
                headers.insert(CONNECTION, CLOSE);
            }
            Refusal::Busy => {
                headers.insert(CONNECTION, CLOSE);
                headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
            }
            Refusal::NotStored(_) => {
                headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
            }
            Refusal::NotFound | Refusal::Unverified(_) | Refusal::Unreadable(_) => {}
        }
        response
    }
}

/// Why a request does not lead to a committed event.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is nothing at this path")]
    NotFound,
    #[error("only POST is answered here")]
    WrongMethod,
    #[error("the body is too large")]
    TooLarge,
    #[error("the body took too long")]
    Slow,
    #[error("the body broke off or was malformed")]
    Broken,
    #[error("too many large bodies are being read")]
    Busy,
    #[error(transparent)]
    Unverified(#[from] Rejection),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    NotStored(#[from] NotStored),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Slow => StatusCode::REQUEST_TIMEOUT,
            Refusal::Unverified(_) => StatusCode::UNAUTHORIZED,
            Refusal::Broken | Refusal::Unreadable(_) => StatusCode::BAD_REQUEST,
            Refusal::Busy | Refusal::NotStored(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What exactly was wrong, for logs and metrics.
    fn reason(&self) -> &'static str {
        match self {
            Refusal::NotFound => "not_found",
            Refusal::WrongMethod => "wrong_method",
            Refusal::TooLarge => "too_large",
            Refusal::Slow => "slow",
            Refusal::Broken => "broken",
            Refusal::Busy => "large_bodies",
            Refusal::Unverified(rejection) => rejection.reason(),
            Refusal::Unreadable(unreadable) => unreadable.reason(),
            Refusal::NotStored(not_stored) => not_stored.reason(),
        }
    }
}
