//! Whether the API may have what was sent to it, although no answer says so.
//!
//! The API has no key by which it would know a request that is sent twice. So a call that failed also says whether the API may have
//! acted on it all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use reqwest::Body;

use super::Error;

/// How much of the body of one request has been handed over to the connection.
#[derive(Debug)]
pub(super) struct Arrival {
    bytes: u64,
    handed_over: Arc<AtomicU64>,
}

impl Arrival {
    /// That of a request whose body has exactly so many bytes. The body must go out as [`Arrival::watched`] returns it.
    pub(super) fn of(bytes: u64) -> Self {
        Self { bytes, handed_over: Arc::default() }
    }

    /// The body, counted before it goes out: what is not handed over cannot have arrived.
    pub(super) fn watched<E>(&self, body: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> Body
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let counter = Arc::clone(&self.handed_over);
        Body::wrap_stream(body.inspect(move |chunk| {
            let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            counter.fetch_add(length, Ordering::SeqCst);
        }))
    }

    /// May the API have the request, which ended with this error? It may have read the whole of it, and the error does not deny it.
    pub(super) fn is_possible(&self, error: &Error) -> bool {
        self.handed_over.load(Ordering::SeqCst) >= self.bytes && !denies(error)
    }
}

/// Does the error say that the API has not taken the request, even if it had read all of it?
fn denies(error: &Error) -> bool {
    match error {
        // 408 and 409 are among these, and a 5xx may come from something in between.
        Error::Unavailable { .. } | Error::Transport(_) | Error::Malformed { .. } => false,
        Error::Refused(_)
        | Error::Account(_)
        | Error::RateLimited { .. }
        | Error::NotFound(_)
        | Error::Redirected { .. }
        | Error::ForeignOrigin
        | Error::BadId
        | Error::NotJson(_)
        | Error::Settings(_)
        | Error::NoAdminKey
        | Error::NotConfigured { .. }
        | Error::NotAsked { .. } => true,
    }
}
