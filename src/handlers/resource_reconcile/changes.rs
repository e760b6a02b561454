//! What changed about an object, by the types of the webhooks that tell of it.
//!
//! The object shows its newest state only. What it does not show (two updates in a row) is one change here, as its handler would
//! fetch the newest state in any case. Sessions keep a history, which `history` reads.

use chrono::{DateTime, Utc};

use super::kinds::Listed;
use super::page::Shown;

/// The state of an object up to which its changes are explained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Explained {
    pub(super) status: Option<String>,
    pub(super) settings: String,
    pub(super) updated_at: Option<DateTime<Utc>>,
    pub(super) archived_at: Option<DateTime<Utc>>,
    pub(super) explained_until: Option<DateTime<Utc>>,
    pub(super) is_final: bool,
    pub(super) is_gone: bool,
}

/// A change that a webhook would tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// As the webhook would have it.
    pub(super) event_type: String,
    pub(super) happened_at: DateTime<Utc>,
    /// Tells it from other changes of the type; none, where it happens to an object once.
    pub(super) which: Option<String>,
}

impl Change {
    pub(super) fn once(event_type: impl Into<String>, happened_at: DateTime<Utc>) -> Self {
        Self { event_type: event_type.into(), happened_at, which: None }
    }

    fn at(event_type: impl Into<String>, happened_at: DateTime<Utc>) -> Self {
        let which = happened_at.timestamp_micros().to_string();
        Self { event_type: event_type.into(), happened_at, which: Some(which) }
    }
}

/// A change of an object, as its event has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The key of its event.
    pub(super) key: String,
    /// The object.
    pub(super) subject: String,
    /// What it belongs to.
    pub(super) parent_id: Option<String>,
    pub(super) change: Change,
}

impl Candidate {
    pub(super) fn of(listed: &Listed, parent_id: Option<&str>, id: &str, change: Change) -> Self {
        let is_thread = listed.resource == "session_thread";
        // Events of a thread have the key of its session.
        let key = parent_id.filter(|_| is_thread).unwrap_or(id);
        Self { key: key.to_owned(), subject: id.to_owned(), parent_id: parent_id.map(str::to_owned), change }
    }
}

/// Is the object done changing?
pub(super) fn is_final(listed: &Listed, shown: &Shown) -> bool {
    match listed.resource {
        "session" | "session_thread" => {
            shown.object.archived_at.is_some() || shown.object.status.as_deref() == Some("terminated")
        }
        "deployment_run" => shown.text("/session_id").is_some() || shown.object.error_type.is_some(),
        _ => false,
    }
}

/// Does the list show an object as it is explained?
pub(super) fn is_explained(listed: &Listed, explained: &Explained, shown: &Shown) -> bool {
    explained.updated_at == shown.object.updated_at
        && explained.archived_at == shown.object.archived_at
        && explained.status == shown.object.status
        && explained.is_final == is_final(listed, shown)
        && !explained.is_gone
}

/// The last change of a session's status, where its history is not to be had.
pub(super) fn of_status(
    explained: Option<&Explained>,
    shown: &Shown,
    looked_at: DateTime<Utc>,
) -> Option<Change> {
    let status = shown
        .object
        .status
        .as_deref()
        .filter(|status| explained.is_none_or(|known| known.status.as_deref() != Some(*status)))?;
    let updated_at = shown.object.updated_at.unwrap_or(looked_at);
    match status {
        "running" => Some(Change::at("session.status_run_started", updated_at)),
        "idle" => Some(Change::at("session.status_idled", updated_at)),
        "rescheduling" => Some(Change::at("session.status_rescheduled", updated_at)),
        "terminated" => Some(Change::once("session.status_terminated", updated_at)),
        _ => None,
    }
}

/// What changed since the object was explained, oldest first; `looked_at` stands for times that it does not show.
pub(super) fn of(
    listed: &Listed,
    explained: Option<&Explained>,
    shown: &Shown,
    looked_at: DateTime<Utc>,
) -> Vec<Change> {
    let created_at = shown.created_at.or(shown.object.updated_at).unwrap_or(looked_at);
    let updated_at = shown.object.updated_at.unwrap_or(looked_at);
    let (status, before) =
        (shown.object.status.as_deref(), explained.and_then(|known| known.status.as_deref()));
    let mut changes = Vec::new();
    match listed.resource {
        "deployment_run" => {
            let was_final = explained.is_some_and(|known| known.is_final);
            if explained.is_none() {
                changes.push(Change::once("deployment_run.started", created_at));
            }
            if !was_final && shown.object.error_type.is_some() {
                changes.push(Change::once("deployment_run.failed", created_at));
            } else if !was_final && is_final(listed, shown) {
                changes.push(Change::once("deployment_run.succeeded", created_at));
            }
        }
        // The primary thread is the session itself, which tells of it.
        "session_thread" if shown.text("/parent_thread_id").is_none() => {}
        "session_thread" => {
            let has_moved = explained.map_or(updated_at > created_at || status == Some("idle"), |known| {
                known.updated_at != shown.object.updated_at || before != status
            });
            if explained.is_none() {
                changes.push(Change::once("session.thread_created", created_at));
            }
            match status {
                Some("idle") if has_moved => changes.push(Change::at("session.thread_idled", updated_at)),
                Some("terminated") if before != status => {
                    changes.push(Change::once("session.thread_terminated", updated_at));
                }
                _ => {}
            }
        }
        resource => {
            match explained {
                None => changes.push(Change::once(format!("{resource}.created"), created_at)),
                Some(known) if known.settings != listed.settings_of(&shown.value) => {
                    changes.push(Change::at(format!("{resource}.updated"), updated_at));
                }
                Some(_) => {}
            }
            if resource == "deployment" && status != before {
                match status {
                    Some("paused") => changes.push(Change::at("deployment.paused", updated_at)),
                    Some("active") if before == Some("paused") => {
                        changes.push(Change::at("deployment.unpaused", updated_at));
                    }
                    _ => {}
                }
            }
            let was_archived = explained.is_some_and(|known| known.archived_at.is_some());
            if let Some(archived_at) = shown.object.archived_at.filter(|_| !was_archived) {
                changes.push(Change::once(format!("{resource}.archived"), archived_at));
            }
        }
    }
    changes
}
