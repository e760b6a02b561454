//! The envelope of a delivery: what ingest must know of an event in order to store it, read from its body.
//!
//! A verified event is stored whatever its body holds, so reading is tolerant where the API's own types are strict.
//! Members given twice (the last one counts), broken Unicode, numbers in place of text, numbers beyond any range and
//! nesting of any depth are accepted. Members that are not part of the envelope are skipped unread and without
//! recursion. The meaning of the event does not matter here. A body that is not a JSON object, or that names no event
//! type, becomes an event of the type [`UNREADABLE`].
//!
//! A body is read in one way only: ingest reads the envelope so, and `data` gives handlers the same values. The body
//! itself is never changed: it is stored as JSON if Postgres can hold it as JSON, else as bytes.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::error::Category;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use self::members::{Members, scalar};
use crate::event::{ANTHROPIC, Body, NewEvent};

pub use self::data::{Subject, subject_of};

mod data;
mod date;
mod members;
mod mend;
#[cfg(test)]
mod tests;

/// The longest identifier, key, type or workspace that is stored as it came, in bytes. An index entry of Postgres holds
/// about 2,700 bytes; longer text is replaced by its hash, so equal texts stay equal and different ones different.
pub const TEXT_BYTES_MAX: usize = 512;

/// How deeply a body may nest and still be kept as JSON. Postgres parses `json` recursively, limited by the
/// server's `max_stack_depth`; with the default it fails beyond some thousands of levels.
pub const DEPTH_MAX: usize = 512;

/// The type of an event whose body cannot be read. It is stored, and becomes a dead letter that says why.
pub const UNREADABLE: &str = "unreadable";

/// Why no envelope can be read from a body. The text gives the position, and repeats nothing of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The body is empty.
    #[error("the body is empty")]
    Empty,
    /// The body is not JSON, or breaks off.
    #[error("the body is no JSON from line {line}, column {column} on")]
    NotJson {
        /// The line, from 1.
        line: usize,
        /// The position in the line, in bytes.
        column: usize,
    },
    /// The body is JSON, but not an object.
    #[error("the body is no JSON object")]
    NotAnObject,
    /// Neither the body nor its `data` names the type of the event.
    #[error("the body names no event type")]
    NoType,
}

/// Reads the event that `body` carries.
///
/// - The type is `data.type` if the top-level `type` is `event` (as in every webhook), else the top-level `type`.
/// - The identifier is the body's `id`, else `webhook_id`, else the hash of the body.
/// - The key is `data.id`, else `data.batch_id`.
/// - It happened at `created_at`, else when the delivery was sent (`attempt_timestamp`, Unix seconds).
///
/// # Errors
/// [`Unreadable`], only if the body is not a JSON object or names no type. [`unreadable`] then makes an event of it.
pub fn read(body: &[u8], webhook_id: Option<&str>, attempt_timestamp: i64) -> Result<NewEvent, Unreadable> {
    let text = text(body);
    let top = members(&text)?;
    let data = members_or_none(top.data);
    Ok(NewEvent {
        sender: ANTHROPIC.to_owned(),
        account: Some(ANTHROPIC.to_owned()),
        event_id: event_id(top.id, webhook_id, body),
        event_type: event_type(&top, &data).ok_or(Unreadable::NoType)?,
        key: data.id.and_then(mended).or_else(|| data.batch_id.and_then(mended)),
        workspace_id: data.workspace_id.and_then(mended),
        created_at: top
            .created_at
            .and_then(date::read)
            .unwrap_or_else(|| date::of_attempt(attempt_timestamp)),
        body: self::body(body),
        traceparent: None,
    })
}

/// The event for a body that [`read`] cannot read: of the type [`UNREADABLE`], under `webhook_id`, else under the hash of
/// the body, so that a repeated delivery is the same event.
pub fn unreadable(body: &[u8], webhook_id: Option<&str>, attempt_timestamp: i64) -> NewEvent {
    NewEvent {
        sender: ANTHROPIC.to_owned(),
        account: Some(ANTHROPIC.to_owned()),
        event_id: event_id(None, webhook_id, body),
        event_type: UNREADABLE.to_owned(),
        key: None,
        workspace_id: None,
        created_at: date::of_attempt(attempt_timestamp),
        body: self::body(body),
        traceparent: None,
    }
}

/// Why [`read`] cannot read this body; `None` if it can.
pub fn fault(body: &[u8]) -> Option<Unreadable> {
    read(body, None, 0).err()
}

/// The text of a body, as a parser takes it. Some senders leave a byte order mark before the JSON, NULs and blanks
/// behind it, and bare control characters in strings: the first two are cut off, the last become escapes. Bytes that
/// are not UTF-8 can only occur inside JSON strings; they are read as U+FFFD.
fn text(body: &[u8]) -> Cow<'_, str> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let is_filler = |byte: &u8| matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n');
    let end = body.iter().rposition(|byte| !is_filler(byte)).map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(&body[..end]);
    if text.bytes().any(|byte| byte < b' ') { mend::with_escapes(&text).into() } else { text }
}

/// The members of an object.
fn members(text: &str) -> Result<Members<'_>, Unreadable> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        _ if text.is_empty() => Unreadable::Empty,
        Category::Data => Unreadable::NotAnObject,
        _ => Unreadable::NotJson { line: error.line(), column: error.column() },
    })
}

/// The members of a value; all absent if it is missing or not an object.
fn members_or_none(value: Option<&RawValue>) -> Members<'_> {
    value.and_then(|value| members(value.get()).ok()).unwrap_or_default()
}

fn event_type(top: &Members<'_>, data: &Members<'_>) -> Option<String> {
    match (top.kind.and_then(mended), data.kind.and_then(mended)) {
        (Some(kind), Some(of_data)) if kind == "event" => Some(of_data),
        (kind, of_data) => kind.or(of_data),
    }
}

/// The identifier under which the outbox keeps the event once.
///
/// An identifier that a Postgres text cannot hold is not used and not repaired: two repaired ones could become equal,
/// and the younger event would then count as a duplicate and be lost.
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
        // There is no identifier, or the lossy copy may have made two different ones equal. A repeated delivery has the
        // same body.
        hash(body)
    }
}

/// The text of a string or a number as Postgres can hold it; `None` for anything else, and for an empty string.
fn mended(value: &RawValue) -> Option<String> {
    identifier(value).map(bounded)
}

/// As [`mended`], but not shortened.
fn identifier(value: &RawValue) -> Option<String> {
    let text = scalar(value).filter(|text| !text.is_empty())?;
    Some(text.replace('\0', "\u{fffd}"))
}

/// The text, or its hash where it is too long for an index.
pub(crate) fn bounded(text: String) -> String {
    if text.len() <= TEXT_BYTES_MAX { text } else { hash(text.as_bytes()) }
}

fn hash(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The exact bytes, as JSON if the column type `json` takes them.
pub fn body(body: &[u8]) -> Body {
    match str::from_utf8(body) {
        Ok(text) if is_json_for_postgres(text) => Body::Json(text.to_owned()),
        _ => Body::Raw(body.to_vec()),
    }
}

fn is_json_for_postgres(text: &str) -> bool {
    // `json` keeps the escapes \u0000 and lone surrogates as they are written; only `jsonb` refuses them. This
    // parser is stricter than the one for the envelope: it refuses control characters in names.
    depth(text) <= DEPTH_MAX && !text.contains('\0') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// How deeply arrays and objects nest at most.
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
