//! One event as bytes of the journal: its fields one after the other, each with its length.

use chrono::{DateTime, Utc};

use crate::event::{Body, NewEvent};

/// An event, and when it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ingest) struct Delivered {
    /// What the outbox is to store.
    pub(in crate::ingest) event: NewEvent,
    /// When the delivery arrived, by the clock of ingest.
    pub(in crate::ingest) received_at: DateTime<Utc>,
}

/// The length that stands for a text that is not there.
const ABSENT: u32 = u32::MAX;

const JSON: u8 = 0;
const RAW: u8 = 1;

/// Appends an event to `bytes`.
pub(super) fn encode(event: &NewEvent, received_at: DateTime<Utc>, bytes: &mut Vec<u8>) {
    put_time(received_at, bytes);
    put_time(event.created_at, bytes);
    put(Some(event.sender.as_bytes()), bytes);
    put(event.account.as_ref().map(String::as_bytes), bytes);
    put(Some(event.event_id.as_bytes()), bytes);
    put(Some(event.event_type.as_bytes()), bytes);
    put(event.key.as_ref().map(String::as_bytes), bytes);
    put(event.workspace_id.as_ref().map(String::as_bytes), bytes);
    bytes.push(if event.body.as_json().is_some() { JSON } else { RAW });
    put(Some(event.body.as_bytes()), bytes);
}

fn put_time(time: DateTime<Utc>, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&time.timestamp().to_le_bytes());
    bytes.extend_from_slice(&time.timestamp_subsec_nanos().to_le_bytes());
}

fn put(field: Option<&[u8]>, bytes: &mut Vec<u8>) {
    // What is delivered is far below 4 GiB, as the limit of a body is.
    let length = field.map_or(ABSENT, |field| u32::try_from(field.len()).unwrap_or(ABSENT));
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(field.unwrap_or_default());
}

/// Reads an event; `None` if the bytes are none.
pub(super) fn decode(bytes: &[u8]) -> Option<Delivered> {
    let mut rest = bytes;
    let received_at = take_time(&mut rest)?;
    let created_at = take_time(&mut rest)?;
    let sender = take_text(&mut rest)??;
    let account = take_text(&mut rest)?;
    let event_id = take_text(&mut rest)??;
    let event_type = take_text(&mut rest)??;
    let key = take_text(&mut rest)?;
    let workspace_id = take_text(&mut rest)?;
    let [kind] = take_array(&mut rest)?;
    let body = match kind {
        JSON => Body::Json(take_text(&mut rest)??),
        RAW => Body::Raw(take(&mut rest)??.to_vec()),
        _ => return None,
    };
    // Its trace ends with its delivery: a journal is read by the release before, too.
    let traceparent = None;
    let event =
        NewEvent { sender, account, event_id, event_type, key, workspace_id, created_at, body, traceparent };
    rest.is_empty().then_some(Delivered { event, received_at })
}

fn take_time(rest: &mut &[u8]) -> Option<DateTime<Utc>> {
    let seconds = i64::from_le_bytes(take_array(rest)?);
    let nanoseconds = u32::from_le_bytes(take_array(rest)?);
    DateTime::from_timestamp(seconds, nanoseconds)
}

/// The outer `None`: there is no such field. The inner one: the field is absent.
fn take<'b>(rest: &mut &'b [u8]) -> Option<Option<&'b [u8]>> {
    let length = u32::from_le_bytes(take_array(rest)?);
    if length == ABSENT {
        return Some(None);
    }
    let (field, others) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = others;
    Some(Some(field))
}

fn take_text(rest: &mut &[u8]) -> Option<Option<String>> {
    match take(rest)? {
        None => Some(None),
        Some(bytes) => Some(Some(String::from_utf8(bytes.to_vec()).ok()?)),
    }
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(*array)
}
