//! Turns the fields of a create request into the fields of the object.

use serde_json::{Map, Value, json};

/// Fields of a credential that requests carry and answers never show.
const SECRETS: [&str; 6] =
    ["token", "access_token", "refresh_token", "client_secret", "secret_value", "value"];

/// Removes the secrets, and writes a model that is given by name as an object.
pub(super) fn normalize(asked: &mut Map<String, Value>) {
    if let Some(auth) = asked.get_mut("auth") {
        hide(auth);
    }
    if let Some(Value::String(model)) = asked.get("model") {
        asked.insert("model".to_owned(), json!({"id": model}));
    }
}

/// Fills in the fields of nested objects that the request left out: the SDK's types demand all of them.
pub(super) fn complete(body: &mut Map<String, Value>) {
    if let Some(config) = body.get_mut("config").filter(|config| config["type"] == "cloud") {
        fill(&mut config["networking"], json!({"type": "unrestricted"}));
        if config["networking"]["type"] == "limited" {
            let closed =
                json!({"allow_mcp_servers": false, "allow_package_managers": false, "allowed_hosts": []});
            fill(&mut config["networking"], closed);
        }
        let none =
            json!({"type": "packages", "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": []});
        fill(&mut config["packages"], none);
    }
    if let Some(auth) = body.get_mut("auth").filter(|auth| auth["type"] == "environment_variable") {
        // The API's documents do not say where a secret goes if the request gives no location.
        fill(&mut auth["injection_location"], json!({"body": true, "header": true}));
    }
}

/// Adds the default fields that the object lacks or that are null.
fn fill(object: &mut Value, defaults: Value) {
    if object.is_null() {
        *object = defaults;
    } else if let (Value::Object(fields), Value::Object(defaults)) = (object, defaults) {
        for (name, value) in defaults {
            let field = fields.entry(name).or_insert(Value::Null);
            if field.is_null() {
                *field = value;
            }
        }
    }
}

fn hide(auth: &mut Value) {
    if let Value::Object(fields) = auth {
        fields.retain(|name, _| !SECRETS.contains(&name.as_str()));
        fields.values_mut().for_each(hide);
    }
}
