//! The parameters of a message, and the flaws for which the API refuses them.

use serde::Deserialize;
use serde_json::Value;

/// The parameters of a request for a message that the simulator looks at.
#[derive(Deserialize)]
pub(super) struct Params {
    pub(super) model: String,
    pub(super) max_tokens: u64,
    pub(super) messages: Vec<Value>,
    #[serde(default)]
    pub(super) stream: bool,
    #[serde(default)]
    pub(super) tools: Vec<Value>,
    pub(super) tool_choice: Option<Value>,
    thinking: Option<Value>,
    temperature: Option<Value>,
    top_p: Option<Value>,
    top_k: Option<Value>,
    speed: Option<Value>,
}

impl Params {
    /// Reads the parameters from JSON.
    ///
    /// # Errors
    ///
    /// Says which field is missing or has the wrong type.
    pub(super) fn read(json: &str) -> Result<Params, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    /// The text of the last message, or an empty one.
    pub(super) fn prompt(&self) -> &str {
        let content = self.messages.last().map(|message| &message["content"]);
        match content {
            Some(Value::String(text)) => text,
            Some(Value::Array(blocks)) => {
                blocks.iter().rev().find_map(|block| block["text"].as_str()).unwrap_or("")
            }
            _ => "",
        }
    }

    /// The tool that `tool_choice` forces, if any.
    pub(super) fn forced_tool(&self) -> Option<&str> {
        let choice = self.tool_choice.as_ref()?;
        match choice["type"].as_str()? {
            "tool" => choice["name"].as_str(),
            "any" => self.tools.first()?["name"].as_str(),
            _ => None,
        }
    }

    /// Is the model to think before it answers?
    pub(super) fn is_thinking(&self) -> bool {
        let kind = self.thinking.as_ref().and_then(|thinking| thinking["type"].as_str());
        matches!(kind, Some("enabled" | "adaptive"))
    }

    /// What is wrong with the parameters under this version of the API.
    pub(super) fn flaw(&self, version: &str) -> Option<String> {
        if self.model.is_empty() {
            return Some("model: must not be empty".to_owned());
        }
        if self.messages.is_empty() {
            return Some("messages: at least one message is required".to_owned());
        }
        // The guide to migrating to 2026-10-21: sampling parameters are rejected.
        let sampling = [("temperature", &self.temperature), ("top_p", &self.top_p), ("top_k", &self.top_k)];
        match sampling.iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) if version == "2026-10-21" => {
                Some(format!("{name}: is not supported with anthropic-version {version}"))
            }
            _ => None,
        }
    }

    /// What is wrong with the parameters inside a batch, by the guide to batches.
    pub(super) fn flaw_in_batch(&self, version: &str) -> Option<String> {
        if self.stream {
            return Some("stream: is not supported in a batch".to_owned());
        }
        if self.speed.is_some() {
            return Some("speed: is not supported in a batch".to_owned());
        }
        if self.max_tokens == 0 {
            return Some("max_tokens: must be at least 1".to_owned());
        }
        self.flaw(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_parameters_are_wrong_from_2026_10_21_on() {
        let params = Params::read(r#"{"model":"m","max_tokens":1,"messages":[{}],"temperature":1}"#).unwrap();

        assert_eq!(params.flaw("2023-06-01"), None);
        assert!(params.flaw("2026-10-21").is_some_and(|flaw| flaw.starts_with("temperature")));
    }

    #[test]
    fn a_batch_takes_no_streams() {
        let params = Params::read(r#"{"model":"m","max_tokens":1,"messages":[{}],"stream":true}"#).unwrap();

        assert!(params.flaw_in_batch("2023-06-01").is_some());
    }
}
