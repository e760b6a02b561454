//! The envelope of a delivery: what ingest must know of an event in order to store it, read from its body.
//!
//! A verified event is kept whatever is inside it, so reading is tolerant where the API's own types are strict:
//! members given twice, broken Unicode, numbers beyond any range and nesting of any depth are no reason to refuse.
//! Only a body that is no JSON object, or that says of no type, is. Members that are not part of the envelope are
//! skipped unread and without recursion. What the event means is not looked at here.
//!
//! The body itself is never changed: it is kept as JSON where Postgres can hold it as such, else as bytes.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::event::{Body, NewEvent};

/// The longest identifier, key, type or workspace that is kept as it came, in bytes. An index entry of Postgres
/// holds about 2,700 bytes; longer text stands as the hash of itself, which still tells equal from different.
pub const TEXT_BYTES_MAX: usize = 512;

/// How deeply a body may nest and still be kept as JSON. Postgres parses `json` recursively, limited by the
/// server's `max_stack_depth`; the default gives in beyond some thousands of levels.
pub const DEPTH_MAX: usize = 512;

/// Why no envelope can be read from a body.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The body is no JSON object.
    #[error("the body is no JSON object")]
    NotAnObject(#[source] serde_json::Error),
    /// Neither the body nor its `data` says what type of event it is.
    #[error("the body names no event type")]
    NoType,
}

impl Unreadable {
    /// A short name that stays the same, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Unreadable::NotAnObject(_) => "not_an_object",
            Unreadable::NoType => "no_type",
        }
    }
}

/// Reads the event that `body` carries.
///
/// - The type is `data.type` where the top level says `event` (it says so of every webhook), else the top-level
///   `type`.
/// - The identifier is the body's `id`, else `webhook_id`, else the hash of the body.
/// - The key is `data.id`, else `data.batch_id`.
/// - It happened at `created_at`, else when the attempt was made (`attempt_timestamp`, Unix seconds).
///
/// # Errors
/// [`Unreadable`], only if the body is no JSON object or no type is found in it.
pub fn read(body: &[u8], webhook_id: Option<&str>, attempt_timestamp: i64) -> Result<NewEvent, Unreadable> {
    // Bytes that are no UTF-8 can only stand inside strings of a JSON object. They are read as U+FFFD.
    let text = String::from_utf8_lossy(body);
    let top: Members<'_> = serde_json::from_str(&text).map_err(Unreadable::NotAnObject)?;
    let data: Members<'_> =
        top.data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();

    let event_type = match (top.kind.and_then(mended), data.kind.and_then(mended)) {
        (Some(kind), Some(of_data)) if kind == "event" => of_data,
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => return Err(Unreadable::NoType),
    };
    Ok(NewEvent {
        event_id: event_id(top.id, webhook_id, body),
        event_type,
        key: data.id.and_then(mended).or_else(|| data.batch_id.and_then(mended)),
        workspace_id: data.workspace_id.and_then(mended),
        created_at: top.created_at.and_then(date).unwrap_or_else(|| date_of_attempt(attempt_timestamp)),
        body: self::body(body),
    })
}

/// The members of a JSON object that an envelope is made of, unread. Of a member given twice, the last counts.
#[derive(Default)]
struct Members<'a> {
    kind: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    created_at: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    batch_id: Option<&'a RawValue>,
    workspace_id: Option<&'a RawValue>,
}

// By hand, because a derived implementation refuses duplicate members, and names that are no proper Unicode.
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
                        Name::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// The name of a member, compared as bytes: lone surrogates in the name of an unknown member are then no error.
enum Name {
    Kind,
    Id,
    CreatedAt,
    Data,
    BatchId,
    WorkspaceId,
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
                    _ => Name::Other,
                })
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// The identifier under which the outbox keeps the event once.
///
/// An identifier that text of Postgres cannot hold is not mended, since two of them could become equal, and the
/// younger event would then pass for a duplicate and be lost.
fn event_id(id: Option<&RawValue>, webhook_id: Option<&str>, body: &[u8]) -> String {
    let given = id.and_then(scalar);
    let usable = |text: &str| !text.contains(['\0', char::REPLACEMENT_CHARACTER]) && !text.is_empty();

    if let Some(id) = given.as_deref().filter(|id| usable(id)) {
        bounded(id.to_owned())
    } else if let Some(id) = webhook_id.filter(|id| usable(id)) {
        bounded(id.to_owned())
    } else if let (Some(raw), true) = (id, given.is_some() && str::from_utf8(body).is_ok()) {
        hash(raw.get().as_bytes())
    } else {
        // No identifier, or one whose bytes the lossy copy no longer tells apart. A retry has the same body.
        hash(body)
    }
}

/// The text of a string or a number as Postgres can hold it; `None` for anything else, and for an empty string.
fn mended(value: &RawValue) -> Option<String> {
    let text = scalar(value).filter(|text| !text.is_empty())?;
    Some(bounded(text.replace('\0', "\u{fffd}")))
}

/// The text of a string, lone surrogates read as U+FFFD; of a number, its digits as they were written.
fn scalar(value: &RawValue) -> Option<String> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = String;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a string")
        }

        // serde_json hands a string over as bytes without insisting that surrogates come in pairs.
        fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<String, E> {
            Ok(String::from_utf8_lossy(text).into_owned())
        }
    }

    let raw = value.get();
    match raw.as_bytes().first()? {
        b'"' => serde_json::Deserializer::from_str(raw).deserialize_bytes(Text).ok(),
        b'-' | b'0'..=b'9' => Some(raw.to_owned()),
        _ => None,
    }
}

fn bounded(text: String) -> String {
    if text.len() <= TEXT_BYTES_MAX { text } else { hash(text.as_bytes()) }
}

fn hash(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn date(value: &RawValue) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(&scalar(value)?).ok().map(Into::into)
}

/// The time of the attempt, which no verified delivery has outside the years that Postgres can hold.
fn date_of_attempt(timestamp: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(timestamp, 0).filter(|date| *date >= DateTime::UNIX_EPOCH).unwrap_or_default()
}

/// The exact bytes, as JSON if the column type `json` takes them.
pub fn body(body: &[u8]) -> Body {
    match str::from_utf8(body) {
        Ok(text) if is_json_for_postgres(text) => Body::Json(text.to_owned()),
        _ => Body::Raw(body.to_vec()),
    }
}

fn is_json_for_postgres(text: &str) -> bool {
    // `json` keeps the escapes \u0000 and lone surrogates as they are written; only `jsonb` refuses them. The
    // second reading is strict where the one for the envelope is not: it refuses control characters in names.
    depth(text) <= DEPTH_MAX && !text.contains('\0') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// How deeply arrays and objects nest, at the deepest place.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENT_AT: i64 = 1_793_534_400;

    fn read_text(body: &str) -> NewEvent {
        read(body.as_bytes(), Some("whe_header"), SENT_AT).unwrap()
    }

    #[test]
    fn a_webhook_of_the_api_is_read_whole() {
        let body = r#"{"type":"event","id":"whe_1","created_at":"2026-11-01T12:00:24.100435Z",
            "data":{"type":"session.thread_idled","id":"sesn_1","session_thread_id":"sthr_1",
                    "organization_id":"org_1","workspace_id":"wrkspc_1"}}"#;

        let event = read_text(body);

        assert_eq!(
            event,
            NewEvent {
                event_id: "whe_1".into(),
                event_type: "session.thread_idled".into(),
                key: Some("sesn_1".into()),
                workspace_id: Some("wrkspc_1".into()),
                created_at: "2026-11-01T12:00:24.100435Z".parse().unwrap(),
                body: Body::Json(body.into()),
            }
        );
    }

    #[test]
    fn the_type_is_that_of_the_data_unless_the_top_level_has_one_of_its_own() {
        for (body, expected) in [
            (r#"{"type":"event","data":{"type":"vault.created"}}"#, "vault.created"),
            (r#"{"type":"batch.completed","data":{"batch_id":"msgbatch_1"}}"#, "batch.completed"),
            (r#"{"type":"batch.completed","data":{"type":"message_batch"}}"#, "batch.completed"),
            (r#"{"type":"event","data":{}}"#, "event"),
            (r#"{"type":"event"}"#, "event"),
            (r#"{"type":"event","data":{"type":null}}"#, "event"),
            (r#"{"data":{"type":"vault.created"}}"#, "vault.created"),
            (r#"{"type":null,"data":{"type":"vault.created"}}"#, "vault.created"),
            (r#"{"type":"","data":{"type":"vault.created"}}"#, "vault.created"),
            (r#"{"type":{"a":1},"data":{"type":"vault.created"}}"#, "vault.created"),
            (r#"{"type":"a","type":"event","data":{"type":"b"},"data":{"type":"c","type":"d"}}"#, "d"),
            (r#"{"t\u0079pe":"escaped"}"#, "escaped"),
            (r#"{"type":"a\u0000b"}"#, "a\u{fffd}b"),
            (r#"{"type":17}"#, "17"),
        ] {
            assert_eq!(read_text(body).event_type, expected, "{body}");
        }
    }

    #[test]
    fn only_a_body_without_object_or_type_is_unreadable() {
        for body in
            ["", " ", "null", "1", "\"event\"", "[]", "[{\"type\":\"a\"}]", "{", "{\"type\":\"a\"", "{}{}"]
        {
            let unreadable = read(body.as_bytes(), Some("whe_1"), SENT_AT).unwrap_err();
            assert_eq!(unreadable.reason(), "not_an_object", "{body}");
        }
        for body in
            ["{}", r#"{"id":"whe_1"}"#, r#"{"type":[]}"#, r#"{"data":"text"}"#, r#"{"data":{"type":""}}"#]
        {
            let unreadable = read(body.as_bytes(), Some("whe_1"), SENT_AT).unwrap_err();
            assert_eq!(unreadable.reason(), "no_type", "{body}");
        }
    }

    #[test]
    fn the_identifier_is_that_of_the_body_where_it_can_be_kept_exactly() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let just_fits = "x".repeat(TEXT_BYTES_MAX);
        for (id, with_header, without) in [
            (r#""whe_1""#, "whe_1".to_owned(), "whe_1".to_owned()),
            ("12345678901234567890123", "12345678901234567890123".into(), "12345678901234567890123".into()),
            ("1e400", "1e400".into(), "1e400".into()),
            (&format!("{just_fits:?}"), just_fits.clone(), just_fits.clone()),
            (&format!("{long:?}"), hash(long.as_bytes()), hash(long.as_bytes())),
            (r#""a\u0000b""#, "whe_header".into(), hash(br#""a\u0000b""#)),
            (r#""\ud800""#, "whe_header".into(), hash(br#""\ud800""#)),
            (r#""\ud801""#, "whe_header".into(), hash(br#""\ud801""#)),
        ] {
            let body = format!(r#"{{"type":"a","id":{id}}}"#);
            assert_eq!(read_text(&body).event_id, with_header, "{id}");
            assert_eq!(read(body.as_bytes(), None, SENT_AT).unwrap().event_id, without, "{id}");
        }
        for id in ["null", "true", "{}", "[[]]", r#""""#] {
            let body = format!(r#"{{"type":"a","id":{id}}}"#);
            assert_eq!(read_text(&body).event_id, "whe_header", "{id}");
        }
        let without = r#"{"type":"a"}"#;
        assert_eq!(read_text(without).event_id, "whe_header");
        assert_eq!(read(without.as_bytes(), None, SENT_AT).unwrap().event_id, hash(without.as_bytes()));
        assert_eq!(read(without.as_bytes(), Some(&long), SENT_AT).unwrap().event_id, hash(long.as_bytes()));
    }

    #[test]
    fn identifiers_that_differ_in_invalid_bytes_stay_different() {
        let one = read(b"{\"type\":\"a\",\"id\":\"\xff\"}", None, SENT_AT).unwrap();
        let other = read(b"{\"type\":\"a\",\"id\":\"\xfe\"}", None, SENT_AT).unwrap();

        assert_ne!(one.event_id, other.event_id);
    }

    #[test]
    fn the_key_is_what_the_event_is_about() {
        for (data, expected) in [
            (r#"{"id":"sesn_1"}"#, Some("sesn_1".to_owned())),
            (r#"{"batch_id":"msgbatch_1"}"#, Some("msgbatch_1".into())),
            (r#"{"batch_id":"msgbatch_1","id":"sesn_1"}"#, Some("sesn_1".into())),
            (r#"{"id":null,"batch_id":"msgbatch_1"}"#, Some("msgbatch_1".into())),
            (r#"{"id":7}"#, Some("7".into())),
            (r#"{"id":"a\u0000\udc00"}"#, Some("a\u{fffd}\u{fffd}\u{fffd}\u{fffd}".into())),
            (r#"{"id":""}"#, None),
            (r#"{"id":{}}"#, None),
            ("{}", None),
            ("[]", None),
            ("\"sesn_1\"", None),
            (&format!(r#"{{"id":"{}"}}"#, "k".repeat(9000)), Some(hash("k".repeat(9000).as_bytes()))),
        ] {
            let body = format!(r#"{{"type":"event","id":"whe_1","data":{data}}}"#);
            assert_eq!(read_text(&body).key, expected, "{data}");
        }
    }

    #[test]
    fn a_date_that_cannot_be_read_gives_way_to_that_of_the_attempt() {
        for (date, expected) in [
            (r#""2026-11-01T12:00:00Z""#, "2026-11-01T12:00:00Z"),
            (r#""2026-11-01T12:00:00.123456789+02:00""#, "2026-11-01T10:00:00.123456789Z"),
            (r#""1970-01-01T00:00:00Z""#, "1970-01-01T00:00:00Z"),
            (r#""9999-12-31T23:59:59Z""#, "9999-12-31T23:59:59Z"),
            (r#""2026-11-01T12:00:00""#, "2026-11-01T12:00:00Z"),
            (r#""2026-11-01T12:00:00+25:00""#, "2026-11-01T12:00:00Z"),
            (r#""2026-13-01T12:00:00Z""#, "2026-11-01T12:00:00Z"),
            (r#""yesterday\u0000""#, "2026-11-01T12:00:00Z"),
            ("1793534399", "2026-11-01T12:00:00Z"),
            ("null", "2026-11-01T12:00:00Z"),
            ("[]", "2026-11-01T12:00:00Z"),
        ] {
            let body = format!(r#"{{"type":"a","created_at":{date}}}"#);
            let expected: DateTime<Utc> = expected.parse().unwrap();
            assert_eq!(read_text(&body).created_at, expected, "{date}");
        }
        for timestamp in [i64::MIN, -1, i64::MAX] {
            let event = read(br#"{"type":"a"}"#, None, timestamp).unwrap();
            assert_eq!(event.created_at, DateTime::UNIX_EPOCH, "{timestamp}");
        }
    }

    #[test]
    fn the_exact_bytes_are_kept_as_json_only_where_postgres_takes_them() {
        let nested = |depth: usize| {
            // The object itself is one level.
            format!(r#"{{"type":"a","x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1)).into_bytes()
        };
        let table: [(&str, Vec<u8>, bool); 16] = [
            ("plain", br#"{"type":"a"}"#.to_vec(), true),
            ("spaces around", b" \r\n{\"type\" : \"a\"}\t".to_vec(), true),
            ("escaped NUL", br#"{"type":"a","x":"\u0000","\u0000":1}"#.to_vec(), true),
            ("lone surrogates", br#"{"type":"a","x":"\ud800","\udc00\ud800":["\udfff"]}"#.to_vec(), true),
            ("duplicates", br#"{"type":"a","x":1,"x":2}"#.to_vec(), true),
            ("numbers", br#"{"type":"a","x":[1e400,-0,1.10,123456789012345678901234567890]}"#.to_vec(), true),
            (
                "brackets in strings",
                format!(r#"{{"type":"a","x":"\"{}"}}"#, "[".repeat(900)).into_bytes(),
                true,
            ),
            ("deep enough", nested(DEPTH_MAX), true),
            ("too deep", nested(DEPTH_MAX + 1), false),
            ("20,000 deep", nested(20_000), false),
            ("1,000,000 deep", nested(1_000_000), false),
            (
                "deep objects",
                format!("{{\"type\":\"a\",\"x\":{}1{}}}", "{\"a\":".repeat(600), "}".repeat(600)).into(),
                false,
            ),
            ("no UTF-8", b"{\"type\":\"a\",\"x\":\"\xff\xfe\"}".to_vec(), false),
            ("no UTF-8 in a name", b"{\"type\":\"a\",\"\xc3\":1}".to_vec(), false),
            ("surrogate as bytes", b"{\"type\":\"a\",\"x\":\"\xed\xa0\x80\"}".to_vec(), false),
            ("control character in a name", b"{\"type\":\"a\",\"\n\":1}".to_vec(), false),
        ];
        for (name, bytes, json) in table {
            let event = read(&bytes, Some("whe_1"), SENT_AT).unwrap();
            assert_eq!((event.event_type.as_str(), event.event_id.as_str()), ("a", "whe_1"), "{name}");
            assert_eq!(matches!(event.body, Body::Json(_)), json, "{name}");
            assert_eq!(event.body.as_bytes(), bytes, "{name}");
        }
    }

    #[test]
    fn nesting_in_place_of_a_wanted_member_is_no_obstacle() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for member in ["id", "created_at", "data", "batch_id"] {
            let event = read_text(&format!(r#"{{"type":"a","{member}":{deep}}}"#));
            assert_eq!(event.event_id, "whe_header", "{member}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_are_kept(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(event) = read(&body, None, 0) {
                prop_assert_eq!(event.body.as_bytes(), &body[..]);
            }
        }

        #[test]
        fn whatever_stands_in_a_well_formed_envelope_is_stored(
            id in "\\PC{0,20}|[\\x00-\\xff]{0,20}",
            kind in "\\PC{1,20}|[\\x00-\\xff]{1,20}",
            webhook_id in proptest::option::of("\\PC{0,700}"),
            mutated in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let text = serde_json::json!({
                "type": "event", "id": id, "created_at": id, "data": {"type": kind, "id": id, "workspace_id": id},
            }).to_string();
            let event = read(text.as_bytes(), webhook_id.as_deref(), SENT_AT).unwrap();
            for kept in [Some(&event.event_id), Some(&event.event_type), event.key.as_ref(), event.workspace_id.as_ref()]
                .into_iter().flatten()
            {
                prop_assert!(!kept.is_empty() && !kept.contains('\0') && kept.len() <= TEXT_BYTES_MAX);
            }

            let mut bytes = text.into_bytes();
            let at = mutated.index(bytes.len());
            bytes[at] = byte;
            if let Ok(event) = read(&bytes, webhook_id.as_deref(), SENT_AT) {
                prop_assert_eq!(event.body.as_bytes(), &bytes[..]);
            }
        }
    }
}
