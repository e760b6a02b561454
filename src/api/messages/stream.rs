//! A message while it arrives.

use std::fmt;
use std::sync::Arc;

use reqwest::Response;
use reqwest::header::HeaderMap;

use super::assembly::{Assembly, Stop};
use super::{FinalMessage, SoFar, StreamError};
use crate::api::wire::Wire;
use crate::api::{Error, error};

/// The stream of one message. It asks for as much as its reader takes.
pub struct MessageStream {
    wire: Arc<Wire>,
    /// Where it was asked for.
    path: String,
    headers: HeaderMap,
    /// `None` once nothing more can be read.
    response: Option<Response>,
    assembly: Assembly,
}

/// One event of a stream, exactly as the API sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The name of the event, such as `content_block_delta`; `message` if the API gave none.
    pub name: String,
    /// The data of the event: usually a JSON object. Several lines of data are joined by line feeds.
    pub data: String,
}

impl MessageStream {
    pub(super) fn new(wire: Arc<Wire>, path: String, response: Response) -> Self {
        let headers = response.headers().clone();
        let assembly = Assembly::new();
        Self { wire, path, headers, response: Some(response), assembly }
    }

    /// The id of the request, which the API's support asks for.
    pub fn request_id(&self) -> Option<&str> {
        self.headers.get("request-id").and_then(|id| id.to_str().ok())
    }

    /// The next event, in order, also a `ping` or an unknown one; `None` once the message is complete. Nothing is lost if the
    /// caller drops the future.
    ///
    /// # Errors
    /// [`StreamError`]. Then the stream is over, and the message is not complete; a further call gives
    /// [`StreamError::Ended`].
    pub async fn next(&mut self) -> Result<Option<Step>, StreamError> {
        let step = self.read().await;
        if step.is_err() {
            self.response = None;
        }
        step
    }

    async fn read(&mut self) -> Result<Option<Step>, StreamError> {
        let response = self.response.as_mut().ok_or(StreamError::Ended)?;
        loop {
            match self.assembly.step() {
                Ok(Some(step)) => return Ok(Some(step)),
                Ok(None) if self.assembly.is_complete() => return Ok(None),
                Ok(None) => {}
                Err(Stop::Error(data)) => return Err(self.broken_off(&data)),
                Err(Stop::Flaw(flaw)) => return Err(StreamError::Malformed { flaw }),
            }
            match response.chunk().await {
                Ok(Some(chunk)) => self.assembly.push(chunk),
                Ok(None) => return Err(StreamError::Ended),
                Err(error) if error.is_timeout() => {
                    return Err(StreamError::Silent { after: self.wire.idle_timeout });
                }
                Err(error) => return Err(StreamError::Cut(Error::transport(error))),
            }
        }
    }

    /// The error with which the API ends the stream. The status was a success, so the type of the error decides.
    fn broken_off(&self, data: &str) -> StreamError {
        let answer = error::answer(200, &self.headers, data.as_bytes(), self.wire.secrets());
        let error = StreamError::of(answer);
        if let Some(trouble) = error.as_trouble_of_api() {
            self.wire.health.broke_off(&self.path, &trouble);
        }
        error
    }

    /// What is known of the message by now.
    pub fn so_far(&self) -> SoFar {
        self.assembly.so_far()
    }

    /// The message, once [`MessageStream::next`] has returned `None`.
    ///
    /// # Errors
    /// [`StreamError::Ended`] if the message is not complete.
    pub fn finish(self) -> Result<FinalMessage, StreamError> {
        self.assembly.finish().ok_or(StreamError::Ended)
    }
}

impl fmt::Debug for MessageStream {
    /// Without the message, which may be confidential.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_complete = self.assembly.is_complete();
        let mut stream = formatter.debug_struct("MessageStream");
        stream.field("request_id", &self.request_id()).field("is_complete", &is_complete);
        stream.finish_non_exhaustive()
    }
}
