//! Which kinds of objects are listed, and what decides that one of them has changed.

use serde_json::Value;

use crate::handlers::resources::kinds::{KINDS, Kind, Reference};

/// A kind of object that the API lists.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// What the API's object calls itself.
    pub(super) resource: &'static str,
    /// The kind whose objects have lists of these.
    pub(super) parent: Option<&'static str>,
    /// Can it be archived? Then its list has to be asked for what is.
    pub(super) has_archive: bool,
    /// What a client chooses, and an update changes. Times and counts that move by themselves are not in it.
    settings: &'static [&'static str],
}

/// Parents come before what they have. Those of an organization are not here: nobody can tell their changes from their objects.
pub(super) const LISTED: &[Listed] = &[
    Listed {
        resource: "session",
        parent: None,
        has_archive: true,
        settings: &[
            "/title",
            "/metadata",
            "/agent/id",
            "/agent/version",
            "/environment_id",
            "/vault_ids",
            "/resources",
            "/budget",
        ],
    },
    Listed { resource: "session_thread", parent: Some("session"), has_archive: true, settings: &[] },
    Listed { resource: "deployment_run", parent: None, has_archive: false, settings: &[] },
    Listed { resource: "vault", parent: None, has_archive: true, settings: &[] },
    Listed { resource: "vault_credential", parent: Some("vault"), has_archive: true, settings: &[] },
    Listed { resource: "agent", parent: None, has_archive: true, settings: &["/version"] },
    Listed {
        resource: "deployment",
        parent: None,
        has_archive: true,
        settings: &[
            "/name",
            "/description",
            "/agent",
            "/environment_id",
            "/schedule/expression",
            "/schedule/timezone",
            "/initial_events",
            "/resources",
            "/vault_ids",
            "/budget",
            "/metadata",
        ],
    },
    Listed {
        resource: "environment",
        parent: None,
        has_archive: true,
        settings: &["/name", "/description", "/config", "/scope", "/metadata"],
    },
    Listed { resource: "memory_store", parent: None, has_archive: true, settings: &[] },
];

impl Listed {
    /// Where its objects are asked for one by one.
    pub(super) fn kind(&self) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.resource == self.resource)
    }

    /// The identifiers as an event has them.
    pub(super) fn reference(&self, parent_id: Option<&str>, id: &str) -> Reference {
        let (id, parent_id) = (Some(id.to_owned()), parent_id.map(str::to_owned));
        match self.resource {
            "session_thread" => Reference { id: parent_id, session_thread_id: id, ..Reference::default() },
            "vault_credential" => Reference { id, vault_id: parent_id, ..Reference::default() },
            _ => Reference { id, ..Reference::default() },
        }
    }

    /// A digest of what the client chose: it differs if the object was updated.
    pub(super) fn settings_of(&self, object: &Value) -> String {
        use sha2::{Digest, Sha256};
        if self.settings.is_empty() {
            return String::new();
        }
        // A map of `serde_json` is sorted, so equal objects have equal texts.
        let chosen: Vec<&Value> =
            self.settings.iter().map(|path| object.pointer(path).unwrap_or(&Value::Null)).collect();
        hex::encode(Sha256::digest(serde_json::to_vec(&chosen).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_listed_kind_is_one_that_can_be_asked_for_and_parents_come_first() {
        for (place, listed) in LISTED.iter().enumerate() {
            assert!(listed.kind().is_some(), "{}", listed.resource);
            let is_before = |parent| LISTED[..place].iter().any(|earlier| earlier.resource == parent);
            assert!(listed.parent.is_none_or(is_before), "{}", listed.resource);
        }
    }

    #[test]
    fn what_moves_by_itself_is_no_update() {
        let deployment = LISTED.iter().find(|listed| listed.resource == "deployment").unwrap();
        let at = |last_run: &str, name: &str| {
            let schedule = json!({ "expression": "0 3 * * *", "timezone": "UTC", "last_run_at": last_run });
            deployment.settings_of(&json!({ "name": name, "schedule": schedule, "updated_at": last_run }))
        };
        assert_eq!(at("2026-11-01T03:00:00Z", "nightly"), at("2026-11-02T03:00:00Z", "nightly"));
        assert_ne!(at("2026-11-01T03:00:00Z", "nightly"), at("2026-11-01T03:00:00Z", "daily"));
    }
}
