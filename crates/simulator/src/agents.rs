//! The agent of a session or a deployment, as its object shows it.

use serde_json::{Map, Value, json};

use super::kinds::{Kind, kind as kind_named};
use super::store::Store;

/// Replaces the id of an agent in a request for a session or deployment by the agent as it is now.
pub(super) fn resolve_agent(store: &Store, kind: &Kind, asked: &mut Map<String, Value>) {
    if !matches!(kind.name, "session" | "deployment") {
        return;
    }
    let given = asked.get("agent").cloned().unwrap_or_default();
    let id = given.as_str().or_else(|| given["id"].as_str()).unwrap_or("agent_01simulated");
    // A client need not make an agent first: an unknown id gets the defaults of a new agent.
    let unknown = || kind_named("agent").and_then(|agent| serde_json::from_str(agent.defaults).ok());
    let whole = store.get(id).map(|agent| agent.body.clone()).or_else(unknown).unwrap_or_default();
    let mut agent = json!({"type": "agent", "id": id, "version": whole.get("version").unwrap_or(&json!(1))});
    if kind.name == "session" {
        let fields =
            ["name", "model", "system", "tools", "mcp_servers", "skills", "multiagent", "execution_identity"];
        for field in fields {
            agent[field] = whole.get(field).cloned().unwrap_or_default();
        }
    }
    asked.insert("agent".to_owned(), agent);
}
