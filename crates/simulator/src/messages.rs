//! `POST /v1/messages`: an answer at once, or as a stream of server-sent events.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use super::app::App;
use super::gate::{self, RequestId};
use super::params::Params;
use super::refusal::Refusal;
use super::{control, dice, stream, text};

/// A stream has about this many text deltas, however long its text is.
const DELTAS: usize = 64;
/// The shortest text delta.
const DELTA_BYTES: usize = 24;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/messages", post(create))
}

async fn create(
    State(app): State<Arc<App>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let bytes = gate::body(uri.path(), body).await?;
    let params: Params = control::read(&bytes)?;
    let version = gate::text(&headers, "anthropic-version").unwrap_or_default();
    if let Some(flaw) = params.flaw(version) {
        return Err(Refusal::invalid(flaw));
    }
    let answer = Answer::new(&app, &params, bytes.len());
    if !params.stream {
        return Ok(Json(answer.message()).into_response());
    }
    Ok(stream::response(answer.events(), &app.faults(), app.mint.seed, &request_id))
}

/// What the model says.
struct Answer {
    id: String,
    model: String,
    /// What it thinks first, and the signature of that.
    thinking: Option<(String, String)>,
    text: String,
    tool: Option<Value>,
    stop_reason: &'static str,
    input_tokens: u64,
    output_tokens: u64,
}

impl Answer {
    fn new(app: &App, params: &Params, request_bytes: usize) -> Answer {
        let serial = app.mint.serial();
        // The answer repeats a short prompt, so that a person sees that it was read.
        let prompt: String = params.prompt().chars().take(200).collect();
        let room = usize::try_from(params.max_tokens.saturating_mul(4)).unwrap_or(usize::MAX);
        let text = text::text(&format!("You wrote: {prompt}\n"), app.settings.text_bytes.min(room));
        let thinking = params.is_thinking().then(|| {
            let signature = dice::id(app.mint.seed, "Eq", serial) + "==";
            (format!("The user wrote {} characters.", prompt.chars().count()), signature)
        });
        let tool = params.forced_tool().map(|name| {
            let input = json!({"query": prompt, "limit": 3});
            json!({"type": "tool_use", "id": dice::id(app.mint.seed, "toolu_", serial), "name": name, "input": input})
        });
        let stop_reason = match &tool {
            _ if app.settings.text_bytes > room => "max_tokens",
            Some(_) => "tool_use",
            None => "end_turn",
        };
        Answer {
            id: dice::id(app.mint.seed, "msg_", serial),
            model: params.model.clone(),
            input_tokens: (request_bytes as u64).div_ceil(4),
            output_tokens: text::tokens(&text)
                + thinking.as_ref().map_or(0, |(thinking, _)| text::tokens(thinking))
                + tool.as_ref().map_or(0, |tool| text::tokens(&tool.to_string())),
            thinking,
            text,
            tool,
            stop_reason,
        }
    }

    fn message(&self) -> Value {
        let text =
            (!self.text.is_empty()).then(|| json!({"type": "text", "text": self.text, "citations": null}));
        let thinking = (self.thinking.as_ref()).map(
            |(thinking, signature)| json!({"type": "thinking", "thinking": thinking, "signature": signature}),
        );
        let content: Vec<Value> = thinking.into_iter().chain(text).chain(self.tool.clone()).collect();
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": self.stop_reason, "stop_sequence": null, "stop_details": null,
            "usage": self.usage(self.output_tokens),
        })
    }

    fn usage(&self, output_tokens: u64) -> Value {
        json!({"input_tokens": self.input_tokens, "output_tokens": output_tokens,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "service_tier": "standard"})
    }

    /// The same message as the events of a stream.
    fn events(&self) -> Vec<Value> {
        let mut start = self.message();
        (start["content"], start["stop_reason"], start["usage"]) = (json!([]), Value::Null, self.usage(1));
        let mut events = vec![json!({"type": "message_start", "message": start})];
        let mut index = 0;
        if let Some((thinking, signature)) = &self.thinking {
            let block = json!({"type": "thinking", "thinking": "", "signature": ""});
            events.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
            let thoughts =
                parts(thinking, 10).map(|part| json!({"type": "thinking_delta", "thinking": part}));
            // The signature comes whole, just before the end of the block.
            for delta in thoughts.chain([json!({"type": "signature_delta", "signature": signature})]) {
                events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            events.push(json!({"type": "content_block_stop", "index": index}));
            index += 1;
        }
        if !self.text.is_empty() {
            let block = json!({"type": "text", "text": ""});
            events.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
            events.push(json!({"type": "ping"}));
            for part in parts(&self.text, (self.text.len() / DELTAS).max(DELTA_BYTES)) {
                let delta = json!({"type": "text_delta", "text": part});
                events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            events.push(json!({"type": "content_block_stop", "index": index}));
            index += 1;
        }
        if let Some(tool) = &self.tool {
            let mut block = tool.clone();
            block["input"] = json!({});
            events.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
            // The first piece of the input is empty, as the API's often is.
            for part in [""].into_iter().chain(parts(&tool["input"].to_string(), 10)) {
                let delta = json!({"type": "input_json_delta", "partial_json": part});
                events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            events.push(json!({"type": "content_block_stop", "index": index}));
        }
        let delta = json!({"stop_reason": self.stop_reason, "stop_sequence": null});
        // Cumulative: the output of the whole message, not of the last event.
        let usage = json!({"output_tokens": self.output_tokens});
        events.push(json!({"type": "message_delta", "delta": delta, "usage": usage}));
        events.push(json!({"type": "message_stop"}));
        events
    }
}

/// Splits the text into parts of about this many bytes.
fn parts(text: &str, bytes: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (part, after) = rest.split_at(rest.ceil_char_boundary(bytes));
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_text() {
        let text = text::text("", 1000);

        assert_eq!(parts(&text, 24).collect::<String>(), text);
        assert!(parts(&text, 24).count() > 30);
    }
}
