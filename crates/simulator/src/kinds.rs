//! The kinds of objects of the API, in one table: their paths, and what a client can do with them.
//!
//! Paths, beta headers and answers to deletes are those of the official Python SDK 2.12.0 (`resources/beta`).

/// The beta header that everything around sessions requires.
const MANAGED_AGENTS: Option<&str> = Some("managed-agents-2026-04-01");
/// The beta header that memory stores require.
const AGENT_MEMORY: Option<&str> = Some("agent-memory-2026-07-22");

/// One kind of object.
pub(super) struct Kind {
    /// The object's `type`, and how its webhooks begin.
    pub(super) name: &'static str,
    /// The path of the list; `{parent}` stands for the id of the parent object.
    pub(super) path: &'static str,
    /// The prefix of its ids.
    pub(super) prefix: &'static str,
    /// The beta header without which the path does not exist.
    pub(super) beta: Option<&'static str>,
    /// The field with the id of the parent object.
    pub(super) parent: Option<&'static str>,
    /// What a client can do with it: any of `create`, `update`, `archive`, `delete`.
    pub(super) verbs: &'static [&'static str],
    /// The changes that send a webhook, named by the end of its type.
    pub(super) webhooks: &'static [&'static str],
    /// Items of a page: by default, and at most.
    pub(super) limits: (usize, usize),
    /// The fields of a new object that the request leaves out, as JSON.
    pub(super) defaults: &'static str,
}

const ALL_VERBS: &[&str] = &["create", "update", "archive", "delete"];

/// All kinds but batches, which have a module of their own.
pub(super) static KINDS: [Kind; 11] = [
    Kind {
        name: "session",
        path: "/v1/sessions",
        prefix: "sesn_",
        beta: MANAGED_AGENTS,
        parent: None,
        verbs: ALL_VERBS,
        webhooks: &["created", "updated", "archived", "deleted"],
        limits: (20, 1000),
        defaults: r#"{"status":"idle","title":null,"environment_id":"env_01simulated","vault_ids":[],"deployment_id":null,
            "resources":[],"metadata":{},"outcome_evaluations":[],"budget":null,"archived_at":null,
            "stats":{"active_seconds":0,"duration_seconds":0},"usage":{"input_tokens":0,"output_tokens":0}}"#,
    },
    Kind {
        name: "session_thread",
        path: "/v1/sessions/{parent}/threads",
        prefix: "sthr_",
        beta: MANAGED_AGENTS,
        parent: Some("session_id"),
        verbs: &["archive"],
        webhooks: &[],
        limits: (1000, 1000),
        defaults: r#"{"parent_thread_id":null,"status":"idle","stats":null,"usage":null,"workflow_run_id":null,"archived_at":null}"#,
    },
    Kind {
        name: "vault",
        path: "/v1/vaults",
        prefix: "vlt_",
        beta: MANAGED_AGENTS,
        parent: None,
        verbs: ALL_VERBS,
        webhooks: &["created", "archived", "deleted"],
        limits: (20, 100),
        defaults: r#"{"display_name":"","metadata":{},"archived_at":null}"#,
    },
    Kind {
        name: "vault_credential",
        path: "/v1/vaults/{parent}/credentials",
        prefix: "vcrd_",
        beta: MANAGED_AGENTS,
        parent: Some("vault_id"),
        verbs: ALL_VERBS,
        webhooks: &["created", "archived", "deleted"],
        limits: (20, 100),
        defaults: r#"{"display_name":null,"auth":{"type":"static_bearer","mcp_server_url":"https://mcp.example"},"metadata":{},"archived_at":null}"#,
    },
    Kind {
        name: "agent",
        path: "/v1/agents",
        prefix: "agent_",
        beta: MANAGED_AGENTS,
        parent: None,
        // The SDK has no method that deletes an agent, but the webhook exists.
        verbs: ALL_VERBS,
        webhooks: &["created", "updated", "archived", "deleted"],
        limits: (20, 100),
        defaults: r#"{"name":"agent","version":1,"description":null,"model":{"id":"claude-opus-5-5"},"system":null,"tools":[],
            "mcp_servers":[],"skills":[],"multiagent":null,"execution_identity":{"type":"service_account"},"metadata":{},"archived_at":null}"#,
    },
    Kind {
        name: "deployment",
        path: "/v1/deployments",
        prefix: "depl_",
        beta: MANAGED_AGENTS,
        parent: None,
        verbs: ALL_VERBS,
        webhooks: &["created", "updated", "archived", "deleted"],
        limits: (20, 100),
        defaults: r#"{"name":"deployment","description":null,"environment_id":"env_01simulated","status":"active","paused_reason":null,
            "schedule":null,"initial_events":[],"resources":[],"vault_ids":[],"budget":null,"metadata":{},"archived_at":null}"#,
    },
    Kind {
        name: "deployment_run",
        path: "/v1/deployment_runs",
        prefix: "drun_",
        beta: MANAGED_AGENTS,
        parent: None,
        verbs: &[],
        webhooks: &[],
        limits: (20, 1000),
        defaults: r#"{"deployment_id":"depl_01simulated","agent":{"type":"agent","id":"agent_01simulated","version":1},
            "trigger_context":{"type":"manual"},"session_id":null,"error":null}"#,
    },
    Kind {
        name: "environment",
        path: "/v1/environments",
        prefix: "env_",
        beta: MANAGED_AGENTS,
        parent: None,
        verbs: ALL_VERBS,
        webhooks: &["created", "updated", "archived", "deleted"],
        limits: (20, 100),
        defaults: r#"{"name":"environment","description":"","config":{"type":"cloud"},"scope":"organization","metadata":{},"archived_at":null}"#,
    },
    Kind {
        name: "memory_store",
        path: "/v1/memory_stores",
        prefix: "memstore_",
        beta: AGENT_MEMORY,
        parent: None,
        verbs: ALL_VERBS,
        webhooks: &["created", "archived", "deleted"],
        limits: (20, 100),
        defaults: r#"{"name":"memory","description":"","metadata":{},"archived_at":null}"#,
    },
    Kind {
        name: "user_profile",
        path: "/v1/user_profiles",
        prefix: "uprof_",
        beta: None,
        parent: None,
        verbs: &["create", "update", "delete"],
        webhooks: &[],
        limits: (20, 100),
        defaults: r#"{"name":null,"access_type":"application","enforcement_status":"unrestricted","enforcement_actions":[],
            "programs":{},"external_user_details":{},"metadata":{}}"#,
    },
    Kind {
        name: "external_key",
        path: "/v1/organizations/external_keys",
        prefix: "ekey_",
        beta: None,
        parent: None,
        verbs: &["create", "update", "delete"],
        webhooks: &[],
        limits: (20, 100),
        defaults: r#"{"display_name":null,"geo":"us","provider_config":{"type":"aws","kms_arn":"arn:aws:kms:us-east-1:000000000000:key/simulated"},"attachment":{"type":"unattached"},"user_profile_id":null}"#,
    },
];

/// The kind with this name.
pub(super) fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;

    #[test]
    fn the_defaults_of_every_kind_are_an_object() {
        for kind in &KINDS {
            assert!(serde_json::from_str::<Map<String, Value>>(kind.defaults).is_ok(), "{}", kind.name);
        }
    }
}
