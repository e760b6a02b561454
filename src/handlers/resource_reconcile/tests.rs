//! What each kind of object tells.

use chrono::DateTime;
use serde_json::{Value, json};

use super::changes::{Explained, is_final, of};
use super::kinds::{LISTED, Listed};
use super::page::{self, Shown};

fn listed(resource: &str) -> &'static Listed {
    LISTED.iter().find(|listed| listed.resource == resource).unwrap()
}

fn shown(object: Value) -> Shown {
    page::shown(serde_json::value::to_raw_value(&object).unwrap()).unwrap()
}

fn explained(resource: &str, object: Value) -> Explained {
    let shown = shown(object);
    Explained {
        status: shown.object.status.clone(),
        settings: listed(resource).settings_of(&shown.value),
        updated_at: shown.object.updated_at,
        archived_at: shown.object.archived_at,
        explained_until: None,
        is_final: is_final(listed(resource), &shown),
        is_gone: false,
        listed_at: DateTime::UNIX_EPOCH,
        told: Default::default(),
    }
}

fn told(resource: &str, before: Option<Value>, now: Value) -> Vec<String> {
    let before = before.map(|object| explained(resource, object));
    let changes = of(listed(resource), before.as_ref(), &shown(now), DateTime::UNIX_EPOCH);
    changes.into_iter().map(|change| change.event_type).collect()
}

/// An object of the first hour, changed by the second argument.
fn object(at: u32, more: &Value) -> Value {
    let mut object = json!({ "id": "x", "created_at": "2026-11-01T01:00:00Z",
                             "updated_at": format!("2026-11-01T{at:02}:00:00Z"), "archived_at": null });
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

#[test]
fn each_kind_tells_what_its_webhooks_would() {
    let none = json!({});
    let archived = json!({ "archived_at": "2026-11-01T02:00:00Z" });
    for (resource, before, now, expected) in [
        ("vault", None, object(1, &none), &["vault.created"][..]),
        ("vault", None, object(2, &archived), &["vault.created", "vault.archived"]),
        ("vault", Some(object(1, &none)), object(2, &archived), &["vault.archived"]),
        ("vault", Some(object(1, &none)), object(2, &json!({ "display_name": "new" })), &[]),
        (
            "agent",
            Some(object(1, &json!({ "version": 1 }))),
            object(2, &json!({ "version": 2 })),
            &["agent.updated"],
        ),
        (
            "environment",
            Some(object(1, &none)),
            object(2, &json!({ "name": "new" })),
            &["environment.updated"],
        ),
        (
            "deployment",
            Some(object(1, &json!({ "status": "active" }))),
            object(2, &json!({ "status": "paused" })),
            &["deployment.paused"],
        ),
        (
            "deployment",
            Some(object(1, &json!({ "status": "paused" }))),
            object(2, &json!({ "status": "active" })),
            &["deployment.unpaused"],
        ),
        (
            "deployment_run",
            None,
            object(1, &json!({ "session_id": "sesn_1" })),
            &["deployment_run.started", "deployment_run.succeeded"],
        ),
        (
            "deployment_run",
            Some(object(1, &none)),
            object(1, &json!({ "error": { "type": "unknown_error" } })),
            &["deployment_run.failed"],
        ),
        (
            "session",
            Some(object(1, &json!({ "status": "idle" }))),
            object(2, &json!({ "status": "running" })),
            &[],
        ),
        (
            "session",
            Some(object(1, &json!({ "title": "a" }))),
            object(2, &json!({ "title": "b" })),
            &["session.updated"],
        ),
    ] {
        assert_eq!(told(resource, before, now.clone()), expected, "{resource} {now}");
    }
}

#[test]
fn threads_but_the_primary_one_tell_of_themselves() {
    let thread = |at, status: &str| object(at, &json!({ "parent_thread_id": "sthr_0", "status": status }));
    let told = |before, now| told("session_thread", before, now);
    assert_eq!(told(None, thread(1, "running")), ["session.thread_created"]);
    assert_eq!(told(None, thread(1, "idle")), ["session.thread_created", "session.thread_idled"]);
    assert_eq!(
        told(Some(thread(1, "idle")), thread(2, "idle")),
        ["session.thread_idled"],
        "it ran meanwhile"
    );
    assert_eq!(told(Some(thread(1, "idle")), thread(2, "terminated")), ["session.thread_terminated"]);
    assert!(told(None, object(1, &json!({ "parent_thread_id": null, "status": "idle" }))).is_empty());
}
