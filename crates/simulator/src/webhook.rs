//! An event, as the simulator's webhook deliveries carry it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::dice::Mint;

/// The organization that every object and webhook belongs to.
pub(super) const ORGANIZATION: &str = "org_01simulated";
/// The workspace that every key belongs to.
pub(super) const WORKSPACE: &str = "wrkspc_01simulated";

/// An event to deliver.
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: String,
    created_at: DateTime<Utc>,
    data: Map<String, Value>,
    top_level_type: bool,
}

/// An event described in a request; fields that are left out get defaults.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Draft {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    #[serde(default)]
    data: Map<String, Value>,
    event_id: Option<String>,
    created_at: Option<DateTime<Utc>>,
}

/// Where events come from.
pub(super) struct Origin<'a> {
    pub(super) mint: &'a Mint,
    pub(super) workspace_id: &'a str,
    pub(super) top_level_type: bool,
}

impl Event {
    /// An event that happens now to the object with this id.
    pub(super) fn new(origin: &Origin<'_>, kind: &str, id: &str, extra: Map<String, Value>) -> Event {
        let Origin { mint, workspace_id, top_level_type } = *origin;
        let mut data = Map::new();
        if top_level_type {
            let name = if kind.starts_with("batch.") { "batch_id" } else { "id" };
            data.insert(name.to_owned(), id.into());
        } else {
            data.insert("type".to_owned(), kind.into());
            data.insert("id".to_owned(), id.into());
            data.insert("organization_id".to_owned(), ORGANIZATION.into());
            // These objects belong to the organization and to no workspace.
            if !kind.starts_with("external_key.") && !kind.starts_with("user_profile.") {
                data.insert("workspace_id".to_owned(), workspace_id.into());
            }
        }
        data.extend(extra);
        let id = if top_level_type { mint.id("evt_") } else { mint.event_id() };
        Event { id, kind: kind.to_owned(), created_at: Utc::now(), data, top_level_type }
    }

    /// The event that a request describes.
    pub(super) fn from_draft(origin: &Origin<'_>, draft: Draft) -> Event {
        let event = Event::new(origin, &draft.kind, &draft.id, draft.data);
        Event {
            id: draft.event_id.unwrap_or(event.id),
            created_at: draft.created_at.unwrap_or(event.created_at),
            ..event
        }
    }

    /// The body of its deliveries, the same for every attempt.
    pub(super) fn body(&self, id: &str) -> Vec<u8> {
        let kind = if self.top_level_type { self.kind.as_str() } else { "event" };
        let created_at = self.created_at.to_rfc3339_opts(SecondsFormat::Micros, true);
        json!({"type": kind, "id": id, "created_at": created_at, "data": self.data}).to_string().into_bytes()
    }
}
