//! What changed about an object, by the types of the webhooks that tell of it.
//!
//! The object shows its newest state only. What it does not show (two updates in a row) is one change here, as its handler would
//! fetch the newest state in any case. Sessions keep a history, which `history` reads.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::kinds::Listed;
use super::page::Shown;
use crate::outbox::missed::TOLERANCE;

/// How far the clocks of the API and of the database may be apart, and the times that webhooks give from those of objects.
pub(super) const APART: TimeDelta = TimeDelta::hours(1);

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
    /// When a list had it in this state last, by the clock of the database.
    pub(super) listed_at: DateTime<Utc>,
    /// For each type of event, when the last webhook was made that told of a change up to this state.
    pub(super) told: HashMap<String, DateTime<Utc>>,
}

impl Explained {
    /// What changed since happened after this, and a webhook of this type that is older tells of an earlier change.
    fn until(&self, event_type: &str) -> DateTime<Utc> {
        let times = [self.updated_at, self.told.get(event_type).copied(), Some(self.listed_at - APART)];
        times.into_iter().flatten().max().unwrap_or(self.listed_at)
    }
}

/// A change that a webhook would tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// As the webhook would have it.
    pub(super) event_type: String,
    /// Of a change that the object does not give a time for, the latest that it can have.
    pub(super) happened_at: DateTime<Utc>,
    /// The earliest that it can have. None: it has a time of its own.
    pub(super) happened_after: Option<DateTime<Utc>>,
    /// Tells it from other changes of the type; none, where it happens to an object once.
    pub(super) which: Option<String>,
}

impl Change {
    pub(super) fn once(event_type: impl Into<String>, happened_at: DateTime<Utc>) -> Self {
        Self { event_type: event_type.into(), happened_at, happened_after: None, which: None }
    }

    /// What the object does not give a time for: it may have changed again since.
    fn by(event_type: impl Into<String>, happened_at: DateTime<Utc>) -> Self {
        let which = happened_at.timestamp_micros().to_string();
        Self { which: Some(which), ..Self::once(event_type, happened_at) }
    }

    /// It happened to an object that was without it at this time, by the clock of the database.
    pub(super) fn after(self, listed_at: DateTime<Utc>) -> Self {
        Self { happened_after: Some(listed_at - APART), ..self }
    }

    /// Is it known only that it happened between two states of its object?
    pub(super) fn is_between(&self) -> bool {
        self.which.is_some() && self.happened_after.is_some()
    }

    /// With the time that the object had not changed by.
    fn since(self, explained: Option<&Explained>, shown: &Shown) -> Self {
        let happened_after = match (explained, &self.which) {
            (Some(known), Some(_)) => Some(known.until(&self.event_type)),
            (Some(known), None) => return self.after(known.listed_at),
            (None, Some(_)) => Some(shown.created_at.unwrap_or(self.happened_at) - TOLERANCE),
            (None, None) => None,
        };
        Self { happened_after, ..self }
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
    let updated_at = changed_by(explained, shown, looked_at);
    let change = match status {
        "running" => Some(Change::by("session.status_run_started", updated_at)),
        "idle" => Some(Change::by("session.status_idled", updated_at)),
        "rescheduling" => Some(Change::by("session.status_rescheduled", updated_at)),
        "terminated" => Some(Change::once("session.status_terminated", updated_at)),
        _ => None,
    };
    change.map(|change| change.since(explained, shown))
}

/// When the newest change had happened: `looked_at` if the object gives no time, or that of an earlier change.
fn changed_by(explained: Option<&Explained>, shown: &Shown, looked_at: DateTime<Utc>) -> DateTime<Utc> {
    let explained_at = explained.and_then(|known| known.updated_at);
    shown.object.updated_at.filter(|updated_at| Some(*updated_at) != explained_at).unwrap_or(looked_at)
}

/// What changed since the object was explained, oldest first; `looked_at` stands for times that it does not show.
pub(super) fn of(
    listed: &Listed,
    explained: Option<&Explained>,
    shown: &Shown,
    looked_at: DateTime<Utc>,
) -> Vec<Change> {
    let created_at = shown.created_at.or(shown.object.updated_at).unwrap_or(looked_at);
    let updated_at = changed_by(explained, shown, looked_at);
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
                Some("idle") if has_moved => changes.push(Change::by("session.thread_idled", updated_at)),
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
                    changes.push(Change::by(format!("{resource}.updated"), updated_at));
                }
                Some(_) => {}
            }
            if resource == "deployment" && status != before {
                match status {
                    Some("paused") => changes.push(Change::by("deployment.paused", updated_at)),
                    Some("active") if before == Some("paused") => {
                        changes.push(Change::by("deployment.unpaused", updated_at));
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
    changes.into_iter().map(|change| change.since(explained, shown)).collect()
}
