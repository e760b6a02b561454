//! JSON objects whose members stay as they were written: in their order, with each string and number exact.
//!
//! A value is the piece of JSON that it was, never a Rust value: no float holds every number, and no Rust string holds half
//! of a surrogate pair. Of a repeated member the last one counts.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json;

/// The members of an object, borrowed from its text.
pub(super) struct Object<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Object<'a> {
    /// `None` if the text is no JSON object.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The JSON of a member.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(key, _)| is_key(key, name)).map(|(_, value)| *value)
    }

    /// The member as an object.
    pub(super) fn object(&self, name: &str) -> Option<Object<'a>> {
        self.get(name).and_then(Object::read)
    }

    /// The JSON of a member that is a string.
    pub(super) fn string(&self, name: &str) -> Option<&'a str> {
        self.get(name).filter(|value| value.starts_with('"'))
    }

    /// The text of a member that is a string.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.string(name).and_then(|string| json::unescaped(string).ok())
    }

    /// Each member: its key, with the quotes, and its JSON.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().copied()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Object<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object<'de>, A::Error> {
                let mut read = Vec::new();
                while let Some((key, value)) = members.next_entry::<&RawValue, &RawValue>()? {
                    read.push((key.get(), value.get()));
                }
                Ok(Object(read))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

/// The members of an object that changes.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<(String, String)>);

impl Members {
    pub(super) fn of(object: &Object<'_>) -> Self {
        Self(object.members().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// The JSON of a member.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| is_key(key, name)).map(|(_, value)| value.as_str())
    }

    /// Gives a member, whose key has its quotes, another value; a new one comes last.
    pub(super) fn set(&mut self, key: &str, value: String) {
        let name = name(key);
        match self.0.iter_mut().rev().find(|(other, _)| is_key(other, &name)) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Where [`Members::write`] puts the JSON of a member, in bytes from the beginning of the object.
    pub(super) fn place(&self, name: &str) -> Option<Range<usize>> {
        let nth = self.0.iter().rposition(|(key, _)| is_key(key, name))?;
        // Each member follows a brace or a comma.
        let before: usize = self.0[..nth].iter().map(|(key, value)| 1 + key.len() + 1 + value.len()).sum();
        let (key, value) = &self.0[nth];
        let start = before + 1 + key.len() + 1;
        Some(start..start + value.len())
    }

    /// Appends the object to `json`.
    pub(super) fn write(&self, json: &mut String) {
        let mut before = '{';
        for (key, value) in &self.0 {
            json.push(before);
            json.extend([key, ":", value]);
            before = ',';
        }
        json.push_str(if self.0.is_empty() { "{}" } else { "}" });
    }
}

fn is_key(key: &str, expected: &str) -> bool {
    name(key) == expected
}

/// The name that a key in quotes stands for.
fn name(key: &str) -> Cow<'_, str> {
    match key.strip_prefix('"').and_then(|key| key.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
        _ => json::unescaped(key).map_or(Cow::Borrowed(key), Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stay_as_they_were_written() {
        let text = r#"{ "b" : 1.10e2, "a\ud800":"\u0000\udc00" , "big":1e999,"n":[ 1 , {} ],"b":"last"}"#;
        let object = Object::read(text).unwrap();
        let mut json = String::new();

        let mut members = Members::of(&object);
        members.set("\"n\"", "null".to_owned());
        members.set("\"new\"", "7".to_owned());
        members.write(&mut json);

        assert_eq!(json, r#"{"b":1.10e2,"a\ud800":"\u0000\udc00","big":1e999,"n":null,"b":"last","new":7}"#);
        assert_eq!(&json[members.place("b").unwrap()], "\"last\"");
        assert_eq!(&json[members.place("new").unwrap()], "7");
        assert_eq!((object.get("b"), object.get("c")), (Some("\"last\""), None));
    }

    #[test]
    fn a_member_is_found_however_its_key_is_written() {
        let object = Object::read(r#"{"t\u0079pe":"a\u0062"}"#).unwrap();

        assert_eq!(object.text("type").as_deref(), Some("ab"));
    }

    #[test]
    fn what_is_no_object_is_none() {
        for text in ["", "[]", "7", "{", "{}{}", "{\"a\"}", "null"] {
            assert!(Object::read(text).is_none(), "{text}");
        }
        let mut json = String::new();
        Members::of(&Object::read(" {} ").unwrap()).write(&mut json);
        assert_eq!(json, "{}");
    }
}
