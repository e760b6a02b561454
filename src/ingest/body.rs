//! The body of a request: read whole within its bounds, and let run out where it is not wanted.
//!
//! Memory is taken by what has come of a body and not by what may come, so that bodies which never come take none.

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

/// How much of a body is read that nobody wants, so that its sender gets to its answer.
const RUN_OUT_BYTES_MAX: usize = 64 << 20;
/// For how long.
const RUN_OUT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a body was not read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotRead {
    TooLarge,
    Slow,
    Broken,
    /// Other bodies hold all the memory that there is for large ones.
    NoRoom,
}

/// A body, as far as it has not been read.
pub(super) struct Incoming {
    body: BodyDataStream,
    /// The sender waits to be asked for it.
    is_held_back: bool,
}

impl Incoming {
    pub(super) fn new(headers: &HeaderMap, body: Body) -> Self {
        Self { body: body.into_data_stream(), is_held_back: headers.contains_key(EXPECT) }
    }

    /// All of it, and the room that it takes up.
    pub(super) async fn read<'b>(
        &mut self,
        limits: &Limits,
        large_bodies: &'b Semaphore,
    ) -> Result<(Bytes, Room<'b>), NotRead> {
        // What is announced to be too large need not come first.
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

    /// Reads on for a while in the background, and forgets what comes. A sender that is still sending reads its answer only
    /// afterwards, or between; were the connection closed on it, the answer would be lost with it.
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

/// The memory that a body takes up. Small ones always have some, so that a sender of large ones cannot shut them out.
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
