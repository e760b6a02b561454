//! The events of a stream, as a row of partial text holds them.

use std::borrow::Cow;

use serde::de::MapAccess;
use serde_json::value::RawValue;

use crate::json::{self, Shape};

/// JSON that nests no deeper than this is kept as it is. Postgres reads thousands of levels, but how many depends on a setting of
/// the server.
const DEPTH_MAX: usize = 100;

/// Events that wait to be written, one after the other.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The JSON list, without its end.
    list: String,
    text: Option<String>,
}

impl Events {
    /// Adds an event: its JSON as it came, or, where that is none that Postgres surely holds, a string with its text.
    pub(super) fn push(&mut self, data: &str) {
        self.list.push(if self.list.is_empty() { '[' } else { ',' });
        if serde_json::from_str::<&RawValue>(data).is_ok() && depth(data) <= DEPTH_MAX {
            self.list.push_str(data);
        } else {
            self.list.push_str(&serde_json::Value::from(data).to_string());
        }
        if let Some(text) = text_of(data) {
            self.text.get_or_insert_default().push_str(&text);
        }
    }

    /// The JSON list, and the text that is in it.
    pub(super) fn finish(mut self) -> (String, Option<String>) {
        self.list.push(']');
        (self.list, self.text)
    }
}

/// How deeply JSON nests.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut is_in_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_string => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            b'{' | b'[' if !is_in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The text that an event adds to the answer.
fn text_of(data: &str) -> Option<String> {
    // Most events are such, and the others need not be read.
    if !data.contains("text") {
        return None;
    }
    let text = match json::read::<Event<'_>>(data) {
        Ok(event) => event.into_text(),
        Err(_) => json::read::<Event<'_>>(&json::mended(data)).ok().and_then(Event::into_text),
    };
    text.filter(|text| !text.is_empty()).map(|text| text.replace('\0', "\u{fffd}"))
}

#[derive(Default)]
struct Event<'a> {
    kind: Option<Cow<'a, str>>,
    delta: Part<'a>,
    block: Part<'a>,
}

impl Event<'_> {
    fn into_text(self) -> Option<String> {
        let (part, kind) = match self.kind.as_deref()? {
            "content_block_delta" => (self.delta, "text_delta"),
            "content_block_start" => (self.block, "text"),
            _ => return None,
        };
        let is_text = part.kind.as_deref() == Some(kind);
        part.text.filter(|_| is_text).map(Cow::into_owned)
    }
}

impl<'de> Shape<'de> for Event<'de> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut event = Event::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "type" => event.kind = json::value(&mut members)?,
                "delta" => event.delta = json::value(&mut members)?,
                "content_block" => event.block = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(event)
    }
}

#[derive(Default)]
struct Part<'a> {
    kind: Option<Cow<'a, str>>,
    text: Option<Cow<'a, str>>,
}

impl<'de> Shape<'de> for Part<'de> {
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut part = Part::default();
        while let Some(name) = json::name(&mut members)? {
            match &*name {
                "type" => part.kind = json::value(&mut members)?,
                "text" => part.text = json::value(&mut members)?,
                _ => json::skip(&mut members)?,
            }
        }
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(events: &[&str]) -> (String, Option<String>) {
        let mut row = Events::default();
        events.iter().for_each(|event| row.push(event));
        row.finish()
    }

    #[test]
    fn a_row_has_its_events_as_they_came_and_their_text() {
        let start = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"A"}}"#;
        let delta = r#"{"type": "content_block_delta", "index": 0, "delta": {"type":"text_delta","text":"\u00e9 x"}}"#;
        let input = r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"text"}}"#;

        let (list, text) = row(&[start, delta, input]);

        assert_eq!(list, format!("[{start},{delta},{input}]"));
        assert_eq!(text.as_deref(), Some("Aé x"));
        assert_eq!(row(&[input]).1, None);
    }

    #[test]
    fn what_no_text_of_postgres_can_hold_is_replaced() {
        let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\u0000b\ud800"}}"#;
        assert_eq!(row(&[delta]).1.as_deref(), Some("a\u{fffd}b\u{fffd}"));
    }

    #[test]
    fn an_event_that_postgres_may_refuse_is_kept_as_a_string_of_its_text() {
        let deep = format!(r#"{{"type":"new","a":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for odd in [deep.as_str(), "no json", r#"{"a":}"#] {
            let (list, _) = row(&[odd, "{}"]);
            let read: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
            assert_eq!(read[0].as_str(), Some(odd));
        }
    }
}
