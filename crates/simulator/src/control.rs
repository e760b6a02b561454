//! The endpoints under `/_simulator/`, which the real API does not have: they control the simulator and show what it has seen.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::app::App;
use super::batch::Requests;
use super::batches;
use super::flags::duration;
use super::held::held;
use super::kinds::kind;
use super::page::Query;
use super::refusal::Refusal;
use super::store::Object;
use super::webhook::{Draft, Event};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/_simulator/batches", post(make_batch))
        .route("/_simulator/batches/{id}/end", post(end_batch))
        .route("/_simulator/resources", post(keep))
        .route("/_simulator/resources/{id}", delete(forget))
        .route("/_simulator/events", post(emit))
        .route("/_simulator/faults", get(faults).post(change_faults).delete(reset_faults))
        .route("/_simulator/endpoint", get(endpoint).post(enable))
        .route("/_simulator/deliveries", get(deliveries).delete(forget_deliveries))
        .route("/_simulator/requests", get(requests).delete(forget_requests))
}

/// A request for a batch whose requests are made up.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MakeBatch {
    requests: usize,
    #[serde(default = "default_prefix")]
    custom_id_prefix: String,
    age_seconds: Option<f64>,
    batch_seconds: Option<f64>,
}

fn default_prefix() -> String {
    "request-".to_owned()
}

async fn make_batch(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let make: MakeBatch = read(&body)?;
    let requests = Requests::Made { prefix: make.custom_id_prefix, count: make.requests };
    let age = duration(make.age_seconds.unwrap_or(app.settings.batch_age_seconds));
    let lasts = duration(make.batch_seconds.unwrap_or(app.settings.batch_seconds));
    Ok(Json(batches::begin(&app, &headers, requests, age, lasts)))
}

async fn end_batch(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    batches::end(&app, &id);
    let mut batches = held(&app.batches);
    let batch = batches.get_mut(&id).ok_or_else(|| Refusal::not_found(&id))?;
    Ok(Json(batch.object(&batches::results_url(&app, &headers, &id))))
}

/// Stores the described object; `type` names its kind. Sends no webhook.
async fn keep(State(app): State<Arc<App>>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let fields: Map<String, Value> = read(&body)?;
    let name = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    let kind = kind(name).ok_or_else(|| Refusal::invalid(format!("type: there is no kind {name:?}")))?;
    let object = Object::new(&app.mint, kind, None, fields);
    held(&app.store).insert(object.clone());
    Ok(Json(object.value()))
}

/// Removes an object without a webhook.
async fn forget(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let object = held(&app.store).remove(&id).ok_or_else(|| Refusal::not_found(&id))?;
    Ok(Json(object.value()))
}

async fn emit(State(app): State<Arc<App>>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let event = Event::from_draft(&app.origin(), read::<Draft>(&body)?);
    let answer = json!({"event_id": event.id, "type": event.kind});
    app.send(event);
    Ok(Json(answer))
}

async fn faults(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!(app.faults()))
}

async fn change_faults(State(app): State<Arc<App>>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let changes: Map<String, Value> = read(&body)?;
    let changed = app.faults().with(changes).map_err(|error| Refusal::invalid(error.to_string()))?;
    app.set_faults(changed.clone());
    Ok(Json(json!(changed)))
}

async fn reset_faults(State(app): State<Arc<App>>) -> Json<Value> {
    app.set_faults(app.settings.faults.clone());
    faults(State(app)).await
}

async fn endpoint(State(app): State<Arc<App>>) -> Json<Value> {
    Json(held(&app.endpoint).object(app.settings.webhook_url.as_deref()))
}

async fn enable(State(app): State<Arc<App>>) -> Json<Value> {
    held(&app.endpoint).enable();
    endpoint(State(app)).await
}

async fn deliveries(State(app): State<Arc<App>>, query: Query) -> Result<Json<Value>, Refusal> {
    let (after, limit) = position(&query)?;
    Ok(Json(app.deliveries.page(after, limit)))
}

async fn forget_deliveries(State(app): State<Arc<App>>) -> Json<Value> {
    app.deliveries.clear();
    Json(json!({}))
}

async fn requests(State(app): State<Arc<App>>, query: Query) -> Result<Json<Value>, Refusal> {
    let (after, limit) = position(&query)?;
    Ok(Json(app.requests.page(after, limit)))
}

async fn forget_requests(State(app): State<Arc<App>>) -> Json<Value> {
    app.requests.clear();
    Json(json!({}))
}

/// `after` and `limit` of a journal.
fn position(query: &Query) -> Result<(u64, usize), Refusal> {
    let after = query
        .get("after")
        .map_or(Ok(0), str::parse)
        .map_err(|_| Refusal::invalid("after: must be a number"))?;
    Ok((after, query.limit(10_000, 1_000_000)?))
}

/// Reads a body; the refusal says what is wrong with it.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))
}
