//! The client of the API: the one door through which requests leave with the key.
//!
//! Every request passes `Client::request`, which attaches the key and refuses any URL that is not of the configured
//! origin; redirects are not followed. So the key goes to that origin and nowhere else, whatever a URL in an answer
//! or an id in an event says. Nothing is retried here: an [`Error`] says whose fault it is, and the handler that asked
//! knows what follows from it.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Method, RequestBuilder, Response, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;
use url::Url;

mod batch;
mod error;
mod retry_after;
#[cfg(test)]
mod stand_in;

pub use batch::{Batch, Page, RequestCounts, ResultsStream};
pub use error::{Answer, Error};

/// A connection is there within this time or not at all; the official SDKs wait as long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is silent for so long is probed, every so often. The official SDKs probe alike.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The longest JSON answer that is read, decompressed. A page of 1,000 batches has less than one MiB.
const JSON_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a [`Client`] is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the API is, `https://api.anthropic.com` or a stand-in of it. May have a path, which comes before the API's.
    pub base_url: Url,
    /// The key, without white space around it.
    pub key: SecretString,
    /// How the key is sent.
    pub auth: Auth,
    /// `anthropic-version`.
    pub version: String,
    /// `anthropic-beta` of every request.
    pub betas: Vec<String>,
    /// The longest silence within an answer, and before it. An answer that is read whole gets this long in all.
    pub idle_timeout: Duration,
}

impl Settings {
    /// The usual: the key as `x-api-key`, version 2023-06-01, no betas, 60 s of silence at most.
    pub fn new(base_url: Url, key: SecretString) -> Settings {
        Settings {
            base_url,
            key,
            auth: Auth::XApiKey,
            version: "2023-06-01".to_owned(),
            betas: Vec::new(),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// How the key is sent. The API takes one of them, and refuses both at once.
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
}

impl Client {
    /// A client; it does not connect yet.
    ///
    /// TLS is rustls with ring, which becomes the process's default where there is none. Proxies that the environment
    /// names are not used.
    ///
    /// # Errors
    /// [`Error::Settings`] where the settings cannot work, [`Error::Transport`] where TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Client, Error> {
        let Settings { base_url, key, auth, version, betas, idle_timeout } = settings;
        if !is_plain(&base_url) || base_url.query().is_some() || base_url.fragment().is_some() {
            return Err(Error::Settings("the base URL must be http(s)://HOST[:PORT][/PATH], without a user"));
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
        })
    }

    /// The object at a path, exactly as it came. The path is given in segments, of which those that come from outside
    /// may hold anything; the query in pairs. The betas come on top of the configured ones.
    ///
    /// # Errors
    /// [`Error::BadId`] where a segment cannot name anything, [`Error::Malformed`] where the answer is no JSON object,
    /// and whatever the API or the way to it says.
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
        // The deadline for all of it: an answer that trickles would pass any limit on silence.
        let request = self.request(Method::GET, url, betas)?.timeout(self.idle_timeout);
        let response = self.send(request.header("accept", "application/json")).await?;
        let malformed = || Error::Malformed { promised: "a JSON object" };
        let body = read_at_most(response, JSON_BYTES_MAX).await?.ok_or_else(malformed)?;
        let value: Box<RawValue> = serde_json::from_slice(&body).map_err(|_| malformed())?;
        if value.get().starts_with('{') { Ok(value) } else { Err(malformed()) }
    }

    /// The choke point: a request with the key, for a URL of our own origin.
    fn request(&self, method: Method, url: Url, betas: &[&str]) -> Result<RequestBuilder, Error> {
        // A user in the URL would become an `authorization` header beside, or instead of, the key.
        if url.origin() != self.base_url.origin() || !is_plain(&url) {
            return Err(Error::ForeignOrigin);
        }
        let (name, value) = &self.credential;
        let request =
            self.http.request(method, url).header(name, value).header("anthropic-version", &self.version);
        let betas: Vec<&str> = self.betas.iter().map(String::as_str).chain(betas.iter().copied()).collect();
        Ok(if betas.is_empty() { request } else { request.header("anthropic-beta", betas.join(",")) })
    }

    /// The answer, where it is a success.
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
    // An error says that the process has chosen its provider already, which is as good.
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

/// Whether a path segment stands for itself. The empty one and those of dots would name another path; servers that
/// cut parameters off at a `;` see dots where there is more; a URL parser drops tabs and line ends.
fn is_name(segment: &str) -> bool {
    let before_parameters = segment.split(';').next().unwrap_or_default();
    !matches!(before_parameters, "" | "." | "..") && !segment.contains(char::is_control)
}

/// The body; `None` where it is longer.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::stand_in::StandIn;
    use super::*;

    fn client(base_url: &str) -> Client {
        Client::new(Settings::new(base_url.parse().unwrap(), "sk-secret".into())).unwrap()
    }

    #[tokio::test]
    async fn a_request_carries_the_key_the_version_and_the_betas() {
        let api = StandIn::answering(200, "", r#"{"id": "s",  "new": 1e999}"#).await;
        let client = api.client_with(|settings| settings.betas = vec!["one".to_owned()]);

        let object =
            client.get_json(&["v1", "sessions", "a/b"], &[("types[]", "x y")], &["two"]).await.unwrap();

        assert_eq!(object.get(), r#"{"id": "s",  "new": 1e999}"#);
        let request = &api.requests()[0];
        assert!(request.starts_with("GET /v1/sessions/a%2Fb?types%5B%5D=x+y HTTP/1.1\r\n"), "{request}");
        for line in ["x-api-key: sk-secret", "anthropic-version: 2023-06-01", "anthropic-beta: one,two"] {
            assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
        }
        assert!(!request.contains("authorization"));
    }

    #[tokio::test]
    async fn a_bearer_key_goes_alone() {
        let api = StandIn::answering(200, "", "{}").await;
        let client = api.client_with(|settings| settings.auth = Auth::Bearer);

        client.get_json(&["v1"], &[], &[]).await.unwrap();

        let request = &api.requests()[0];
        assert!(request.contains("\r\nauthorization: Bearer sk-secret\r\n"), "{request}");
        assert!(!request.contains("x-api-key") && !request.contains("anthropic-beta"), "{request}");
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let elsewhere = StandIn::answering(200, "", "{}").await;
        for status in [301, 302, 303, 307, 308] {
            let location = format!("location: {}\r\n", elsewhere.base_url);
            let api = StandIn::answering(status, &location, "").await;

            let error = api.client().get_json(&["v1"], &[], &[]).await.unwrap_err();

            assert!(matches!(error, Error::Redirected { status: told } if told == status));
        }
        assert!(elsewhere.requests().is_empty());
    }

    #[tokio::test]
    async fn a_success_that_is_no_object_is_malformed() {
        for body in ["<html></html>", "", "[]", "\"x\"", "{\"a\":", "{}{}"] {
            let api = StandIn::answering(200, "", body).await;
            let error = api.client().get_json(&["v1"], &[], &[]).await.unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{body}: {error}");
        }
    }

    #[tokio::test]
    async fn an_error_names_what_the_api_said() {
        let body = r#"{"type":"error","error":{"type":"not_found_error","message":"gone"}}"#;
        let api = StandIn::answering(404, "request-id: req_1\r\n", body).await;

        let error = api.client().get_json(&["v1"], &[], &[]).await.unwrap_err();

        assert_eq!(error.to_string(), "the API does not find it: 404 not_found_error: gone (request req_1)");
    }

    #[tokio::test]
    async fn silence_ends_after_the_idle_timeout() {
        let beginnings = ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"];
        for beginning in beginnings {
            let api = StandIn::hanging_after(beginning.as_bytes()).await;
            let client = api.client_with(|settings| settings.idle_timeout = Duration::from_millis(50));

            let error = client.get_json(&["v1"], &[], &[]).await.unwrap_err();

            assert!(matches!(&error, Error::Transport(cause) if cause.is_timeout()), "{error:?}");
        }
    }

    #[tokio::test]
    async fn an_error_whose_body_never_ends_is_the_error_its_status_says() {
        let api = StandIn::hanging_after(b"HTTP/1.1 529 x\r\ncontent-length: 99\r\n\r\nbusy").await;
        let client = api.client_with(|settings| settings.idle_timeout = Duration::from_secs(1));

        let error = client.get_json(&["v1"], &[], &[]).await.unwrap_err();

        assert!(matches!(&error, Error::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().ends_with("529: busy"), "{error}");
    }

    #[tokio::test]
    async fn a_broken_connection_names_no_url() {
        let api = StandIn::sending(b"").await;

        let error = api.client().get_json(&["v1", "secret-id"], &[], &[]).await.unwrap_err();

        assert!(matches!(error, Error::Transport(_)));
        assert!(!format!("{error:?}").contains("secret-id"));
    }

    #[test]
    fn a_url_of_another_origin_gets_no_request() {
        let client = client("https://api.example/base");
        let foreign = [
            "https://evil.example/",
            "http://api.example/",
            "https://api.example:8443/",
            "https://api.example.evil.example/",
            "https://user@api.example/",
            "https://:password@api.example/",
            "https://api.example@evil.example/",
            "ftp://api.example/",
            "file:///etc/passwd",
            "data:,x",
        ];
        for url in foreign {
            let refused = client.request(Method::GET, url.parse().unwrap(), &[]);
            assert!(matches!(refused, Err(Error::ForeignOrigin)), "{url}");
        }
        assert!(client.request(Method::GET, "https://API.example:443/x?y".parse().unwrap(), &[]).is_ok());
    }

    #[test]
    fn a_path_stands_below_the_base() {
        for (base_url, url) in [
            ("https://api.example", "https://api.example/v1/a%20b"),
            ("https://api.example/", "https://api.example/v1/a%20b"),
            ("https://api.example/one/two", "https://api.example/one/two/v1/a%20b"),
            ("https://api.example/one/", "https://api.example/one/v1/a%20b"),
        ] {
            assert_eq!(client(base_url).url(&["v1", "a b"]).unwrap().as_str(), url);
        }
    }

    #[test]
    fn an_id_that_could_name_another_path_is_refused() {
        for id in ["", ".", "..", "..;x", ";x", ".\t.", "a\r\nb", "a\0"] {
            assert!(matches!(client("https://api.example").url(&["v1", id]), Err(Error::BadId)), "{id:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_id_stays_one_segment_of_the_path(id in r"([./\\%2eE;?#@:a-]|\PC){1,8}") {
            if let Ok(url) = client_once().url(&["v1", &id, "results"]) {
                prop_assert_eq!(url.path_segments().unwrap().count(), 3);
                prop_assert_eq!((url.query(), url.fragment(), url.host_str()), (None, None, Some("api.example")));
                // Parsed again, as a server would, it is the same path.
                let again: Url = url.as_str().parse().unwrap();
                prop_assert_eq!(again, url);
            } else {
                prop_assert!(id.starts_with(['.', ';']));
            }
        }
    }

    /// The property above needs no new TLS set-up for each case.
    fn client_once() -> &'static Client {
        static CLIENT: std::sync::LazyLock<Client> =
            std::sync::LazyLock::new(|| client("https://api.example"));
        &CLIENT
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let refused = |base_url: &str, key: &str| {
            let settings = Settings::new(base_url.parse().unwrap(), key.into());
            Client::new(settings).unwrap_err().to_string()
        };
        for base_url in ["ftp://x", "data:x", "https://u@x", "https://x?y", "https://x#y", "file:///x"] {
            assert!(refused(base_url, "k").starts_with("the base URL must be"), "{base_url}");
        }
        assert_eq!(refused("https://x", ""), "the API key is empty");
        assert_eq!(refused("https://x", "a\nb"), "the API key has characters that no header can carry");
    }

    #[test]
    fn the_key_shows_in_no_debug_output() {
        let client = client("https://api.example");
        let request = client.request(Method::GET, client.url(&["v1"]).unwrap(), &[]).unwrap();
        let settings = Settings::new("https://api.example".parse().unwrap(), "sk-secret".into());

        assert!(!format!("{client:?} {request:?} {settings:?}").contains("sk-secret"));
    }
}
