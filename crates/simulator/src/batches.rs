//! The endpoints under `/v1/messages/batches`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{TimeDelta, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::app::App;
use super::batch::{Batch, Item, Requests};
use super::flags::duration;
use super::gate;
use super::held::held;
use super::page::{self, Query};
use super::params::Params;
use super::refusal::Refusal;
use super::results::Download;

/// The most requests that a batch may hold, by the API's guide to batches.
const REQUESTS: usize = 100_000;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/messages/batches", get(list))
        .route("/v1/messages/batches/{id}", get(retrieve).delete(delete))
        .route("/v1/messages/batches/{id}/cancel", post(cancel))
        .route("/v1/messages/batches/{id}/results", get(results))
}

/// Begins a batch that shows itself as `age` old and ends by itself. Returns its object.
pub(super) fn begin(
    app: &Arc<App>,
    headers: &HeaderMap,
    requests: Requests,
    age: Duration,
    lasts: Duration,
) -> Value {
    let id = app.mint.id("msgbatch_");
    let created_at = Utc::now() - TimeDelta::from_std(age).unwrap_or_default();
    let batch = Batch::new(id.clone(), requests, app.mint.seed, app.settings.shares, created_at, lasts);
    let object = batch.object(&results_url(app, headers, &id));
    held(&app.batches).insert(batch);
    if lasts.is_zero() {
        end(app, &id);
    } else {
        app.later(lasts, move |app| _ = end(app, &id));
    }
    object
}

/// Ends a batch and sends a webhook, which the real API does not do so far. Returns false if there is no such batch, or it
/// had ended already.
pub(super) fn end(app: &App, id: &str) -> bool {
    let ended = held(&app.batches).get_mut(id).is_some_and(Batch::end);
    if ended {
        app.emit("batch.completed", id, Map::new());
    }
    ended
}

async fn retrieve(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    app.ask(&id)?;
    let batch = find(&app, &id)?;
    Ok(Json(batch.object(&results_url(&app, &headers, &id))))
}

async fn list(State(app): State<Arc<App>>, query: Query, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let limit = query.limit(20, 1000)?;
    let batches = held(&app.batches);
    let place = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(id) => match batches.place(id) {
            Some(place) => Ok(Some(place)),
            None => Err(Refusal::invalid(format!("{name}: there is no batch {id:?}"))),
        },
    };
    let (page, more) = batches.page(place("after_id")?, place("before_id")?, limit);
    let objects = page.into_iter().map(|batch| batch.object(&results_url(&app, &headers, &batch.id)));
    Ok(Json(page::by_id(objects.collect(), more)))
}

/// The API's documents do not say how it answers the cancelling of an ended batch. Here it is a 400.
async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let mut batches = held(&app.batches);
    let batch = batches.get_mut(&id).ok_or_else(|| Refusal::not_found(&id))?;
    if batch.ended_at.is_some() {
        return Err(Refusal::invalid(format!("Batch {id} has already ended.")));
    }
    batch.cancel();
    let object = batch.object(&results_url(&app, &headers, &id));
    drop(batches);
    app.later(duration(app.settings.cancel_seconds), move |app| _ = end(app, &id));
    Ok(Json(object))
}

async fn delete(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    if find(&app, &id)?.ended_at.is_none() {
        return Err(Refusal::invalid(format!("Batch {id} has not ended: cancel it first.")));
    }
    held(&app.batches).remove(&id);
    Ok(Json(json!({"id": id, "type": "message_batch_deleted"})))
}

async fn results(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let batch = find(&app, &id)?;
    if batch.ended_at.is_none() {
        return Err(Refusal::invalid(format!("Batch {id} has not ended: there are no results yet.")));
    }
    if batch.archived() {
        return Err(Refusal::not_found(&format!(
            "{}: the results are no longer available; it",
            request.uri().path()
        )));
    }
    let faults = app.faults();
    if let Some(elsewhere) = &faults.results_redirect {
        return Ok((StatusCode::FOUND, [(header::LOCATION, elsewhere.clone())]).into_response());
    }
    let cut = batch.cut_downloads < faults.results_cut_downloads;
    if cut && let Some(batch) = held(&app.batches).get_mut(&id) {
        batch.cut_downloads += 1;
    }
    let download = Download::new(batch, &app.settings, cut.then_some(&faults));
    let pause = Duration::from_millis(faults.results_pause_milliseconds);
    Ok(([(header::CONTENT_TYPE, "application/x-jsonl")], Body::from_stream(download.stream(pause)))
        .into_response())
}

fn find(app: &App, id: &str) -> Result<Batch, Refusal> {
    held(&app.batches).get_mut(id).cloned().ok_or_else(|| Refusal::not_found(id))
}

/// The absolute URL of a batch's results, at the origin that the client used, unless the settings name another.
pub(super) fn results_url(app: &App, headers: &HeaderMap, id: &str) -> String {
    let foreign = held(&app.faults).results_origin.clone();
    let origin = foreign.or_else(|| app.settings.public_url.clone());
    let origin = origin.unwrap_or_else(|| {
        format!("http://{}", gate::text(headers, header::HOST.as_str()).unwrap_or("localhost"))
    });
    format!("{}/v1/messages/batches/{id}/results", origin.trim_end_matches('/'))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create<'a> {
    #[serde(borrow)]
    requests: Vec<CreateItem<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateItem<'a> {
    custom_id: String,
    #[serde(borrow)]
    params: &'a RawValue,
}

/// Reads and checks the ids, the number and the shape of the requests. A flaw in `params` shows only in the results.
pub(super) fn read_requests(body: &[u8], version: &str) -> Result<Vec<Item>, Refusal> {
    let create: Create<'_> =
        serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))?;
    if create.requests.is_empty() || create.requests.len() > REQUESTS {
        return Err(Refusal::invalid(format!("requests: must hold 1 to {REQUESTS} requests")));
    }
    let mut seen = HashSet::with_capacity(create.requests.len());
    for (index, request) in create.requests.iter().enumerate() {
        if !is_custom_id(&request.custom_id) {
            let rule = "should match '^[a-zA-Z0-9_-]{1,64}$'";
            return Err(Refusal::invalid(format!("requests.{index}.custom_id: {rule}")));
        }
        if !seen.insert(request.custom_id.as_str()) {
            let id = &request.custom_id;
            return Err(Refusal::invalid(format!("requests.{index}.custom_id: {id:?} is there twice")));
        }
    }
    drop(seen);
    let mut last_model: Arc<str> = Arc::from("");
    let item = |request: CreateItem<'_>| {
        let params = Params::read(request.params.get());
        let flaw =
            params.as_ref().map_or_else(|flaw| Some(flaw.clone()), |params| params.flaw_in_batch(version));
        let model = params.as_ref().map_or("", |params| params.model.as_str());
        // Nearly all batches name a single model, so the items share its name.
        if *last_model != *model {
            last_model = Arc::from(model);
        }
        Item { custom_id: request.custom_id.into(), model: last_model.clone(), flaw }
    };
    Ok(create.requests.into_iter().map(item).collect())
}

fn is_custom_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
