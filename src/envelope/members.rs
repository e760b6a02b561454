//! Tolerant reading of JSON: a member may be given twice, and text may be invalid Unicode. Members that are not part of
//! an envelope are skipped unread.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a JSON object that make up an envelope, unparsed. Of a member given twice, the last counts.
#[derive(Default)]
pub(super) struct Members<'a> {
    pub(super) kind: Option<&'a RawValue>,
    pub(super) id: Option<&'a RawValue>,
    pub(super) created_at: Option<&'a RawValue>,
    pub(super) data: Option<&'a RawValue>,
    pub(super) batch_id: Option<&'a RawValue>,
    pub(super) workspace_id: Option<&'a RawValue>,
    pub(super) session_thread_id: Option<&'a RawValue>,
    pub(super) vault_id: Option<&'a RawValue>,
}

// By hand, because a derived implementation refuses duplicate members, and names that are invalid Unicode.
impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members::default();
                while let Some(name) = map.next_key::<Name>()? {
                    match name {
                        Name::Kind => members.kind = Some(map.next_value()?),
                        Name::Id => members.id = Some(map.next_value()?),
                        Name::CreatedAt => members.created_at = Some(map.next_value()?),
                        Name::Data => members.data = Some(map.next_value()?),
                        Name::BatchId => members.batch_id = Some(map.next_value()?),
                        Name::WorkspaceId => members.workspace_id = Some(map.next_value()?),
                        Name::SessionThreadId => members.session_thread_id = Some(map.next_value()?),
                        Name::VaultId => members.vault_id = Some(map.next_value()?),
                        Name::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// The name of a member, compared as bytes, so that lone surrogates in the name of an unknown member are no error.
enum Name {
    Kind,
    Id,
    CreatedAt,
    Data,
    BatchId,
    WorkspaceId,
    SessionThreadId,
    VaultId,
    Other,
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Name;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a member")
            }

            fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Name, E> {
                Ok(match name {
                    b"type" => Name::Kind,
                    b"id" => Name::Id,
                    b"created_at" => Name::CreatedAt,
                    b"data" => Name::Data,
                    b"batch_id" => Name::BatchId,
                    b"workspace_id" => Name::WorkspaceId,
                    b"session_thread_id" => Name::SessionThreadId,
                    b"vault_id" => Name::VaultId,
                    _ => Name::Other,
                })
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// The text of a string, lone surrogates read as U+FFFD; of a number, its digits as they were written.
pub(super) fn scalar(value: &RawValue) -> Option<String> {
    let raw = value.get();
    match raw.as_bytes().first()? {
        b'"' => string_bytes(raw).map(|text| String::from_utf8_lossy(&text).into_owned()),
        b'-' | b'0'..=b'9' => Some(raw.to_owned()),
        _ => None,
    }
}

/// The bytes that a JSON string stands for; a lone surrogate becomes three bytes that are not UTF-8.
pub(super) fn string_bytes(quoted: &str) -> Option<Vec<u8>> {
    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a string")
        }

        // serde_json hands a string over as bytes without insisting that surrogates come in pairs.
        fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<Vec<u8>, E> {
            Ok(text.to_vec())
        }
    }

    serde_json::Deserializer::from_str(quoted).deserialize_bytes(Bytes).ok()
}
