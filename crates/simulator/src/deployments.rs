//! The endpoints of deployments: pause, unpause, and run, by hand or by schedule.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::{MethodFilter, post};
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::agents::resolve_agent;
use super::app::App;
use super::call::{Answer, Call, endpoint};
use super::held::held;
use super::kinds::kind;
use super::refusal::Refusal;
use super::store::{Object, timestamp};
use super::{control, sessions};

pub(super) fn routes() -> Router<Arc<App>> {
    let router = Router::new().route("/_simulator/deployments/{id}/run", post(run_by_schedule));
    let Some(kind) = kind("deployment") else { return router };
    router
        .route("/v1/deployments/{id}/pause", endpoint(kind, MethodFilter::POST, pause))
        .route("/v1/deployments/{id}/unpause", endpoint(kind, MethodFilter::POST, unpause))
        .route("/v1/deployments/{id}/run", endpoint(kind, MethodFilter::POST, run_by_hand))
}

fn pause(call: &Call) -> Answer {
    set_status(call, "paused", json!({"type": "manual"}))
}

fn unpause(call: &Call) -> Answer {
    set_status(call, "active", Value::Null)
}

fn set_status(call: &Call, status: &str, paused_reason: Value) -> Answer {
    let deployment = call.change(|deployment| {
        deployment.set("status", status);
        deployment.set("paused_reason", paused_reason);
        deployment.set("updated_at", timestamp(Utc::now()));
    })?;
    let change = if status == "paused" { "deployment.paused" } else { "deployment.unpaused" };
    call.app.emit(change, call.id(), Map::new());
    Ok(Json(deployment.value()))
}

/// A run by hand sends no webhooks.
fn run_by_hand(call: &Call) -> Answer {
    let deployment = call.change(|_| {})?;
    let run = run(&call.app, &deployment, json!({"type": "manual"}), None)?;
    Ok(Json(run.value()))
}

/// A request for a run by schedule.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Schedule {
    /// If set, the run creates no session and fails with an error of this type.
    error: Option<String>,
}

async fn run_by_schedule(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Answer {
    let schedule: Schedule = if body.is_empty() { Schedule::default() } else { control::read(&body)? };
    let deployment = held(&app.store).get(&id).cloned().ok_or_else(|| Refusal::not_found(&id))?;
    let context = json!({"type": "schedule", "scheduled_at": timestamp(Utc::now())});
    let run = run(&app, &deployment, context, schedule.error.as_deref())?;
    app.emit("deployment_run.started", run.id(), Map::new());
    let end = if schedule.error.is_some() { "deployment_run.failed" } else { "deployment_run.succeeded" };
    app.emit(end, run.id(), Map::new());
    Ok(Json(run.value()))
}

/// Makes and stores a run, with its session, or with the error because of which it has none.
fn run(app: &Arc<App>, deployment: &Object, context: Value, error: Option<&str>) -> Result<Object, Refusal> {
    let kind_of = |name: &str| kind(name).ok_or_else(Refusal::internal);
    let field = |name: &str| deployment.body.get(name).cloned().unwrap_or_default();
    let mut fields = Map::new();
    fields.insert("deployment_id".to_owned(), deployment.id().into());
    fields.insert("agent".to_owned(), field("agent"));
    fields.insert("trigger_context".to_owned(), context);
    if let Some(error) = error {
        fields.insert("error".to_owned(), json!({"type": error, "message": "No session could be created."}));
    } else {
        let session = kind_of("session")?;
        let mut asked = Map::new();
        for name in ["agent", "environment_id", "vault_ids", "resources", "budget"] {
            asked.insert(name.to_owned(), field(name));
        }
        asked.insert("deployment_id".to_owned(), deployment.id().into());
        resolve_agent(&held(&app.store), session, &mut asked);
        let session = Object::new(&app.mint, session, None, asked);
        fields.insert("session_id".to_owned(), session.id().into());
        let id = session.id().to_owned();
        held(&app.store).insert(session);
        app.emit("session.created", &id, Map::new());
        sessions::begin(app, &id, field("initial_events").as_array().cloned().unwrap_or_default());
    }
    let run = Object::new(&app.mint, kind_of("deployment_run")?, None, fields);
    held(&app.store).insert(run.clone());
    Ok(run)
}
