//! A content block that grows by deltas.

use serde_json::value::RawValue;

use super::object::{Members, Object};
use crate::json;

/// A content block. What its deltas say stays as it was written, also in the middle of a string.
#[derive(Debug)]
pub(super) struct Block {
    members: Members,
    /// The strings that grow, as JSON without the closing quote.
    text: Option<String>,
    thinking: Option<String>,
    /// The pieces of a tool's input, which is JSON within a JSON string.
    input: Option<String>,
    /// An array without its closing bracket.
    citations: Option<String>,
}

/// What became of a delta.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delta {
    Applied,
    /// Its type is not known.
    PassedOver,
    /// It lacks what its type promises.
    Odd,
}

impl Block {
    /// The block as it begins.
    pub(super) fn new(start: &Object<'_>) -> Self {
        Self { members: Members::of(start), text: None, thinking: None, input: None, citations: None }
    }

    /// Applies a delta. Its type alone says which member grows, so that a block of a new type grows by it as well.
    pub(super) fn apply(&mut self, delta: &Object<'_>) -> Delta {
        let piece = |name| delta.string(name).map(|string| &string[1..string.len() - 1]);
        let is_applied = match delta.text("type").as_deref() {
            Some("text_delta") => grow(&mut self.text, &self.members, "text", piece("text")),
            Some("thinking_delta") => grow(&mut self.thinking, &self.members, "thinking", piece("thinking")),
            Some("input_json_delta") => piece("partial_json").map(|piece| {
                self.input.get_or_insert_with(|| "\"".to_owned()).push_str(piece);
            }),
            // Comes once, whole.
            Some("signature_delta") => delta.string("signature").map(|signature| {
                self.members.set("\"signature\"", signature.to_owned());
            }),
            Some("citations_delta") => delta.get("citation").map(|citation| self.cite(citation)),
            Some("compaction_delta") => {
                for (key, value) in delta.members().filter(|(key, _)| *key != "\"type\"") {
                    self.members.set(key, value.to_owned());
                }
                Some(())
            }
            Some(_) => return Delta::PassedOver,
            None => None,
        };
        if is_applied.is_some() { Delta::Applied } else { Delta::Odd }
    }

    fn cite(&mut self, citation: &str) {
        let citations = self.citations.get_or_insert_with(|| {
            let before = self.members.get("citations").filter(|value| value.starts_with('['));
            before.map_or("[", |array| array[..array.len() - 1].trim_end()).to_owned()
        });
        if citations.len() > 1 {
            citations.push(',');
        }
        citations.push_str(citation);
    }

    /// Appends the JSON of the block as it stands. Returns whether it is whole: a tool's input that is no JSON is written as a
    /// string, which has its exact text.
    pub(super) fn write(mut self, json: &mut String) -> bool {
        for (key, string) in [("\"text\"", self.text), ("\"thinking\"", self.thinking)] {
            if let Some(string) = string {
                self.members.set(key, string + "\"");
            }
        }
        if let Some(citations) = self.citations {
            self.members.set("\"citations\"", citations + "]");
        }
        let mut is_whole = true;
        // Where all pieces are empty, the input is what it was at the start.
        if let Some(input) = self.input.filter(|input| input.len() > 1) {
            let string = input + "\"";
            let text = json::unescaped(&string).ok();
            let value = text.as_deref().and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
            is_whole = value.is_some();
            self.members.set("\"input\"", value.map_or(string.clone(), |value| value.get().to_owned()));
        }
        self.members.write(json);
        is_whole
    }
}

/// Appends a piece of JSON string to what a member begins with.
fn grow(grown: &mut Option<String>, members: &Members, name: &str, piece: Option<&str>) -> Option<()> {
    let start = || {
        let before = members.get(name).filter(|value| value.starts_with('"'));
        before.map_or("\"", |string| &string[..string.len() - 1]).to_owned()
    };
    piece.map(|piece| grown.get_or_insert_with(start).push_str(piece))
}
