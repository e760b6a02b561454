//! Whether a request that failed may have arrived all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use reqwest::Body;

use super::Error;

/// How much of the body of a request was handed over to its connection.
#[derive(Debug)]
pub(super) struct Arrival {
    bytes: u64,
    handed_over: Arc<AtomicU64>,
}

impl Arrival {
    /// The body of exactly `bytes` bytes, and what is known of its arrival.
    pub(super) fn of<E>(
        bytes: u64,
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> (Arrival, Body)
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let handed_over = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&handed_over);
        // Counted before it goes out: what is not handed over cannot have arrived.
        let body = body.inspect(move |chunk| {
            let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            counter.fetch_add(length, Ordering::SeqCst);
        });
        (Arrival { bytes, handed_over }, Body::wrap_stream(body))
    }

    /// May the API have acted on a request that failed with this error? It may if it could read the whole request, and the
    /// error does not deny it.
    pub(super) fn is_possible(&self, error: &Error) -> bool {
        self.handed_over.load(Ordering::SeqCst) >= self.bytes && !error.denies_arrival()
    }
}
