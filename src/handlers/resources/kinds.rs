//! The one table of what events are about: from the type of an event to the object to ask for, and how.

/// The identifiers that an event carries.
pub(in crate::handlers) use crate::envelope::Subject as Reference;

/// `anthropic-beta` of the managed agents.
pub(in crate::handlers) const MANAGED_AGENTS: &str = "managed-agents-2026-04-01";
/// `anthropic-beta` of the memory stores.
pub(in crate::handlers) const AGENT_MEMORY: &str = "agent-memory-2026-07-22";
/// `anthropic-beta` of the external storage.
const EXTERNAL_STORAGE: &str = "efs-2026-10-01";

/// What is below this belongs to an organization, and is shown to its Admin keys only.
const ORGANIZATIONS: &str = "organizations";

/// A kind of object.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::handlers) struct Kind {
    /// The beginning of the types of its events. The longest that fits an event is its kind.
    pub(in crate::handlers) events: &'static str,
    /// What the API's object calls itself.
    pub(in crate::handlers) resource: &'static str,
    /// Where to ask for it: `{id}` and `{parent}` stand for identifiers.
    path: &'static [&'static str],
    /// Which field of the event is its identifier.
    id: Field,
    /// Which field of the event is the identifier of what it belongs to.
    parent: Option<Field>,
    /// The beta that the API wants named.
    pub(in crate::handlers) beta: Option<&'static str>,
}

/// A field of an event's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    SessionThreadId,
    VaultId,
}

/// Every kind that the API sends events of. Official Python SDK 2.14.0 knows 51 types; these prefixes cover them,
/// and whatever types come to be of the same kinds.
pub(in crate::handlers) const KINDS: &[Kind] = &[
    Kind {
        events: "session.",
        resource: "session",
        path: &["v1", "sessions", "{id}"],
        id: Field::Id,
        parent: None,
        beta: Some(MANAGED_AGENTS),
    },
    // These carry the session as `id`.
    Kind {
        events: "session.thread_",
        resource: "session_thread",
        path: &["v1", "sessions", "{parent}", "threads", "{id}"],
        id: Field::SessionThreadId,
        parent: Some(Field::Id),
        beta: Some(MANAGED_AGENTS),
    },
    Kind {
        events: "vault.",
        resource: "vault",
        path: &["v1", "vaults", "{id}"],
        id: Field::Id,
        parent: None,
        beta: Some(MANAGED_AGENTS),
    },
    Kind {
        events: "vault_credential.",
        resource: "vault_credential",
        path: &["v1", "vaults", "{parent}", "credentials", "{id}"],
        id: Field::Id,
        parent: Some(Field::VaultId),
        beta: Some(MANAGED_AGENTS),
    },
    Kind {
        events: "agent.",
        resource: "agent",
        path: &["v1", "agents", "{id}"],
        id: Field::Id,
        parent: None,
        beta: Some(MANAGED_AGENTS),
    },
    Kind {
        events: "deployment.",
        resource: "deployment",
        path: &["v1", "deployments", "{id}"],
        id: Field::Id,
        parent: None,
        beta: Some(MANAGED_AGENTS),
    },
    Kind {
        events: "deployment_run.",
        resource: "deployment_run",
        path: &["v1", "deployment_runs", "{id}"],
        id: Field::Id,
        parent: None,
        beta: Some(MANAGED_AGENTS),
    },
    Kind {
        events: "environment.",
        resource: "environment",
        path: &["v1", "environments", "{id}"],
        id: Field::Id,
        parent: None,
        beta: Some(MANAGED_AGENTS),
    },
    Kind {
        events: "memory_store.",
        resource: "memory_store",
        path: &["v1", "memory_stores", "{id}"],
        id: Field::Id,
        parent: None,
        beta: Some(AGENT_MEMORY),
    },
    // No beta: naming an older one makes the API leave out what the events are about.
    Kind {
        events: "user_profile.",
        resource: "user_profile",
        path: &["v1", "user_profiles", "{id}"],
        id: Field::Id,
        parent: None,
        beta: None,
    },
    Kind {
        events: "external_key.",
        resource: "external_key",
        path: &["v1", ORGANIZATIONS, "external_keys", "{id}"],
        id: Field::Id,
        parent: None,
        beta: None,
    },
    Kind {
        events: "external_storage.",
        resource: "external_storage",
        // The id may be an ARN, with slashes in it.
        path: &["v1", ORGANIZATIONS, "external_storage", "{id}"],
        id: Field::Id,
        parent: None,
        beta: Some(EXTERNAL_STORAGE),
    },
];

/// The kind of object that an event of this type is about.
pub(in crate::handlers) fn of(event_type: &str) -> Option<&'static Kind> {
    KINDS.iter().filter(|kind| event_type.starts_with(kind.events)).max_by_key(|kind| kind.events.len())
}

/// Does an event of this type say that its object is no more?
pub(in crate::handlers) fn says_deleted(event_type: &str) -> bool {
    event_type.ends_with(".deleted")
}

impl Kind {
    /// Is it shown to an Admin key only?
    pub(in crate::handlers) fn needs_admin_key(&self) -> bool {
        self.path.contains(&ORGANIZATIONS)
    }

    /// What follows `v1` in its paths.
    pub(in crate::handlers) fn part_of_api(&self) -> &'static str {
        self.path.get(1).copied().unwrap_or_default()
    }

    /// Where its objects are listed: `{parent}` stands for an identifier.
    pub(in crate::handlers) fn collection(&self) -> &'static [&'static str] {
        self.path.split_last().map_or(&[], |(_id, collection)| collection)
    }

    /// The object's own identifier.
    pub(in crate::handlers) fn id<'a>(&self, reference: &'a Reference) -> Option<&'a str> {
        self.id.of(reference)
    }

    /// The identifier of what the object belongs to, if it needs one to be asked for.
    pub(in crate::handlers) fn parent<'a>(&self, reference: &'a Reference) -> Option<&'a str> {
        self.parent.and_then(|field| field.of(reference))
    }

    /// Where to ask for it; none, where an identifier that the path needs is missing.
    pub(in crate::handlers) fn path<'a>(&self, reference: &'a Reference) -> Option<Vec<&'a str>> {
        self.path
            .iter()
            .map(|segment| match *segment {
                "{id}" => self.id(reference),
                "{parent}" => self.parent(reference),
                fixed => Some(fixed),
            })
            .collect()
    }
}

impl Field {
    fn of(self, reference: &Reference) -> Option<&str> {
        match self {
            Field::Id => reference.id.as_deref(),
            Field::SessionThreadId => reference.session_thread_id.as_deref(),
            Field::VaultId => reference.vault_id.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Handler as _;
    use crate::handlers::resources::Resources;

    #[test]
    fn the_longest_beginning_decides_the_kind() {
        for (event_type, resource) in [
            ("session.status_idled", Some("session")),
            ("session.thread_idled", Some("session_thread")),
            ("vault.created", Some("vault")),
            ("vault_credential.refresh_failed", Some("vault_credential")),
            ("deployment_run.failed", Some("deployment_run")),
            ("deployment.paused", Some("deployment")),
            ("external_storage.failed", Some("external_storage")),
            ("session.something_of_next_year", Some("session")),
            ("batch.completed", None),
            ("sessions", None),
        ] {
            assert_eq!(of(event_type).map(|kind| kind.resource), resource, "{event_type}");
        }
    }

    #[test]
    fn every_type_that_is_handled_is_of_a_kind_and_every_kind_is_handled() {
        let beginnings =
            Resources::EVENT_TYPES.iter().map(|types| types.strip_suffix('*').unwrap()).collect::<Vec<_>>();

        for beginning in &beginnings {
            assert_eq!(
                of(beginning).map(|kind| kind.events),
                Some(*beginning),
                "no kind has the types of {beginning}"
            );
        }
        for kind in KINDS {
            let is_handled = beginnings.iter().any(|beginning| kind.events.starts_with(beginning));
            assert!(is_handled, "no handler is registered for {}", kind.events);
        }
    }

    #[test]
    fn a_credential_is_asked_for_through_its_vault_and_a_thread_through_its_session() {
        let reference: Reference =
            serde_json::from_str(r#"{"id":"sesn_1","session_thread_id":"sthr_1","vault_id":"vlt_1"}"#)
                .unwrap();
        let path =
            |event_type| of(event_type).and_then(|kind| kind.path(&reference)).map(|path| path.join("/"));
        assert_eq!(path("session.thread_idled").as_deref(), Some("v1/sessions/sesn_1/threads/sthr_1"));
        assert_eq!(path("vault_credential.created").as_deref(), Some("v1/vaults/vlt_1/credentials/sesn_1"));

        let without: Reference = serde_json::from_str(r#"{"id":"vcrd_1"}"#).unwrap();
        assert_eq!(of("vault_credential.created").and_then(|kind| kind.path(&without)), None);
    }
}
