//! A message while it arrives.

use std::convert::Infallible;

use super::{FinalMessage, SoFar, StreamError};

/// The stream of one message.
#[derive(Debug)]
pub struct MessageStream {
    never: Infallible,
}

/// One event of a stream, exactly as the API sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The name of the event, such as `content_block_delta`; empty if the API gave none.
    pub name: String,
    /// The data of the event: usually a JSON object. Several lines of data are joined by line feeds.
    pub data: String,
}

impl MessageStream {
    /// The id of the request, which the API's support asks for.
    pub fn request_id(&self) -> Option<&str> {
        match self.never {}
    }

    /// The next event, in order, also a `ping` or an unknown one; `None` once the message is complete. Nothing is lost if the
    /// caller drops the future.
    ///
    /// # Errors
    /// [`StreamError`]. Then the stream is over, and the message is not complete.
    pub async fn next(&mut self) -> Result<Option<Step>, StreamError> {
        match self.never {}
    }

    /// What is known of the message by now.
    pub fn so_far(&self) -> SoFar {
        match self.never {}
    }

    /// The message, once [`MessageStream::next`] has returned `None`.
    ///
    /// # Errors
    /// [`StreamError::Ended`] if the message is not complete.
    pub fn finish(self) -> Result<FinalMessage, StreamError> {
        match self.never {}
    }
}
