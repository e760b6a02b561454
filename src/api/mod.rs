//! The client of the API: the only place from which requests leave with the key.
//!
//! Every request passes `Wire::request`, which attaches the key and refuses any URL outside the configured origin;
//! redirects are not followed. So the key goes to that origin and nowhere else, whatever a URL in an answer or an id in
//! an event says. Nothing is retried here: an [`Error`] says whose fault it is, and the handler that asked decides what
//! follows. While the API is in trouble, few requests are made (`health`).

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;
use tokio::sync::watch;
use url::Url;

use crate::event::ANTHROPIC;
use crate::key_use::Uses;

mod accounts;
mod arrival;
mod batch;
mod delete;
mod error;
mod governor;
mod health;
mod keys;
mod messages;
mod missing;
mod post;
mod retry_after;
#[cfg(test)]
mod stand_in;
mod submit;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use accounts::SharedByWorkers;
#[doc(hidden)]
pub use accounts::keys as keys_of_accounts;
pub use accounts::{Account, Accounts};
pub use batch::{Batch, Page, RequestCounts, ResultsStream};
pub use error::{Answer, Error};
#[cfg(feature = "service")]
pub(crate) use governor::{API_CALLS_TOTAL, API_WAIT_SECONDS};
pub(crate) use governor::{Budget, Class, Learned, Leased};
pub use messages::{FinalMessage, MessageStream, NotOpened, SoFar, Step, StreamError, Usage};
pub use post::NotPosted;
pub(crate) use retry_after::retry_after;
pub use submit::NotCreated;

pub(crate) use messages::MessageFields;

use health::Health;
pub(crate) use health::{Open, Trouble};
use missing::Missing;
use wire::Wire;

/// The longest JSON answer that is read, decompressed. A page of 1,000 batches has less than one MiB.
const JSON_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the API is: `https://api.anthropic.com` or a replacement. It may have a path, which comes before the
    /// API's.
    pub base_url: Url,
    /// The key, without white space around it.
    pub key: SecretString,
    /// How the key is sent.
    pub auth: Auth,
    /// `anthropic-version`.
    pub version: String,
    /// `anthropic-beta` of every request.
    pub betas: Vec<String>,
    /// The key for what is below `/v1/organizations/`, which the API shows to Admin keys only.
    pub admin_key: Option<SecretString>,
    /// `anthropic-workspace-id`, for a key that may act in several workspaces.
    pub workspace_id: Option<String>,
    /// The proxy that requests go through, as `http://HOST:PORT`; without a user.
    pub proxy: Option<Url>,
    /// The longest silence before and within an answer. An answer that is read whole must arrive within this time in
    /// total.
    pub idle_timeout: Duration,
}

impl Settings {
    /// The usual settings: the key as `x-api-key`, version 2023-06-01, no betas, 60 s of silence at most.
    pub fn new(base_url: Url, key: SecretString) -> Settings {
        Settings {
            base_url,
            key,
            auth: Auth::XApiKey,
            version: "2023-06-01".to_owned(),
            betas: Vec::new(),
            admin_key: None,
            workspace_id: None,
            proxy: None,
            idle_timeout: Duration::from_secs(60),
        }
    }
}

impl PartialEq for Settings {
    /// Compares the keys in place, without a copy of them.
    fn eq(&self, other: &Self) -> bool {
        let Self { base_url, key, auth, version, betas, admin_key, workspace_id, proxy, idle_timeout } = self;
        let texts = |key: &Option<SecretString>, other: &Option<SecretString>| {
            key.as_ref().map(ExposeSecret::expose_secret) == other.as_ref().map(ExposeSecret::expose_secret)
        };
        key.expose_secret() == other.key.expose_secret()
            && texts(admin_key, &other.admin_key)
            && (base_url, auth, version, betas)
                == (&other.base_url, &other.auth, &other.version, &other.betas)
            && (workspace_id, proxy, idle_timeout) == (&other.workspace_id, &other.proxy, &other.idle_timeout)
    }
}

/// How the key is sent. The API takes either, and refuses both at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `x-api-key: KEY`.
    XApiKey,
    /// `authorization: Bearer KEY`.
    Bearer,
}

/// The client of one account. Cheap to clone; clones share their connections.
///
/// That of an account which is [not configured](Error::NotConfigured) answers every call with that.
#[derive(Clone, Debug)]
pub struct Client(Result<Arc<Wire>, Arc<Missing>>);

impl Client {
    /// Makes a client; it does not connect yet.
    ///
    /// TLS is rustls with ring, which becomes the default of the process if it has none. Proxies that the environment
    /// names are not used.
    ///
    /// # Errors
    /// [`Error::Settings`] if the settings cannot work, [`Error::Transport`] if TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Client, Error> {
        let uses = Uses::default();
        uses.hold(&keys::keys_of(ANTHROPIC, &settings).collect());
        Ok(Client(Ok(Arc::new(Wire::new(ANTHROPIC, settings, Health::new(), uses)?))))
    }

    /// Fetches the object at a path, and returns its JSON exactly as it came. The path is given in segments, which may
    /// contain anything, also text from outside; the query in pairs. The betas are added to the configured ones.
    ///
    /// # Errors
    /// [`Error::BadId`] if a segment cannot name anything, [`Error::Malformed`] if the answer is not a JSON object, and
    /// those of any request: the API refuses it or cannot answer, or the connection fails.
    pub async fn get_json(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        betas: &[&str],
    ) -> Result<Box<RawValue>, Error> {
        let wire = self.wire()?;
        let mut url = wire.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        // One deadline for the whole answer: an answer that trickles would pass any limit on silence.
        let request = wire.request(Method::GET, url.clone(), betas)?.timeout(wire.idle_timeout);
        let answer =
            async { read_object(wire.send(request.header("accept", "application/json")).await?).await };
        wire.health.ask(url.path(), answer).await
    }

    /// What is wrong with the API at present, in a line; `None` unless its answers show that something is.
    pub fn trouble(&self) -> Option<String> {
        self.0.as_ref().map_or_else(|missing| Some(missing.to_string()), |wire| wire.health.trouble())
    }

    /// Changes whenever the API answers again after it was in [trouble](Client::trouble).
    pub fn recoveries(&self) -> watch::Receiver<u64> {
        // Of an account that is not configured nobody hears.
        self.0.as_ref().map_or_else(|_| watch::Sender::new(0).subscribe(), |wire| wire.health.recoveries())
    }

    /// From now on its calls share a budget with those of other workers, and its troubles a breaker.
    fn share(&self, shared: &SharedByWorkers) {
        if let Ok(wire) = &self.0 {
            wire.health.governor.share(Arc::clone(&shared.budget));
            wire.health.tell_breaker(&shared.breaker_news);
        }
    }

    /// How the API fares by the answers that this process got, where there is an API to ask.
    pub(crate) fn experience(&self) -> Option<Experience<'_>> {
        self.0.as_ref().ok().map(|wire| Experience(&wire.health))
    }

    /// The way to the API, where there is one.
    fn wire(&self) -> Result<&Arc<Wire>, Error> {
        match &self.0 {
            Ok(wire) => Ok(wire),
            Err(missing) => Err(missing.error()),
        }
    }
}

/// What the breaker that workers share asks and tells.
#[derive(Debug)]
pub(crate) struct Experience<'a>(&'a Health);

impl Experience<'_> {
    /// The parts of the API that do not answer this process.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        self.0.troubles()
    }

    /// The kind and the text of the last failure of this part; none if it has answered since.
    pub(crate) fn last_failure(&self, part: &str) -> Option<(&'static str, String)> {
        self.0.last_failure(part)
    }

    /// How many requests for this part were answered.
    pub(crate) fn answers(&self, part: &str) -> u64 {
        self.0.answers(part)
    }

    /// Takes note of how the breaker stands.
    pub(crate) fn heed(&self, open: Open<'_>) {
        self.0.heed(open);
    }
}

/// A web address without a user in it.
fn is_plain(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
}

/// Does the address end in `/v1` or one of our paths, so that `/v1` would occur twice? A gateway may have a `/v1` of
/// its own further to the front.
pub(crate) fn is_of_version(base_url: &Url) -> bool {
    let path = base_url.path().to_ascii_lowercase();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    matches!(segments.as_slice(), [.., "v1"] | [.., "v1", "messages"] | [.., "v1", "messages", "batches"])
}

/// Reads an answer that is to be a JSON object.
async fn read_object(response: Response) -> Result<Box<RawValue>, Error> {
    let malformed = || Error::Malformed { promised: "a JSON object" };
    let body = read_at_most(response, JSON_BYTES_MAX).await?.ok_or_else(malformed)?;
    let value: Box<RawValue> = serde_json::from_slice(&body).map_err(|_| malformed())?;
    if value.get().starts_with('{') { Ok(value) } else { Err(malformed()) }
}

/// Reads the body; `None` if it is longer than `bytes_max`.
async fn read_at_most(mut response: Response, bytes_max: usize) -> Result<Option<Vec<u8>>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Error::transport)? {
        if body.len() + chunk.len() > bytes_max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}
