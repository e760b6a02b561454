//! What a request asks a new object to be, made into what the object says of itself.

use serde_json::{Map, Value, json};

use super::kinds::Kind;
use super::store::Store;

/// Fields of a credential that go in and never come out.
const SECRETS: [&str; 6] =
    ["token", "access_token", "refresh_token", "client_secret", "secret_value", "value"];

/// Sessions and deployments name an agent by its id; what comes out is the agent as it was then.
pub(super) fn resolve_agent(store: &Store, kind: &Kind, asked: &mut Map<String, Value>) {
    if !matches!(kind.name, "session" | "deployment") {
        return;
    }
    let given = asked.get("agent").cloned().unwrap_or_default();
    let id = given.as_str().or_else(|| given["id"].as_str()).unwrap_or("agent_01simulated");
    let whole = store.get(id).map(|agent| agent.body.clone()).unwrap_or_default();
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

/// Takes the secrets out, and spells a model that is given by its name alone as an object.
pub(super) fn normalize(asked: &mut Map<String, Value>) {
    if let Some(auth) = asked.get_mut("auth") {
        hide(auth);
    }
    if let Some(Value::String(model)) = asked.get("model") {
        asked.insert("model".to_owned(), json!({"id": model}));
    }
}

fn hide(auth: &mut Value) {
    if let Value::Object(fields) = auth {
        fields.retain(|name, _| !SECRETS.contains(&name.as_str()));
        fields.values_mut().for_each(hide);
    }
}
