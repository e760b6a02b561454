//! Streams messages with the client of the library, for the tests beside the official SDK.
//!
//! usage: stream_messages BASE_URL, with the name of a model in each line of the input. For each it asks for a message, and
//! writes a line of JSON: what it came to, or why it came to nothing.

use std::io::{BufRead, Write};

use anyhow::Context;
use restante::api::{Client, MessageStream, Settings, StreamError, Usage};
use serde_json::{Value, json, value::RawValue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let base_url = std::env::args().nth(1).context("the base URL is missing")?;
    for model in std::io::stdin().lock().lines() {
        // A client of its own, so that an error of one message says nothing of the next.
        let client = Client::new(Settings::new(base_url.parse()?, "sk-test".into()))?;
        let body = json!({"model": model?, "max_tokens": 1, "stream": true, "messages": []}).to_string();
        let mut stream = client.stream_message(body.into(), &[]).await?;
        let line = match events(&mut stream).await {
            Ok(events) => message(stream, events)?,
            Err(error) => {
                let so_far = stream.so_far();
                let said = error.answer().map(|answer| json!([answer.kind, answer.message]));
                let known = json!({"id": so_far.id, "usage": tokens(so_far.usage)});
                json!({"error": error.kind(), "is_retryable": error.is_retryable(), "said": said, "so_far": known})
                    .to_string()
            }
        };
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(())
}

/// Reads the whole stream, and returns the number of its events.
async fn events(stream: &mut MessageStream) -> Result<u64, StreamError> {
    let mut events = 0;
    while stream.next().await?.is_some() {
        events += 1;
    }
    Ok(events)
}

fn message(stream: MessageStream, events: u64) -> anyhow::Result<String> {
    let message = stream.finish()?;
    let content: &RawValue = serde_json::from_str(message.content())?;
    let columns = json!({
        "text": message.text, "id": message.id, "model": message.model, "stop_reason": message.stop_reason,
        "usage": tokens(message.usage), "events": events, "passed_over": message.passed_over,
        "broken_inputs": message.broken_inputs, "content_bytes": content.get().len(),
    });
    Ok(format!(r#"{{"columns":{columns},"message":{}}}"#, message.json))
}

fn tokens(usage: Usage) -> Value {
    let Usage { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens } = usage;
    json!([input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens])
}
