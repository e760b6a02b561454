//! The agent that a session or a deployment runs, as its object shows it.

use serde_json::{Map, Value, json};

use super::kinds::{Kind, kind as kind_named};
use super::store::Store;

/// Sessions and deployments name an agent by its id; what comes out is the agent as it was then.
pub(super) fn resolve_agent(store: &Store, kind: &Kind, asked: &mut Map<String, Value>) {
    if !matches!(kind.name, "session" | "deployment") {
        return;
    }
    let given = asked.get("agent").cloned().unwrap_or_default();
    let id = given.as_str().or_else(|| given["id"].as_str()).unwrap_or("agent_01simulated");
    // Nobody has to make an agent first; one that is not there is as an agent is made without a word.
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
