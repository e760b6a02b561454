//! Streams as bytes, the messages that they amount to, and the call that opens one.

mod client;
mod content;
mod framing;
mod sizes;

use bytes::Bytes;

use super::assembly::{Assembly, Stop};
use super::{FinalMessage, SoFar, Step};

/// The example of the API's documents: a text, and a tool's input in two pieces.
const EXAMPLE: [&str; 10] = [
    r#"{"type":"message_start","message":{"id":"msg_demo","type":"message","role":"assistant","model":"claude-opus-5-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hé"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_demo","name":"lookup","input":{}}}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"q\": \"a"}}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"bc\"}"}}"#,
    r#"{"type":"content_block_stop","index":1}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":31}}"#,
    r#"{"type":"message_stop"}"#,
];

const EXAMPLE_MESSAGE: &str = concat!(
    r#"{"id":"msg_demo","type":"message","role":"assistant","model":"claude-opus-5-5","content":"#,
    r#"[{"type":"text","text":"Hé"},{"type":"tool_use","id":"toolu_demo","name":"lookup","input":{"q": "abc"}}],"#,
    r#""stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":31}}"#,
);

/// Why a stream gave no message, and what was known of it.
#[derive(Debug, PartialEq)]
enum Failed {
    Stopped(Stop, Box<SoFar>),
    Ended(Box<SoFar>),
}

/// All events of the chunks, and the message.
fn read(chunks: impl IntoIterator<Item = Bytes>) -> (Vec<Step>, Result<FinalMessage, Failed>) {
    let mut assembly = Assembly::new();
    let mut steps = Vec::new();
    for chunk in chunks {
        assembly.push(chunk);
        loop {
            match assembly.step() {
                Ok(Some(step)) => steps.push(step),
                Ok(None) => break,
                Err(stop) => return (steps, Err(Failed::Stopped(stop, assembly.so_far().into()))),
            }
        }
    }
    let so_far = assembly.so_far();
    (steps, assembly.finish().ok_or(Failed::Ended(so_far.into())))
}

/// The events as the API writes them.
fn stream<T: AsRef<str>>(events: impl IntoIterator<Item = T>) -> String {
    let mut bytes = String::new();
    for event in events {
        let data: serde_json::Value = serde_json::from_str(event.as_ref()).unwrap_or_default();
        let name = data["type"].as_str().unwrap_or("odd");
        bytes.extend(["event: ", name, "\ndata: ", event.as_ref(), "\n\n"]);
    }
    bytes
}

/// What the events amount to.
fn put_together<T: AsRef<str>>(events: impl IntoIterator<Item = T>) -> Result<FinalMessage, Failed> {
    read([Bytes::from(stream(events))]).1
}

/// The events of a message with one content block and these deltas of it.
fn with_block(block: &str, deltas: &[&str]) -> Vec<String> {
    let start = format!(r#"{{"type":"content_block_start","index":0,"content_block":{block}}}"#);
    let deltas =
        deltas.iter().map(|delta| format!(r#"{{"type":"content_block_delta","index":0,"delta":{delta}}}"#));
    let end = [EXAMPLE[3], r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#, EXAMPLE[9]];
    [EXAMPLE[0].to_owned(), start].into_iter().chain(deltas).chain(end.map(str::to_owned)).collect()
}

/// The content of a message with one content block and these deltas of it.
fn content(block: &str, deltas: &[&str]) -> String {
    put_together(with_block(block, deltas)).unwrap().content().to_owned()
}
