//! The body of a request: read whole within its limits, or drained where the request is refused.
//!
//! A body counts against the shared memory by the bytes that have arrived, not by the length it announces, so that
//! bodies which never arrive take none.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::EXPECT;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::Limits;

/// Up to this size a body counts as small. Deliveries of the API are below 1 kB.
const SMALL_BODY_BYTES_MAX: usize = 16 * 1024;

/// How much of a refused body is read and thrown away, so that its sender gets as far as reading the answer.
const RUN_OUT_BYTES_MAX: usize = 64 << 20;
/// How long a refused body is read.
const RUN_OUT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a body was not read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotRead {
    TooLarge,
    Slow,
    Broken,
    /// Other bodies hold all the memory for large ones.
    NoRoom,
}

/// The part of a body that has not been read yet.
pub(super) struct Incoming {
    body: BodyDataStream,
    /// The sender waits for our `100 Continue` before it sends the body.
    is_held_back: bool,
}

impl Incoming {
    pub(super) fn new(headers: &HeaderMap, body: Body) -> Self {
        Self { body: body.into_data_stream(), is_held_back: headers.contains_key(EXPECT) }
    }

    /// Reads the whole body. Returns it with the room that it takes up.
    pub(super) async fn read<'b>(
        &mut self,
        limits: &Limits,
        large_bodies: &'b Semaphore,
    ) -> Result<(Bytes, Room<'b>), NotRead> {
        // A body that is announced as too large is refused before it is read.
        if self.body.size_hint().lower() > limits.body_bytes_max as u64 {
            return Err(NotRead::TooLarge);
        }
        let mut room = Room { large_bodies, held: None };
        let whole = async {
            let mut bytes = BytesMut::new();
            self.is_held_back = false;
            while let Some(chunk) = self.body.next().await {
                let chunk = chunk.map_err(|_| NotRead::Broken)?;
                let size = bytes.len() + chunk.len();
                if size > limits.body_bytes_max {
                    return Err(NotRead::TooLarge);
                }
                room.grow_to(size)?;
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes.freeze())
        };
        let bytes = timeout(limits.body_timeout, whole).await.unwrap_or(Err(NotRead::Slow))?;
        Ok((bytes, room))
    }

    /// Reads the rest for a while in the background, and throws it away. A sender that is still sending may read the
    /// answer only when it is done; if the connection were closed before, the answer would be lost.
    pub(super) fn run_out(self) {
        let Self { mut body, is_held_back } = self;
        if is_held_back || body.is_end_stream() {
            return;
        }
        tokio::spawn(timeout(RUN_OUT_TIMEOUT, async move {
            let mut seen = 0;
            while let Some(Ok(chunk)) = body.next().await {
                seen += chunk.len();
                if seen > RUN_OUT_BYTES_MAX {
                    return;
                }
            }
        }));
    }
}

/// The memory that a body takes up. Small bodies need no permit, so that a sender of large ones cannot shut them out.
pub(super) struct Room<'b> {
    large_bodies: &'b Semaphore,
    held: Option<SemaphorePermit<'b>>,
}

impl Room<'_> {
    fn grow_to(&mut self, bytes: usize) -> Result<(), NotRead> {
        let held = self.held.as_ref().map_or(0, SemaphorePermit::num_permits);
        let wanted = if bytes > SMALL_BODY_BYTES_MAX { bytes - held } else { 0 };
        if wanted == 0 {
            return Ok(());
        }
        let wanted = u32::try_from(wanted).map_err(|_| NotRead::NoRoom)?;
        let more = self.large_bodies.try_acquire_many(wanted).map_err(|_| NotRead::NoRoom)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}
