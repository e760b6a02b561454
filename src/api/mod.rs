//! The client of the API: the only place from which requests leave with the key.
//!
//! Every request passes `Client::request`, which attaches the key and refuses any URL outside the configured origin;
//! redirects are not followed. So the key goes to that origin and nowhere else, whatever a URL in an answer or an id in
//! an event says. Nothing is retried here: an [`Error`] says whose fault it is, and the handler that asked decides what
//! follows. While the API is in trouble, few requests are made (`health`).

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Method, RequestBuilder, Response, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;
use tokio::sync::watch;
use url::Url;

mod accounts;
mod batch;
mod error;
mod health;
mod retry_after;
#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;

pub use accounts::{Account, Accounts};
pub use batch::{Batch, Page, RequestCounts, ResultsStream};
pub use error::{Answer, Error};

use health::Health;

/// How long to wait for a connection; the official SDKs wait as long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is silent for this long is probed, and again at this interval, as in the official SDKs.
const KEEPALIVE: Duration = Duration::from_secs(60);

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
    /// The proxy that requests go through, as `http://HOST:PORT`.
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

/// The client. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base_url: Url,
    key: SecretString,
    /// The header that carries the key, marked as sensitive.
    credential: (HeaderName, HeaderValue),
    version: HeaderValue,
    betas: Vec<String>,
    idle_timeout: Duration,
    health: Arc<Health>,
}

impl Client {
    /// Makes a client; it does not connect yet.
    ///
    /// TLS is rustls with ring, which becomes the default of the process if it has none. Proxies that the environment
    /// names are not used.
    ///
    /// # Errors
    /// [`Error::Settings`] if the settings cannot work, [`Error::Transport`] if TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Client, Error> {
        let Settings { base_url, key, auth, version, betas, idle_timeout, .. } = settings;
        if !is_plain(&base_url) || base_url.query().is_some() || base_url.fragment().is_some() {
            return Err(Error::Settings("the base URL must be http(s)://HOST[:PORT][/PATH], without a user"));
        }
        if is_of_version(&base_url) {
            return Err(Error::Settings(
                "the base URL must not include /v1: the paths of the API begin with it",
            ));
        }
        if key.expose_secret().is_empty() {
            return Err(Error::Settings("the API key is empty"));
        }
        let header = |value: &str, fault| HeaderValue::from_str(value).map_err(|_| Error::Settings(fault));
        header(&betas.join(","), "a beta has characters that no header can carry")?;
        let credential = {
            let fault = "the API key has characters that no header can carry";
            let (name, mut value) = match auth {
                Auth::XApiKey => (HeaderName::from_static("x-api-key"), header(key.expose_secret(), fault)?),
                Auth::Bearer => (AUTHORIZATION, header(&format!("Bearer {}", key.expose_secret()), fault)?),
            };
            value.set_sensitive(true);
            (name, value)
        };
        Ok(Client {
            http: http_client(idle_timeout)?,
            base_url,
            key,
            credential,
            version: header(&version, "the API version has characters that no header can carry")?,
            betas,
            idle_timeout,
            health: Arc::new(Health::new()),
        })
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
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        // One deadline for the whole answer: an answer that trickles would pass any limit on silence.
        let request = self.request(Method::GET, url.clone(), betas)?.timeout(self.idle_timeout);
        let answer = async {
            let response = self.send(request.header("accept", "application/json")).await?;
            let malformed = || Error::Malformed { promised: "a JSON object" };
            let body = read_at_most(response, JSON_BYTES_MAX).await?.ok_or_else(malformed)?;
            let value: Box<RawValue> = serde_json::from_slice(&body).map_err(|_| malformed())?;
            if value.get().starts_with('{') { Ok(value) } else { Err(malformed()) }
        };
        self.health.ask(url.path(), answer).await
    }

    /// What is wrong with the API at present, in a line; `None` unless its answers show that something is.
    pub fn trouble(&self) -> Option<String> {
        self.health.trouble()
    }

    /// Changes whenever the API answers again after it was in [trouble](Client::trouble).
    pub fn recoveries(&self) -> watch::Receiver<u64> {
        self.health.recoveries()
    }

    /// Makes a request with the key. Every request passes here; a URL outside the configured origin is an error.
    fn request(&self, method: Method, url: Url, betas: &[&str]) -> Result<RequestBuilder, Error> {
        // A user in the URL would become an `authorization` header in addition to, or instead of, the key.
        if url.origin() != self.base_url.origin() || !is_plain(&url) {
            return Err(Error::ForeignOrigin);
        }
        let (name, value) = &self.credential;
        let request =
            self.http.request(method, url).header(name, value).header("anthropic-version", &self.version);
        let betas: Vec<&str> = self.betas.iter().map(String::as_str).chain(betas.iter().copied()).collect();
        Ok(if betas.is_empty() { request } else { request.header("anthropic-beta", betas.join(",")) })
    }

    /// Sends a request. Returns the answer if it is a success, else the error that it means.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(Error::transport)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status if status.is_redirection() => Err(Error::Redirected { status: status.as_u16() }),
            _ => Err(error::read(response, &self.key, self.idle_timeout).await),
        }
    }

    /// The URL of a path below the base.
    fn url(&self, path: &[&str]) -> Result<Url, Error> {
        if !path.iter().all(|segment| is_name(segment)) {
            return Err(Error::BadId);
        }
        let mut url = self.base_url.clone();
        url.path_segments_mut().map_err(|()| Error::ForeignOrigin)?.pop_if_empty().extend(path);
        Ok(url)
    }
}

fn http_client(idle_timeout: Duration) -> Result<reqwest::Client, Error> {
    // An error means that the process already has a provider, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let user_agent = HeaderValue::from_static(concat!("restante/", env!("CARGO_PKG_VERSION")));
    reqwest::Client::builder()
        .default_headers([(USER_AGENT, user_agent)].into_iter().collect())
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .gzip(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(idle_timeout)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE)
        .build()
        .map_err(Error::transport)
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

/// Whether a path segment is safe as a name. An empty one, `.` and `..` would name another path; some servers cut off
/// everything from a `;` on, and then see dots; a URL parser drops tabs and line ends.
fn is_name(segment: &str) -> bool {
    let before_parameters = segment.split(';').next().unwrap_or_default();
    !matches!(before_parameters, "" | "." | "..") && !segment.contains(char::is_control)
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
