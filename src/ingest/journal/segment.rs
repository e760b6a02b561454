//! The bytes of one segment of the journal: a head, and a frame for each event.
//!
//! ```text
//! head   "RESTJNL1", 8 random bytes: the mark, CRC of both
//! frame  the mark, length of the event, CRC of both, CRC of the event, the event
//! ```
//!
//! Numbers are little-endian, of 4 bytes. Nobody outside knows the mark of a segment, so no body can contain what looks like a
//! frame: after damage, reading goes on at the next whole frame.

use chrono::{DateTime, Utc};

use super::record::{self, Delivered};
use crate::event::NewEvent;

const MAGIC: &[u8; 8] = b"RESTJNL1";
const MARK_BYTES: usize = 8;
/// How long the head of a segment is.
pub(super) const HEAD_BYTES: usize = MAGIC.len() + MARK_BYTES + 4;
const FRAME_HEAD_BYTES: usize = MARK_BYTES + 4 + 4 + 4;

/// What the frames of one segment begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark([u8; MARK_BYTES]);

impl Mark {
    /// A mark for a new segment.
    pub(super) fn new() -> Self {
        Self(rand::random())
    }

    /// The head of a segment with this mark.
    pub(super) fn head(self) -> Vec<u8> {
        let mut head = [MAGIC.as_slice(), &self.0].concat();
        let crc = crc32fast::hash(&head);
        head.extend_from_slice(&crc.to_le_bytes());
        head
    }

    /// Appends the frame of an event to `bytes`.
    pub(super) fn frame(self, event: &NewEvent, received_at: DateTime<Utc>, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        record::encode(event, received_at, bytes);
        let (head, event) = bytes[start..].split_at_mut(FRAME_HEAD_BYTES);
        head[..8].copy_from_slice(&self.0);
        head[8..12].copy_from_slice(&u32::try_from(event.len()).unwrap_or(u32::MAX).to_le_bytes());
        let crc = crc32fast::hash(&head[..12]);
        head[12..16].copy_from_slice(&crc.to_le_bytes());
        head[16..].copy_from_slice(&crc32fast::hash(event).to_le_bytes());
    }
}

/// What a segment was found to hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Its whole events, in the order in which they were written.
    pub(super) events: Vec<Delivered>,
    /// How many bytes are damaged: bytes that were written whole and are not what was written.
    pub(super) damaged_bytes: usize,
    /// How long it is without a torn tail: a write that did not reach its end, so that nobody was told that it had.
    pub(super) whole_bytes: usize,
}

/// Reads the bytes of a segment.
pub(super) fn read(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    let Some((head, _)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return found };
    let (named, crc) = head.split_at(HEAD_BYTES - 4);
    if !named.starts_with(MAGIC) || crc != crc32fast::hash(named).to_le_bytes() {
        found.damaged_bytes = bytes.len();
        found.whole_bytes = bytes.len();
        return found;
    }
    let mark = &named[MAGIC.len()..];
    let mut at = HEAD_BYTES;
    found.whole_bytes = at;
    while at < bytes.len() {
        match frame(&bytes[at..], mark) {
            Ok((event, length)) => {
                found.events.push(event);
                at += length;
            }
            Err(broken) => {
                let next = next_whole(&bytes[at..], mark).map(|distance| at + distance);
                if next.is_none() && broken == Broken::Torn {
                    return found;
                }
                let next = next.unwrap_or(bytes.len());
                found.damaged_bytes += next - at;
                at = next;
            }
        }
        found.whole_bytes = at;
    }
    found
}

/// Why there is no whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// The bytes end before the frame does.
    Torn,
    Damaged,
}

/// The event of the frame with which `bytes` begin, and how long that frame is.
fn frame(bytes: &[u8], mark: &[u8]) -> Result<(Delivered, usize), Broken> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else {
        let begun = bytes.len().min(MARK_BYTES);
        return Err(if bytes[..begun] == mark[..begun] { Broken::Torn } else { Broken::Damaged });
    };
    let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|place| head[at + place]));
    if !head.starts_with(mark) || number(12) != crc32fast::hash(&head[..12]) {
        return Err(Broken::Damaged);
    }
    let length = usize::try_from(number(8)).map_err(|_| Broken::Damaged)?;
    let event = rest.get(..length).ok_or(Broken::Torn)?;
    if number(16) != crc32fast::hash(event) {
        return Err(Broken::Damaged);
    }
    let decoded = record::decode(event).ok_or(Broken::Damaged)?;
    Ok((decoded, FRAME_HEAD_BYTES + length))
}

/// How far the next whole frame is from the beginning of `bytes`, where none is.
fn next_whole(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(bytes, mark).find(|&at| at > 0 && frame(&bytes[at..], mark).is_ok())
}
