//! Requests to addresses that somebody else has chosen: the one door for them, and none of ours is behind it.
//!
//! | what | is |
//! |---|---|
//! | scheme and port | https to 443 or 8443; a private network may use http and any port |
//! | address | public, every one that the name has; checked when the connection is made, and the connection goes there |
//! | redirects, proxies, cookies, keys | none: a redirect is an answer like any other, the environment is not read |
//! | time | 5 s for the connection, 15 s in all |
//! | answer | 64 KiB are read at most; a body that does not come is not waited for longer than 2 s |
//!
//! Nothing is retried here, and nothing is kept of an answer but its status, its wait and its beginning.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::{Response, redirect};
use tokio::time::timeout;
use url::{Host, Url};

pub mod address;
mod resolver;

use address::Leads;
use resolver::Checked;
pub use resolver::{LookUp, Names, NamesOfTheMachine, NotPublic};

use crate::api::retry_after;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For all of an exchange: what Standard Webhooks recommends is 15 to 30 s.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The status has said what counts; the body is only for the log.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of an answer is read, so that its connection can be used again, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How much of an answer is kept, in bytes.
const KEPT_BYTES_MAX: usize = 1024;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_PER_HOST_MAX: usize = 16;

/// The ports of https. Other services of public machines are nobody's endpoint.
const PORTS: [u16; 2] = [443, 8443];

/// Where requests may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// http beside https.
    pub plain_http: bool,
    /// Any port, and not only those of https.
    pub any_port: bool,
    /// This machine and private networks, but never link-local addresses, where clouds have their metadata.
    pub private_addresses: bool,
}

impl Rules {
    /// The internet only.
    pub const PUBLIC: Self = Self { plain_http: false, any_port: false, private_addresses: false };
    /// The internet and a private network.
    pub const PRIVATE_NETWORK: Self = Self { plain_http: true, any_port: true, private_addresses: true };

    /// May a connection go to this address?
    pub fn allow(self, address: IpAddr) -> bool {
        match address::leads(address) {
            Leads::Public => true,
            Leads::Private => self.private_addresses,
            Leads::Nowhere => false,
        }
    }

    /// What is wrong with a URL, as far as it can be seen without looking its name up.
    fn fault(self, url: &Url) -> Option<Error> {
        let address = match url.host() {
            None => return Some(Error::Refused("it has no host")),
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            // Whatever a resolver would take for an address.
            Some(Host::Domain(name)) => name.trim_end_matches('.').parse().ok(),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Some(Error::Refused("it has a user or a password"));
        }
        match url.scheme() {
            "https" => {}
            "http" if self.plain_http => {}
            _ => return Some(Error::Refused("it is not https")),
        }
        if !self.any_port && !url.port_or_known_default().is_some_and(|port| PORTS.contains(&port)) {
            return Some(Error::Refused("its port is neither 443 nor 8443"));
        }
        address.filter(|address| !self.allow(*address)).map(|address| Error::NotPublic(NotPublic(address)))
    }
}

/// Why there is no answer. No error names the URL, which may hold a secret of the receiver.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No request was made: the URL is against the rules.
    #[error("its URL is refused: {0}")]
    Refused(&'static str),
    /// No request was made: its address is against the rules.
    #[error(transparent)]
    NotPublic(NotPublic),
    /// There was no answer in time. The request may have arrived.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    /// The connection or the exchange failed. The request may have arrived.
    #[error(transparent)]
    Transport(reqwest::Error),
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(error) = cause {
            if let Some(NotPublic(address)) = error.downcast_ref() {
                return Self::NotPublic(NotPublic(*address));
            }
            cause = error.source();
        }
        // A connection that takes too long is no request that may have arrived.
        if error.is_timeout() && !error.is_connect() {
            return Self::TimedOut;
        }
        Self::Transport(error.without_url())
    }
}

/// What is kept of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status. A redirect is an answer like any other.
    pub status: u16,
    /// How long it asks to wait, an hour at most.
    pub retry_after: Option<Duration>,
    /// The first 1,024 bytes of its body. What is no text, or what Postgres cannot hold in one, is U+FFFD.
    pub beginning: String,
}

/// Sends requests to addresses that somebody else has chosen.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    rules: Rules,
}

impl Client {
    /// A client with these rules, for names as this machine knows them.
    ///
    /// # Errors
    /// [`Error::Transport`] if TLS cannot be set up.
    pub fn new(rules: Rules) -> Result<Self, Error> {
        Self::with_names(rules, Arc::new(NamesOfTheMachine))
    }

    /// The same, with a name server of the caller.
    ///
    /// # Errors
    /// As for [`Client::new`].
    pub fn with_names(rules: Rules, names: Arc<dyn Names>) -> Result<Self, Error> {
        // An error means that the process already has a provider, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let headers = [
            (USER_AGENT, HeaderValue::from_static(concat!("restante/", env!("CARGO_PKG_VERSION")))),
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ];
        let http = reqwest::Client::builder()
            .default_headers(headers.into_iter().collect())
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            // Not those that the environment names: a proxy would look the name up itself.
            .no_proxy()
            .no_gzip()
            .dns_resolver(Arc::new(Checked { names, rules }))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .build()?;
        Ok(Self { http, rules })
    }

    /// Sends a body, and returns the answer, whatever its status is.
    ///
    /// # Errors
    /// [`Error`]; after [`Error::TimedOut`] and [`Error::Transport`] the request may have arrived all the same.
    pub async fn post(&self, url: &Url, headers: HeaderMap, body: Bytes) -> Result<Answer, Error> {
        if let Some(fault) = self.rules.fault(url) {
            return Err(fault);
        }
        let response = self.http.post(url.clone()).headers(headers).body(body).send().await?;
        let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers(), Utc::now()));
        Ok(Answer { status, retry_after, beginning: beginning(response).await })
    }
}

/// Reads a body for as long as it is worth it. If it is longer, or cut off, the connection is closed.
async fn beginning(mut response: Response) -> String {
    let mut kept = Vec::new();
    let mut read = 0;
    // What fails here changes nothing: the status has said what counts.
    let _ = timeout(BODY_TIMEOUT, async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = KEPT_BYTES_MAX - kept.len();
            kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
            read += chunk.len();
            if read > ANSWER_BYTES_MAX {
                break;
            }
        }
    })
    .await;
    String::from_utf8_lossy(&kept).replace('\0', "\u{fffd}")
}
