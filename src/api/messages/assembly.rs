//! From the bytes of a stream to its events, and to the message: all of it but the network.
//!
//! The framing is that of server-sent events, and `sse-core` reads it. Of the crates that were tried, `eventsource-stream`
//! 0.2 loses an event that ends with two CR, panics at a byte order mark, and reads a line of n bytes in time n²;
//! `sse-stream` 0.3 has no limit on the length of an event.

use std::num::NonZeroUsize;

use bytes::Bytes;
use sse_core::{SseDecoder, SseEvent};

use super::accumulator::{Accumulator, Fault};
use super::{FinalMessage, SoFar, Step};

/// The longest event that is read, in bytes of its data; its name may be as long.
const EVENT_BYTES_MAX: NonZeroUsize = NonZeroUsize::new(64 * 1024 * 1024).unwrap();

/// A message that grows by the bytes of its stream.
pub(super) struct Assembly {
    decoder: SseDecoder,
    /// What is not read yet.
    chunk: Bytes,
    accumulator: Accumulator,
}

/// Why no further event can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The API ends the stream with an error: the data of that event.
    Error(String),
    /// The stream is not as the API describes it.
    Flaw(&'static str),
}

impl Assembly {
    pub(super) fn new() -> Self {
        Self::with_event_bytes_max(EVENT_BYTES_MAX)
    }

    pub(super) fn with_event_bytes_max(event_bytes_max: NonZeroUsize) -> Self {
        Self {
            decoder: SseDecoder::with_limit(event_bytes_max),
            chunk: Bytes::new(),
            accumulator: Accumulator::default(),
        }
    }

    /// Adds the next bytes, once [`Assembly::step`] has read all before.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.chunk = chunk;
    }

    /// The next event; `None` if it takes more bytes, or if the message is complete. What follows a complete message is not
    /// read. Bytes that are not UTF-8 become U+FFFD, as the standard of these streams has it.
    pub(super) fn step(&mut self) -> Result<Option<Step>, Stop> {
        while !self.is_complete() {
            let event = match self.decoder.next(&mut self.chunk) {
                None => return Ok(None),
                Some(Ok(SseEvent::Message(event))) => event,
                Some(Ok(SseEvent::Retry(_))) => continue,
                Some(Err(_too_large)) => return Err(Stop::Flaw("an event is longer than 64 MiB")),
            };
            return match self.accumulator.apply(&event.event, &event.data) {
                Ok(()) => Ok(Some(Step { name: event.event.into_owned(), data: event.data })),
                Err(Fault::Error) => Err(Stop::Error(event.data)),
                Err(Fault::Flaw(flaw)) => Err(Stop::Flaw(flaw)),
            };
        }
        Ok(None)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.accumulator.is_complete()
    }

    pub(super) fn so_far(&self) -> SoFar {
        self.accumulator.so_far()
    }

    pub(super) fn finish(self) -> Option<FinalMessage> {
        self.accumulator.finish()
    }
}
