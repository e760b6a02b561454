//! The envelope of a delivery: what ingest must know of an event in order to store it, read from its body.
//!
//! A verified event is kept whatever is inside it, so reading is tolerant where the API's own types are strict:
//! members given twice, broken Unicode, numbers beyond any range and nesting of any depth are no reason to refuse.
//! Only a body that is no JSON object, or that says of no type, is. Members that are not part of the envelope are
//! skipped unread and without recursion. What the event means is not looked at here.
//!
//! The body itself is never changed: it is kept as JSON where Postgres can hold it as such, else as bytes.

use chrono::{DateTime, Utc};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use self::members::{Members, scalar};
use crate::event::{Body, NewEvent};

mod members;
#[cfg(test)]
mod tests;

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
