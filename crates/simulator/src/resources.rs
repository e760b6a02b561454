//! The endpoints of all kinds of objects, made from the table of kinds. Changes send webhooks.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{MethodFilter, MethodRouter, post};
use axum::{Json, Router};
use chrono::Utc;
use serde_json::{Value, json};

use super::agents::resolve_agent;
use super::app::App;
use super::call::{Answer, Call, endpoint};
use super::held::held;
use super::kinds::KINDS;
use super::page::Query;
use super::refusal::Refusal;
use super::store::{Object, timestamp};
use super::{asked, sessions};

pub(super) fn routes() -> Router<Arc<App>> {
    let router = KINDS.iter().fold(Router::new(), |router, kind| {
        let verb = |name: &str, method: MethodFilter, answer: fn(&Call) -> Answer| match kind
            .verbs
            .contains(&name)
        {
            true => endpoint(kind, method, answer),
            false => MethodRouter::new(),
        };
        let objects =
            endpoint(kind, MethodFilter::GET, list).merge(verb("create", MethodFilter::POST, create));
        let object = endpoint(kind, MethodFilter::GET, retrieve)
            .merge(verb("update", MethodFilter::POST, update))
            .merge(verb("delete", MethodFilter::DELETE, remove));
        router
            .route(kind.path, objects)
            .route(&format!("{}/{{id}}", kind.path), object)
            .route(&format!("{}/{{id}}/archive", kind.path), verb("archive", MethodFilter::POST, archive))
    });
    router.route("/v1/organizations/external_keys/{id}/validate", post(validate))
}

fn list(call: &Call) -> Answer {
    let limit = call.query.limit(call.kind.limits.0, call.kind.limits.1)?;
    let store = held(&call.app.store);
    let matching = store.all(call.kind, call.parent()).filter(|(_, object)| matches(&call.query, object));
    let items = matching.map(|(place, object)| (place, object.value())).collect();
    call.app.follow(&call.query)?;
    let faults = call.app.faults();
    Ok(Json(match faults.lists_by_id {
        true => call.query.page_by_id(items, limit)?,
        false => call.query.page_with_pauses(items, limit, faults.empty_pages)?,
    }))
}

/// Does the object pass the filters of a list?
fn matches(query: &Query, object: &Object) -> bool {
    let field = |name: &str| object.body.get(name).unwrap_or(&Value::Null);
    let archived = field("archived_at").is_string() && query.get("include_archived") != Some("true");
    let mut statuses = query.all("statuses[]").peekable();
    let is = |name: &str, value: &Value| query.get(name).is_none_or(|wanted| value.as_str() == Some(wanted));
    !archived
        && (statuses.peek().is_none() || statuses.any(|status| field("status") == status))
        && is("status", field("status"))
        && is("deployment_id", field("deployment_id"))
        && is("agent_id", &field("agent")["id"])
        && is("trigger_type", &field("trigger_context")["type"])
        && query.get("has_error").is_none_or(|wanted| (wanted == "true") == field("error").is_object())
        && query.has_time("created_at", field("created_at"))
}

fn create(call: &Call) -> Answer {
    let mut asked = call.fields()?;
    {
        let store = held(&call.app.store);
        if let Some(parent) = call.parent() {
            store.get(parent).ok_or_else(|| Refusal::not_found(parent))?;
        }
        resolve_agent(&store, call.kind, &mut asked);
    }
    asked::normalize(&mut asked);
    let first_events = asked.get("initial_events").and_then(Value::as_array).cloned();
    let object = Object::new(&call.app.mint, call.kind, call.parent(), asked);
    held(&call.app.store).insert(object.clone());
    announce(&call.app, &object, "created");
    if call.kind.name == "session" {
        sessions::begin(&call.app, object.id(), first_events.unwrap_or_default());
    }
    retrieve_now(&call.app, object.id())
}

fn retrieve(call: &Call) -> Answer {
    call.app.ask(call.id())?;
    Ok(Json(call.change(|_| {})?.value()))
}

/// Answers with the object, even if a fault makes GETs answer 404.
fn retrieve_now(app: &App, id: &str) -> Answer {
    held(&app.store).get(id).map(|object| Json(object.value())).ok_or_else(|| Refusal::not_found(id))
}

fn update(call: &Call) -> Answer {
    let mut changes = call.fields()?;
    asked::normalize(&mut changes);
    let mut changed = false;
    let object = call.change(|object| {
        changed = object.update(changes);
        if let Some(version) = object.body.get("version").and_then(Value::as_u64).filter(|_| changed) {
            object.set("version", version + 1);
        }
    })?;
    // An update that changes nothing sends no webhook.
    if changed {
        announce(&call.app, &object, "updated");
    }
    Ok(Json(object.value()))
}

fn archive(call: &Call) -> Answer {
    let now = timestamp(Utc::now());
    let object = call.change(|object| {
        object.set("archived_at", now.clone());
        object.set("updated_at", now.clone());
    })?;
    match call.kind.name {
        "session" => sessions::terminate(&call.app, call.id()),
        "session_thread" => sessions::tell_of_thread(&call.app, &object, "session.thread_terminated"),
        _ => {}
    }
    announce(&call.app, &object, "archived");
    {
        // Its child objects are deleted too, with a webhook if their kind has one.
        let mut store = held(&call.app.store);
        for child in store.children(call.id()) {
            if let Some(child) = store.get_mut(&child) {
                child.set("archived_at", now.clone());
                announce(&call.app, child, "archived");
            }
        }
    }
    retrieve_now(&call.app, call.id())
}

fn remove(call: &Call) -> Answer {
    let mut store = held(&call.app.store);
    let object = store.find(call.kind, call.parent(), call.id())?.clone();
    for child in store.children(call.id()) {
        if let Some(child) = store.remove(&child) {
            announce(&call.app, &child, "deleted");
        }
    }
    store.remove(call.id());
    announce(&call.app, &object, "deleted");
    Ok(Json(json!({"id": call.id(), "type": format!("{}_deleted", call.kind.name)})))
}

/// Sends the webhook of a change, if the kind has one.
fn announce(app: &App, object: &Object, change: &str) {
    if object.kind.webhooks.contains(&change) {
        let parent = object.kind.parent.zip(object.parent());
        let extra = parent.map(|(field, parent)| (field.to_owned(), parent.into())).into_iter().collect();
        app.emit(&format!("{}.{change}", object.kind.name), object.id(), extra);
    }
}

async fn validate(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let _ = retrieve_now(&app, &id)?;
    Ok(Json(json!({"type": "external_key_validation", "status": "success", "error": null})))
}
