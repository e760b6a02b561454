//! The members of a message that fill columns, whether it came whole or as a stream.

use std::borrow::Cow;

use serde::de::{MapAccess, SeqAccess};

use super::Usage;
use crate::json::{self, Shape};

/// The members of a message that are read.
#[derive(Default)]
pub(crate) struct MessageFields<'a> {
    pub(crate) id: Option<Cow<'a, str>>,
    pub(crate) model: Option<Cow<'a, str>>,
    pub(crate) content: Content<'a>,
    pub(crate) stop_reason: Option<Cow<'a, str>>,
    pub(crate) usage: Usage,
}

impl<'de> Shape<'de> for MessageFields<'de> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut message = MessageFields::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "id" => message.id = json::value(&mut members)?,
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
pub(crate) struct Content<'a>(pub(crate) Option<Cow<'a, str>>);

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
