//! Streaming a message: one request, whose answer arrives as events while the model writes.
//!
//! The API has no key by which it would know a request that is sent twice, and no stream can be resumed. So a call that
//! failed also says whether the API may have begun the message all the same, which then costs money.

mod accumulator;
mod assembly;
mod block;
mod fields;
mod final_message;
mod object;
mod stream;
mod stream_error;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response};

use super::arrival::Arrival;
use super::{Client, Error};

pub(crate) use fields::MessageFields;
pub use final_message::{FinalMessage, SoFar, Usage};
pub use stream::{MessageStream, Step};
pub use stream_error::StreamError;

/// The media type of a stream of events.
const EVENTS: &str = "text/event-stream";

/// The stream of a message was not opened, as far as we know.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotOpened {
    /// Why.
    #[source]
    pub error: Error,
    /// The API may have begun the message all the same: it may have read the whole request, and gave no answer that
    /// denies it.
    pub may_have_arrived: bool,
}

impl Client {
    /// Asks for a message as a stream. The body is the JSON of the request, with `"stream": true` in it. The betas are
    /// added to the configured ones.
    ///
    /// The stream may last as long as it likes, but no silence before or within it may be longer than
    /// [`Settings::idle_timeout`](super::Settings::idle_timeout).
    ///
    /// # Errors
    /// [`NotOpened`], which says whether the message may cost money all the same. [`Error::Malformed`] if the answer is
    /// no stream of events.
    pub async fn stream_message(&self, body: Bytes, betas: &[&str]) -> Result<MessageStream, NotOpened> {
        let length = body.len();
        let (arrival, body) =
            Arrival::of(length as u64, futures_util::stream::once(async { Ok::<_, Infallible>(body) }));
        let open = async {
            let wire = self.wire()?;
            let url = wire.url(&["v1", "messages"])?;
            let request = wire
                .request(Method::POST, url.clone(), betas)?
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT, EVENTS)
                // What compresses an answer may hold its beginning back.
                .header(ACCEPT_ENCODING, "identity")
                .header(CONTENT_LENGTH, length)
                .body(body);
            let answer = async {
                match wire.send(request).await {
                    // An answer to this message, which says nothing of the others.
                    Err(error) if error.is_of_content() => Ok(Err(error)),
                    other => other.and_then(a_stream).map(Ok),
                }
            };
            let response = wire.health.ask_apart(url.path(), answer).await??;
            Ok(MessageStream::new(Arc::clone(wire), url.path().to_owned(), response))
        };
        open.await.map_err(|error| NotOpened { may_have_arrived: arrival.is_possible(&error), error })
    }
}

/// The response, unless it says that it is something else.
fn a_stream(response: Response) -> Result<Response, Error> {
    let media_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    match media_type {
        Some(media_type) if !media_type.to_ascii_lowercase().starts_with(EVENTS.as_bytes()) => {
            Err(Error::Malformed { promised: "a stream of events" })
        }
        _ => Ok(response),
    }
}
