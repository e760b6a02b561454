//! The events of a stream, put together to the message.
//!
//! Nothing is parsed into a value and written again: a string grows by its pieces as they are written, and a number is
//! copied. So the message is exact to the byte, and each byte of the stream is copied a few times, however many deltas there
//! are. What the API may add one day is kept or passed over: members, block types, deltas, events.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::block::{Block, Delta};
use super::object::{Members, Object};
use super::{FinalMessage, SoFar};

/// The longest stream that is put together, in bytes of its data. The longest answer of a model is some MiB.
const STREAM_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A message that grows event by event.
#[derive(Debug, Default)]
pub(super) struct Accumulator {
    /// The message without its content and its usage.
    message: Option<Members>,
    usage: Members,
    blocks: BTreeMap<u64, Block>,
    is_complete: bool,
    passed_over: u64,
    data_bytes: usize,
}

/// Why an event cannot be applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is the API's error, with which the stream ends.
    Error,
    /// It is not as the API describes it.
    Flaw(&'static str),
}

impl Accumulator {
    /// Applies an event, which is known by the `type` in its data, else by its name.
    pub(super) fn apply(&mut self, name: &str, data: &str) -> Result<(), Fault> {
        self.data_bytes += data.len();
        if self.data_bytes > STREAM_BYTES_MAX {
            return Err(Fault::Flaw("it is longer than 256 MiB"));
        }
        let event = Object::read(data);
        let kind = event.as_ref().and_then(|event| event.text("type")).unwrap_or_else(|| name.to_owned());
        if kind == "error" || name == "error" {
            return Err(Fault::Error);
        }
        let apply = match kind.as_str() {
            "message_start" => Self::start,
            "content_block_start" => Self::start_block,
            "content_block_delta" => Self::change_block,
            "content_block_stop" => Self::stop_block,
            "message_delta" => Self::change,
            "message_stop" => Self::stop,
            "ping" => return Ok(()),
            _ => {
                self.passed_over += 1;
                return Ok(());
            }
        };
        apply(self, &event.ok_or(Fault::Flaw("an event is no JSON object"))?)
    }

    /// Has the event come that says that the message is complete?
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    fn start(&mut self, event: &Object<'_>) -> Result<(), Fault> {
        if self.message.is_some() {
            return Err(Fault::Flaw("the message begins twice"));
        }
        let message = event.object("message").ok_or(Fault::Flaw("the first event has no message"))?;
        self.usage = message.object("usage").map(|usage| Members::of(&usage)).unwrap_or_default();
        let content = message.get("content").and_then(|content| serde_json::from_str(content).ok());
        let blocks: Vec<&RawValue> = content.unwrap_or_default();
        for (index, block) in (0..).zip(blocks) {
            let block = Object::read(block.get()).ok_or(Fault::Flaw("a content block is no object"))?;
            self.blocks.insert(index, Block::new(&block));
        }
        self.message = Some(Members::of(&message));
        Ok(())
    }

    fn start_block(&mut self, event: &Object<'_>) -> Result<(), Fault> {
        let message = self.message.as_mut().ok_or(NOT_BEGUN)?;
        let index = index(event)?;
        let block = event.object("content_block").ok_or(Fault::Flaw("a content block is no object"))?;
        // Another model has taken over, and this block names it.
        if block.text("type").as_deref() == Some("fallback")
            && let Some(model) = block.object("to").and_then(|to| to.string("model"))
        {
            message.set("\"model\"", model.to_owned());
        }
        match self.blocks.insert(index, Block::new(&block)) {
            None => Ok(()),
            Some(_) => Err(Fault::Flaw("two content blocks have the same index")),
        }
    }

    fn change_block(&mut self, event: &Object<'_>) -> Result<(), Fault> {
        let block = self.blocks.get_mut(&index(event)?).ok_or(NO_BLOCK)?;
        let delta = event.object("delta").ok_or(Fault::Flaw("a delta is no object"))?;
        match block.apply(&delta) {
            Delta::Applied => {}
            Delta::PassedOver => self.passed_over += 1,
            Delta::Odd => return Err(Fault::Flaw("a delta lacks what its type promises")),
        }
        Ok(())
    }

    fn stop_block(&mut self, event: &Object<'_>) -> Result<(), Fault> {
        self.blocks.get(&index(event)?).map(drop).ok_or(NO_BLOCK)
    }

    /// Takes over what the event says of the whole message. Its numbers are totals. What does not apply is null or left out,
    /// and then what was said before holds; only of the end the last word counts, also if it is null.
    fn change(&mut self, event: &Object<'_>) -> Result<(), Fault> {
        let message = self.message.as_mut().ok_or(NOT_BEGUN)?;
        let delta = event.object("delta").ok_or(Fault::Flaw("a delta is no object"))?;
        let is_of_event = |key| !["\"type\"", "\"delta\"", "\"usage\""].contains(&key);
        let is_end = |key| ["\"stop_reason\"", "\"stop_sequence\"", "\"stop_details\""].contains(&key);
        for (key, value) in delta.members().chain(event.members().filter(|(key, _)| is_of_event(key))) {
            if value != "null" || is_end(key) {
                message.set(key, value.to_owned());
            }
        }
        let usage = event.object("usage");
        for (key, value) in usage.iter().flat_map(Object::members).filter(|(_, value)| *value != "null") {
            self.usage.set(key, value.to_owned());
        }
        Ok(())
    }

    fn stop(&mut self, _event: &Object<'_>) -> Result<(), Fault> {
        self.is_complete = self.message.is_some();
        if self.is_complete { Ok(()) } else { Err(NOT_BEGUN) }
    }

    /// What is known of the message by now.
    pub(super) fn so_far(&self) -> SoFar {
        let mut usage = String::new();
        self.usage.write(&mut usage);
        let member = |name| self.message.as_ref().and_then(|message| message.get(name)).unwrap_or("null");
        SoFar::read(&format!(r#"{{"id":{},"model":{},"usage":{usage}}}"#, member("id"), member("model")))
    }

    /// The message; `None` if it is not complete.
    pub(super) fn finish(self) -> Option<FinalMessage> {
        let mut message = self.message.filter(|_| self.is_complete)?;
        let mut content = String::from("[");
        let mut broken_inputs = 0;
        for block in self.blocks.into_values() {
            if content.len() > 1 {
                content.push(',');
            }
            broken_inputs += u64::from(!block.write(&mut content));
        }
        content.push(']');
        let mut usage = String::new();
        self.usage.write(&mut usage);
        if usage != "{}" {
            message.set("\"usage\"", usage);
        }
        message.set("\"content\"", content);
        let place = message.place("content").unwrap_or_default();
        let mut json = String::new();
        message.write(&mut json);
        let message = FinalMessage::read(json, place);
        Some(FinalMessage { passed_over: self.passed_over, broken_inputs, ..message })
    }
}

const NOT_BEGUN: Fault = Fault::Flaw("an event comes before the message begins");
const NO_BLOCK: Fault = Fault::Flaw("an event is about a content block that has not begun");

fn index(event: &Object<'_>) -> Result<u64, Fault> {
    let index = event.get("index").and_then(|index| index.parse().ok());
    index.ok_or(Fault::Flaw("an event names no content block"))
}
