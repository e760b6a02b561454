//! The endpoints of sessions: messages, each of which starts a run, its events, the verdict on an outcome, threads.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::{MethodFilter, post};
use axum::{Json, Router};
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::app::App;
use super::call::{Answer, Call, endpoint};
use super::control;
use super::flags::duration;
use super::held::held;
use super::kinds::kind;
use super::refusal::Refusal;
use super::session_events::{event, outcome_asked, run_again};
use super::store::{Object, timestamp};

pub(super) fn routes() -> Router<Arc<App>> {
    let router = Router::new()
        .route("/_simulator/sessions/{id}", post(steer))
        .route("/_simulator/sessions/{id}/threads", post(make_thread));
    match kind("session") {
        None => router,
        Some(kind) => {
            let events = endpoint(kind, MethodFilter::GET, list_events).merge(endpoint(
                kind,
                MethodFilter::POST,
                send_events,
            ));
            router.route("/v1/sessions/{id}/events", events)
        }
    }
}

/// Begins a new session: gives it its primary thread, and starts a run if it has first events.
pub(super) fn begin(app: &Arc<App>, id: &str, first_events: Vec<Value>) {
    new_thread(app, id, Map::new());
    if !first_events.is_empty() {
        take_in(app, id, first_events);
    }
}

/// Ends a session that was archived or has failed.
pub(super) fn terminate(app: &App, id: &str) {
    // The end of the current run must not change the status any more.
    held(&app.store).histories.entry(id.to_owned()).or_default().run += 1;
    set_status(app, id, "terminated", None);
    let mut store = held(&app.store);
    for thread in store.children(id) {
        if let Some(thread) = store.get_mut(&thread) {
            thread.set("status", "terminated");
        }
    }
}

/// Sends a webhook about a thread, which names the session and the thread.
pub(super) fn tell_of_thread(app: &App, thread: &Object, kind: &str) {
    let extra = [("session_thread_id".to_owned(), thread.id().into())];
    app.emit(kind, thread.parent().unwrap_or_default(), extra.into_iter().collect());
}

fn list_events(call: &Call) -> Answer {
    let limit = call.query.limit(1000, 1000)?;
    call.change(|_| {})?;
    let types: Vec<&str> = call.query.all("types[]").collect();
    let store = held(&call.app.store);
    let events = store.histories.get(call.id()).map(|history| history.events.as_slice()).unwrap_or_default();
    let matching = (1_u64..).zip(events).filter(|(_, event)| {
        (types.is_empty() || types.iter().any(|wanted| event["type"] == *wanted))
            && call.query.has_time("created_at", &event["processed_at"])
    });
    let matching = matching.map(|(place, event)| (place, event.clone())).collect();
    Ok(Json(call.query.page(matching, false, limit)?))
}

fn send_events(call: &Call) -> Answer {
    let status = call.change(|_| {})?.body.get("status").cloned().unwrap_or_default();
    if status == "terminated" {
        return Err(Refusal::invalid(format!("Session {} is terminated.", call.id())));
    }
    let mut fields = call.fields()?;
    match fields.remove("events") {
        Some(Value::Array(events)) => Ok(Json(json!({"data": take_in(&call.app, call.id(), events)}))),
        _ => Err(Refusal::invalid("events: must be an array")),
    }
}

/// Adds the client's events to the history, and starts a run. Returns the events as the history keeps them.
fn take_in(app: &Arc<App>, id: &str, sent: Vec<Value>) -> Vec<Value> {
    let mut taken = Vec::new();
    let mut interrupted = false;
    for mut fields in sent {
        interrupted |= fields["type"] == "user.interrupt";
        outcome_asked(app, id, &mut fields);
        taken.push(event(app, fields));
    }
    {
        let mut store = held(&app.store);
        store.histories.entry(id.to_owned()).or_default().events.extend(taken.clone());
    }
    let run = set_status(app, id, "running", None);
    let delay = if interrupted { 0.0 } else { app.settings.session_seconds };
    let session = id.to_owned();
    let end = move |app: &Arc<App>| {
        if held(&app.store).histories.get(&session).is_some_and(|history| history.run == run) {
            run_again(app, &session, interrupted);
            set_status(app, &session, "idle", Some(json!({"type": "end_turn"})));
        }
    };
    match delay {
        0.0 => end(app),
        delay => app.later(duration(delay), end),
    }
    taken
}

/// Sets a session's status, adds the event to its history, and sends the webhook. Returns the number of the run that
/// begins or goes on.
fn set_status(app: &App, id: &str, status: &str, stop_reason: Option<Value>) -> u64 {
    // The names differ between the session's own events, its status and its webhooks.
    let (own, webhook) = match status {
        "running" => ("session.status_running", "session.status_run_started"),
        "rescheduling" => ("session.status_rescheduled", "session.status_rescheduled"),
        "terminated" => ("session.status_terminated", "session.status_terminated"),
        _ => ("session.status_idle", "session.status_idled"),
    };
    let mut fields = json!({"type": own});
    if own == "session.status_idle" {
        fields["stop_reason"] = stop_reason.unwrap_or_else(|| json!({"type": "end_turn"}));
    }
    let run = {
        let mut store = held(&app.store);
        if let Some(session) = kind("session").and_then(|kind| store.find(kind, None, id).ok()) {
            session.set("status", status);
            session.set("updated_at", timestamp(Utc::now()));
        }
        let history = store.histories.entry(id.to_owned()).or_default();
        history.run += u64::from(status == "running");
        history.events.push(event(app, fields));
        history.run
    };
    app.emit(webhook, id, Map::new());
    run
}

/// A request that sets the state of a session by hand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Steer {
    status: Option<String>,
    stop_reason: Option<Value>,
    /// Events that go into the history before the change of status.
    #[serde(default)]
    events: Vec<Value>,
    /// Other fields of the session to replace, without a webhook.
    #[serde(default)]
    fields: Map<String, Value>,
}

async fn steer(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Answer {
    let steer: Steer = control::read(&body)?;
    {
        let mut store = held(&app.store);
        let object = kind("session").map(|kind| store.find(kind, None, &id)).transpose()?;
        object.map(|session| session.update(steer.fields));
        let events = steer.events.into_iter().map(|fields| event(&app, fields));
        store.histories.entry(id.clone()).or_default().events.extend(events);
    }
    if let Some(status) = &steer.status {
        // The end of the current run must not change the status any more.
        held(&app.store).histories.entry(id.clone()).or_default().run += 1;
        set_status(&app, &id, status, steer.stop_reason);
    }
    held(&app.store).get(&id).map(|object| Json(object.value())).ok_or_else(|| Refusal::not_found(&id))
}

/// Makes a further thread of a session, and sends its webhook.
async fn make_thread(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Answer {
    let mut fields: Map<String, Value> = if body.is_empty() { Map::new() } else { control::read(&body)? };
    let primary = {
        let store = held(&app.store);
        store.children(&id).into_iter().next().ok_or_else(|| Refusal::not_found(&id))?
    };
    fields.entry("parent_thread_id").or_insert_with(|| primary.into());
    let thread = new_thread(&app, &id, fields).ok_or_else(|| Refusal::not_found(&id))?;
    tell_of_thread(&app, &thread, "session.thread_created");
    match thread.body.get("status").and_then(Value::as_str) {
        Some("terminated") => tell_of_thread(&app, &thread, "session.thread_terminated"),
        Some("idle") => tell_of_thread(&app, &thread, "session.thread_idled"),
        _ => {}
    }
    Ok(Json(thread.value()))
}

fn new_thread(app: &App, session: &str, fields: Map<String, Value>) -> Option<Object> {
    let mut thread = Object::new(&app.mint, kind("session_thread")?, Some(session), fields);
    let mut store = held(&app.store);
    let agent = store.get(session)?.body.get("agent").cloned().unwrap_or_default();
    thread.set("agent", agent);
    store.insert(thread.clone());
    Some(thread)
}
