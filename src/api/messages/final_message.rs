//! What a stream amounts to: the message, or what is known of one that is not complete.

use std::borrow::Cow;
use std::ops::Range;

use super::MessageFields;
use crate::json;

/// A complete message, as the API would have answered it whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalMessage {
    /// The exact JSON of the message: strings and numbers are written as the API wrote them, members stand in its order.
    pub json: String,
    /// The message's `text` blocks, joined; `None` if it has no such block. NUL and halves of surrogate pairs, which
    /// Postgres cannot hold, are U+FFFD.
    pub text: Option<String>,
    /// The API's id.
    pub id: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// Why the message ended.
    pub stop_reason: Option<String>,
    /// What the message used.
    pub usage: Usage,
    /// How many events and deltas of an unknown type were passed over.
    pub passed_over: u64,
    /// How many tool inputs are no JSON, as where the message ended at `max_tokens` within one. In the JSON such an
    /// input is a string, which has its exact text.
    pub broken_inputs: u64,
    pub(super) content: Range<usize>,
}

impl FinalMessage {
    /// Reads the JSON of a whole message, whose content is at this place of it.
    pub(super) fn read(json: String, content: Range<usize>) -> Self {
        let message = with_fields(&json, |fields| Self {
            json: String::new(),
            text: fields.content.0.map(text),
            id: fields.id.map(text),
            model: fields.model.map(text),
            stop_reason: fields.stop_reason.map(text),
            usage: fields.usage,
            passed_over: 0,
            broken_inputs: 0,
            content,
        });
        Self { json, ..message }
    }

    /// The JSON of the content blocks, an array; a part of [`FinalMessage::json`].
    pub fn content(&self) -> &str {
        &self.json[self.content.clone()]
    }
}

/// The tokens of one message, as the API counted them; `None` if it did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read that neither came from the cache nor went into it.
    pub input_tokens: Option<i64>,
    /// Tokens written.
    pub output_tokens: Option<i64>,
    /// Tokens that went into the cache.
    pub cache_creation_input_tokens: Option<i64>,
    /// Tokens that came from the cache.
    pub cache_read_input_tokens: Option<i64>,
}

/// What is known of a message that is not complete, and costs money all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    /// The API's id.
    pub id: Option<String>,
    /// The model that answers.
    pub model: Option<String>,
    /// What the message had used when the API said so last. It counts the output at the end only, so a stream that was
    /// cut usually used more.
    pub usage: Usage,
}

impl SoFar {
    /// Reads what a message says of itself.
    pub(super) fn read(json: &str) -> Self {
        with_fields(json, |fields| Self {
            id: fields.id.map(text),
            model: fields.model.map(text),
            usage: fields.usage,
        })
    }
}

/// Reads the members of a message, if need be from a copy that Rust can read.
fn with_fields<T>(json: &str, read: impl FnOnce(MessageFields<'_>) -> T) -> T {
    match json::read(json) {
        Ok(fields) => read(fields),
        Err(_) => read(json::read(&json::mended(json)).unwrap_or_default()),
    }
}

/// The text as Postgres can hold it.
fn text(text: Cow<'_, str>) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.into_owned() }
}
