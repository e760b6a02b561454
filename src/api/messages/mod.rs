//! Streaming a message: one request, whose answer arrives as events while the model writes.
//!
//! The API has no key by which it would know a request that is sent twice, and no stream can be resumed. So a call that
//! failed also says whether the API may have begun the message all the same, which then costs money.

mod fields;
mod final_message;
mod stream;
mod stream_error;

use bytes::Bytes;

use super::{Client, Error};

pub(crate) use fields::MessageFields;
pub use final_message::{FinalMessage, SoFar, Usage};
pub use stream::{MessageStream, Step};
pub use stream_error::StreamError;

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
        let _ = (body, betas);
        todo!("the call")
    }
}
