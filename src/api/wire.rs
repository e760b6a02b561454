//! How requests leave, and how their answers are taken: the one place that attaches a key.

use std::time::Duration;

use chrono::Utc;
use reqwest::header::{HeaderValue, USER_AGENT};
use reqwest::{Method, Proxy, Request, RequestBuilder, Response, StatusCode, redirect};
use tokio::time::Instant;
use url::Url;

use super::governor::{API_CALLS_TOTAL, API_WAIT_SECONDS, Class};
use super::health::Health;
use super::keys::{Keys, Secrets, is_of_organization};
use super::{Error, Settings, error, is_of_version, is_plain};
use crate::key_use::Uses;
use crate::trace;

/// How long to wait for a connection; the official SDKs wait as long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is silent for this long is probed, and again at this interval, as in the official SDKs.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How requests of one account leave, and how the API fares by their answers.
#[derive(Debug)]
pub(super) struct Wire {
    http: reqwest::Client,
    /// For requests that take longer than an answer may be silent.
    uploads: reqwest::Client,
    pub(super) base_url: Url,
    keys: Keys,
    version: HeaderValue,
    betas: Vec<String>,
    /// For what belongs to a workspace.
    workspace_id: Option<HeaderValue>,
    pub(super) idle_timeout: Duration,
    pub(super) health: Health,
    /// Shared by the clients of all accounts, also by those that a new key replaces.
    pub(super) uses: Uses,
}

impl Wire {
    /// # Errors
    /// As for [`Client::new`](super::Client::new).
    pub(super) fn new(account: &str, settings: Settings, health: Health, uses: Uses) -> Result<Self, Error> {
        let keys = Keys::new(account, &settings)?;
        let Settings { base_url, version, betas, workspace_id, proxy, idle_timeout, .. } = settings;
        if !is_plain(&base_url) || base_url.query().is_some() || base_url.fragment().is_some() {
            return Err(Error::Settings("the base URL must be http(s)://HOST[:PORT][/PATH], without a user"));
        }
        if is_of_version(&base_url) {
            return Err(Error::Settings(
                "the base URL must not include /v1: the paths of the API begin with it",
            ));
        }
        let header = |value: &str, fault| HeaderValue::from_str(value).map_err(|_| Error::Settings(fault));
        header(&betas.join(","), "a beta has characters that no header can carry")?;
        let workspace_id = workspace_id
            .map(|id| header(&id, "the workspace id has characters that no header can carry"))
            .transpose()?;
        Ok(Self {
            uploads: http_client(None, proxy.clone())?,
            http: http_client(Some(idle_timeout), proxy)?,
            base_url,
            keys,
            version: header(&version, "the API version has characters that no header can carry")?,
            betas,
            workspace_id,
            idle_timeout,
            health,
            uses,
        })
    }

    /// As [`Wire::request`], for a body that may take minutes to send.
    pub(super) fn upload(&self, method: Method, url: Url, betas: &[&str]) -> Result<RequestBuilder, Error> {
        self.request_by(&self.uploads, method, url, betas)
    }

    /// Makes a request with the key. Every request passes here; a URL outside the configured origin is an error.
    pub(super) fn request(&self, method: Method, url: Url, betas: &[&str]) -> Result<RequestBuilder, Error> {
        self.request_by(&self.http, method, url, betas)
    }

    fn request_by(
        &self,
        client: &reqwest::Client,
        method: Method,
        url: Url,
        betas: &[&str],
    ) -> Result<RequestBuilder, Error> {
        // A user in the URL would become an `authorization` header in addition to, or instead of, the key.
        if url.origin() != self.base_url.origin() || !is_plain(&url) {
            return Err(Error::ForeignOrigin);
        }
        let is_of_organization = is_of_organization(&self.base_url, &url);
        let (name, value) = &self.keys.key_for(is_of_organization)?.header;
        let mut request =
            client.request(method, url).header(name, value).header("anthropic-version", &self.version);
        // An organization is of no workspace.
        if let Some(id) = self.workspace_id.as_ref().filter(|_| !is_of_organization) {
            request = request.header("anthropic-workspace-id", id);
        }
        let betas: Vec<&str> = self.betas.iter().map(String::as_str).chain(betas.iter().copied()).collect();
        Ok(if betas.is_empty() { request } else { request.header("anthropic-beta", betas.join(",")) })
    }

    /// Sends a request once its account's limit has a place for it. Returns the answer if it is a success, else the error that it means.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let (client, request) = request.build_split();
        let request = request.map_err(Error::transport)?;
        let call = self.traced(&request);
        let answer = self.exchange(client, request).await;
        match &answer {
            Ok(response) => call.set("http.response.status_code", || i64::from(response.status().as_u16())),
            Err(error) => call.failed(error.kind()),
        }
        answer
    }

    /// The call as a part of the trace of its attempt: from the request to the head of the answer. The path names what is asked for; a
    /// query may say more than that.
    fn traced(&self, request: &Request) -> trace::Span {
        let class = Class::of(request.method(), request.url().path());
        let call = trace::Span::call("api call");
        call.set("http.request.method", || request.method().to_string());
        call.set("url.path", || request.url().path().to_owned());
        call.set("server.address", || self.base_url.host_str().unwrap_or_default().to_owned());
        call.set("restante.class", || class.as_str());
        call
    }

    async fn exchange(&self, client: reqwest::Client, request: Request) -> Result<Response, Error> {
        let class = Class::of(request.method(), request.url().path());
        let is_of_organization = is_of_organization(&self.base_url, request.url());
        let governor = &self.health.governor;
        let came = Instant::now();
        let admitted = governor.admit(class).await?;
        metrics::histogram!(API_WAIT_SECONDS, "class" => class.as_str()).record(came.elapsed());
        let answer = client.execute(request).await.map_err(Error::transport);
        let count = |answer| {
            metrics::counter!(API_CALLS_TOTAL, "class" => class.as_str(), "answer" => answer).increment(1);
        };
        let response = answer.inspect_err(|_| count("none"))?;
        if response.status() != StatusCode::UNAUTHORIZED
            && let Ok(carried) = self.keys.key_for(is_of_organization)
        {
            self.uses.note(&carried.key, Utc::now(), true);
        }
        governor.learn(class, response.headers(), response.status().is_success()).await;
        admitted.ended();
        count(match response.status().as_u16() {
            200..=299 => "success",
            429 => "limited",
            500.. => "failed",
            _ => "refused",
        });
        match response.status() {
            status if status.is_success() => Ok(response),
            status if status.is_redirection() => Err(Error::Redirected { status: status.as_u16() }),
            _ => {
                let error = error::read(response, &self.keys.secrets, self.idle_timeout).await;
                if let Error::RateLimited { retry_after, .. } = &error {
                    governor.limited(class, *retry_after).await;
                }
                Err(error)
            }
        }
    }

    /// What no error may show.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.keys.secrets
    }

    /// The URL of a path below the base.
    pub(super) fn url(&self, path: &[&str]) -> Result<Url, Error> {
        if !path.iter().all(|segment| is_name(segment)) {
            return Err(Error::BadId);
        }
        let mut url = self.base_url.clone();
        url.path_segments_mut().map_err(|()| Error::ForeignOrigin)?.pop_if_empty().extend(path);
        Ok(url)
    }
}

fn http_client(idle_timeout: Option<Duration>, proxy: Option<Url>) -> Result<reqwest::Client, Error> {
    // An error means that the process already has a provider, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let user_agent = HeaderValue::from_static(concat!("restante/", env!("CARGO_PKG_VERSION")));
    let client = reqwest::Client::builder()
        .default_headers([(USER_AGENT, user_agent)].into_iter().collect())
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        // Not those that the environment names.
        .no_proxy()
        .gzip(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE);
    let client = match idle_timeout {
        Some(idle_timeout) => client.read_timeout(idle_timeout),
        None => client,
    };
    let client = match proxy {
        // A password in it would show wherever the settings do.
        Some(proxy) if !is_plain(&proxy) => {
            return Err(Error::Settings("the proxy must be http(s)://HOST[:PORT], without a user"));
        }
        Some(proxy) => client.proxy(Proxy::all(proxy).map_err(Error::transport)?),
        None => client,
    };
    client.build().map_err(Error::transport)
}

/// Whether a path segment is safe as a name. An empty one, `.` and `..` would name another path; some servers cut off
/// everything from a `;` on, and then see dots; a URL parser drops tabs and line ends.
fn is_name(segment: &str) -> bool {
    let before_parameters = segment.split(';').next().unwrap_or_default();
    !matches!(before_parameters, "" | "." | "..") && !segment.contains(char::is_control)
}
