//! Sending batches, and taking them back: the calls that cost money, or end something.
//!
//! A call that failed to create one also says whether the API may have the batch all the same (`arrival`).

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::Stream;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, Response};

use super::arrival::Arrival;
use super::{Batch, Client, Error, read_at_most};

/// How long the API may take for a batch that it is sent; the official SDKs wait as long.
const CREATE_TIMEOUT: Duration = Duration::from_secs(600);

/// The longest answer about one batch that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A batch was not created, as far as we know.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotCreated {
    /// Why.
    #[source]
    pub error: Error,
    /// The API may have the batch all the same: it may have read the whole request, and gave no answer that denies it.
    pub may_have_arrived: bool,
}

impl Client {
    /// Sends a batch, whose body has exactly `bytes` bytes, in chunks of any size.
    ///
    /// # Errors
    /// [`NotCreated`], which says whether the batch may be there all the same. An error of `body` breaks the request off.
    pub async fn create_batch<E>(
        &self,
        bytes: u64,
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<Batch, NotCreated>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let arrival = Arrival::of(bytes);
        let body = arrival.watched(body);
        let create = async {
            let wire = self.wire()?;
            let url = wire.url(&["v1", "messages", "batches"])?;
            let request = wire
                .upload(Method::POST, url.clone())?
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT, "application/json")
                .header(CONTENT_LENGTH, bytes)
                .timeout(CREATE_TIMEOUT)
                .body(body);
            // Apart from the list, which has the same path and is what tells whether this one arrived.
            let name = format!("{}/create", url.path());
            wire.health.ask(&name, async { read(wire.send(request).await?).await }).await
        };
        create.await.map_err(|error| NotCreated { may_have_arrived: arrival.is_possible(&error), error })
    }

    /// Asks the API to cancel a batch. What has succeeded by then stays.
    ///
    /// # Errors
    /// Those of any request. [`Error::Refused`] also if the batch has ended already.
    pub async fn cancel_batch(&self, id: &str) -> Result<Batch, Error> {
        let wire = self.wire()?;
        let url = wire.url(&["v1", "messages", "batches", id, "cancel"])?;
        let request = wire.request(Method::POST, url.clone(), &[])?.header(ACCEPT, "application/json");
        wire.health.ask(url.path(), async { read(wire.send(request).await?).await }).await
    }

    /// Deletes an ended batch and its results at the API. One that the API does not know is deleted.
    ///
    /// # Errors
    /// Those of any request.
    pub async fn delete_batch(&self, id: &str) -> Result<(), Error> {
        let wire = self.wire()?;
        let url = wire.url(&["v1", "messages", "batches", id])?;
        let request = wire.request(Method::DELETE, url.clone(), &[])?.header(ACCEPT, "application/json");
        let answer = wire.health.ask(url.path(), async { wire.send(request).await.map(drop) }).await;
        match answer {
            Err(Error::NotFound(_)) => Ok(()),
            other => other,
        }
    }
}

async fn read(response: Response) -> Result<Batch, Error> {
    let malformed = || Error::Malformed { promised: "a batch" };
    let body = read_at_most(response, ANSWER_BYTES_MAX).await?.ok_or_else(malformed)?;
    let batch: Batch = serde_json::from_slice(&body).map_err(|_| malformed())?;
    let is_batch = !batch.id.is_empty() && batch.kind.as_deref().is_none_or(|kind| kind == "message_batch");
    if is_batch { Ok(batch) } else { Err(malformed()) }
}
