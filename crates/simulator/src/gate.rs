//! The gate that every request passes: journal, key, version, faults, and the headers of every answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use chrono::Utc;
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::app::App;
use super::dice;
use super::held::held;
use super::journal::Seen;
use super::limit::Standing;
use super::line::Line;
use super::mishap;
use super::outage;
use super::refusal::Refusal;
use super::refusals;
use super::webhook::ORGANIZATION;

/// Limit of a batch's request, by the API's error page. It does not say what a megabyte is, so the smaller one counts.
const BATCH_BODY_BYTES: usize = 256_000_000;
/// Limit of any other request, by the same page.
const BODY_BYTES: usize = 32 << 20;
/// The versions of the API that exist.
const VERSIONS: [&str; 2] = ["2023-06-01", "2026-10-21"];

/// The id of the current request, for answers that carry it in their body.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) String);

/// Passes a request on to its endpoint, or refuses it.
pub(super) async fn gate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let serial = app.mint.serial();
    let line = request.extensions().get::<ConnectInfo<Line>>().map(|ConnectInfo(line)| line.clone());
    if let Some(line) = &line {
        line.begin();
    }
    let request_id = dice::id(app.mint.seed, "req_", serial);
    let control = request.uri().path().starts_with("/_simulator/");
    let mut seen = Seen {
        at: Utc::now(),
        request_id: request_id.clone(),
        method: request.method().to_string(),
        path: request.uri().to_string(),
        key: keys(request.headers()).next().is_some(),
        betas: text(request.headers(), "anthropic-beta").map(str::to_owned),
        status: 0,
    };
    request.extensions_mut().insert(RequestId(request_id.clone()));

    let standing = if control { None } else { standing(&app, request.uri().path()) };
    let admitted = if control {
        Ok(())
    } else {
        let method_and_path = (request.method(), request.uri().path());
        admit(&app, method_and_path, request.headers(), standing, serial).await
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = match admitted {
        Ok(()) => mishap::suffered(&app, &method, &path, line.as_ref(), next.run(request).await).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = answer.unwrap_or_else(|refusal| refusal.answer(&request_id));
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        response = refusal.answer(&request_id);
    }
    if !control {
        seen.status = response.status().as_u16();
        app.requests.push(seen);
        add_headers(response.headers_mut(), &request_id, &app.workspace_id, standing);
    }
    response
}

/// Reads the body, if it is within the limit of its path.
pub(super) async fn body(path: &str, body: Body) -> Result<Bytes, Refusal> {
    axum::body::to_bytes(body, body_limit(path)).await.map_err(|_| Refusal::too_large())
}

async fn admit(
    app: &App,
    (method, path): (&Method, &str),
    headers: &HeaderMap,
    standing: Option<Standing>,
    serial: u64,
) -> Result<(), Refusal> {
    let faults = app.faults();
    if faults.latency_milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(faults.latency_milliseconds)).await;
    }
    if let Some(refusal) = outage::refusal(&faults.outages, app.faulty_for()) {
        return Err(refusal);
    }
    if announced_bytes(headers) > body_limit(path) as u64 {
        return Err(Refusal::too_large());
    }
    authenticate(app, headers)?;
    check_version(headers)?;
    if standing.is_some_and(|standing| !standing.is_within) {
        return Err(Refusal::rate_limited(faults.retry_after_seconds));
    }
    if let Some(planned) = refusals::take(&mut held(&app.faults).refusals, method, path) {
        return Err(planned);
    }
    let roll = dice::roll(app.mint.seed, "fault", &serial.to_string());
    let overloaded = faults.rate_limited_share + faults.overloaded_share;
    match roll {
        r if r < faults.rate_limited_share => Err(Refusal::rate_limited(faults.retry_after_seconds)),
        r if r < overloaded => Err(Refusal::overloaded()),
        r if r < overloaded + faults.internal_error_share => Err(Refusal::internal()),
        _ => Ok(()),
    }
}

/// How a request stands to the limit, if one is enforced and there is no outage.
fn standing(app: &App, path: &str) -> Option<Standing> {
    let faults = app.faults();
    let per_second = faults.limit_per_second?;
    if outage::refusal(&faults.outages, app.faulty_for()).is_some() {
        return None;
    }
    Some(held(&app.buckets).take(path, per_second, Instant::now()))
}

fn body_limit(path: &str) -> usize {
    if path.starts_with("/v1/messages/batches") { BATCH_BODY_BYTES } else { BODY_BYTES }
}

fn announced_bytes(headers: &HeaderMap) -> u64 {
    text(headers, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok()).unwrap_or(0)
}

fn authenticate(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut keys = keys(headers);
    let Some(key) = keys.next() else {
        return Err(Refusal::unauthenticated("x-api-key header is required"));
    };
    if keys.next().is_some() {
        return Err(Refusal::unauthenticated("x-api-key and authorization were both sent: send one of them"));
    }
    match &app.settings.api_key {
        Some(right) if right.expose_secret() != key => Err(Refusal::unauthenticated("invalid x-api-key")),
        _ => Ok(()),
    }
}

/// The API keys in the two headers that can carry one.
pub(super) fn keys(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = text(headers, "authorization").and_then(|value| value.strip_prefix("Bearer "));
    [text(headers, "x-api-key"), bearer].into_iter().flatten().filter(|key| !key.is_empty())
}

fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    match text(headers, "anthropic-version") {
        None => Err(Refusal::invalid("anthropic-version: header is required")),
        Some(version) if VERSIONS.contains(&version) => Ok(()),
        Some(version) => {
            Err(Refusal::invalid(format!("anthropic-version: {version:?} is not a valid version")))
        }
    }
}

/// A header's value as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn add_headers(headers: &mut HeaderMap, request_id: &str, workspace_id: &str, standing: Option<Standing>) {
    let values = [
        ("request-id", request_id.to_owned()),
        ("anthropic-organization-id", ORGANIZATION.to_owned()),
        ("anthropic-workspace-id", workspace_id.to_owned()),
    ];
    let limits = standing.map(|standing| standing.headers(Utc::now())).into_iter().flatten();
    for (name, value) in values.into_iter().chain(limits) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
