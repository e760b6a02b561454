//! The members of a line of results that fill a column, from the outside in.

use std::borrow::Cow;

use serde::de::{MapAccess, SeqAccess};

use super::json::{self, Shape};

#[derive(Default)]
pub(super) struct Line<'a> {
    pub(super) custom_id: Option<Cow<'a, str>>,
    pub(super) result: Outcome<'a>,
}

impl<'de> Shape<'de> for Option<Line<'de>> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut line = Line::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "custom_id" => line.custom_id = json::value(&mut members)?,
                "result" => line.result = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(Some(line))
    }
}

#[derive(Default)]
pub(super) struct Outcome<'a> {
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) message: Message<'a>,
    pub(super) error: Envelope<'a>,
}

impl<'de> Shape<'de> for Outcome<'de> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut outcome = Outcome::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "type" => outcome.kind = json::value(&mut members)?,
                "message" => outcome.message = json::value(&mut members)?,
                "error" => outcome.error = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(outcome)
    }
}

#[derive(Default)]
pub(super) struct Message<'a> {
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) content: Content<'a>,
    pub(super) stop_reason: Option<Cow<'a, str>>,
    pub(super) usage: Usage,
}

impl<'de> Shape<'de> for Message<'de> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut message = Message::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "model" => message.model = json::value(&mut members)?,
                "content" => message.content = json::value(&mut members)?,
                "stop_reason" => message.stop_reason = json::value(&mut members)?,
                "usage" => message.usage = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(message)
    }
}

/// The joined text of a message's `text` blocks.
#[derive(Default)]
pub(super) struct Content<'a>(pub(super) Option<Cow<'a, str>>);

impl<'de> Shape<'de> for Content<'de> {
    fn array<A: SeqAccess<'de>>(mut elements: A) -> Result<Self, A::Error> {
        let mut content: Option<Cow<'de, str>> = None;
        while let Some(Block { kind, text }) = json::element(&mut elements)? {
            if kind.as_deref() != Some("text") {
                continue;
            }
            content = match (content, text) {
                (Some(before), Some(text)) => Some(before + text),
                (before, text) => before.or(text),
            };
        }
        Ok(Content(content))
    }
}

#[derive(Default)]
struct Block<'a> {
    kind: Option<Cow<'a, str>>,
    text: Option<Cow<'a, str>>,
}

impl<'de> Shape<'de> for Block<'de> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut block = Block::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "type" => block.kind = json::value(&mut members)?,
                "text" => block.text = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(block)
    }
}

/// The tokens of one message, as the API counted them; `None` if it did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Tokens read that neither came from the cache nor went into it.
    pub input_tokens: Option<i64>,
    /// Tokens written.
    pub output_tokens: Option<i64>,
    /// Tokens that went into the cache.
    pub cache_creation_input_tokens: Option<i64>,
    /// Tokens that came from the cache.
    pub cache_read_input_tokens: Option<i64>,
}

impl<'de> Shape<'de> for Usage {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut usage = Usage::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "input_tokens" => usage.input_tokens = json::value(&mut members)?,
                "output_tokens" => usage.output_tokens = json::value(&mut members)?,
                "cache_creation_input_tokens" => {
                    usage.cache_creation_input_tokens = json::value(&mut members)?;
                }
                "cache_read_input_tokens" => usage.cache_read_input_tokens = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(usage)
    }
}

/// An error of the API. It names the fault one level further in; a flat one is read as well.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) own: Fault<'a>,
    pub(super) inner: Option<Fault<'a>>,
}

impl<'de> Shape<'de> for Envelope<'de> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "type" => envelope.own.kind = json::value(&mut members)?,
                "message" => envelope.own.message = json::value(&mut members)?,
                "error" => envelope.inner = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(envelope)
    }
}

#[derive(Default)]
pub(super) struct Fault<'a> {
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) message: Option<Cow<'a, str>>,
}

impl<'de> Shape<'de> for Option<Fault<'de>> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut fault = Fault::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "type" => fault.kind = json::value(&mut members)?,
                "message" => fault.message = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(Some(fault))
    }
}
