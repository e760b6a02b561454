//! The configuration of `restante-worker`, and of whatever else calls the Claude API.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;
use url::{Host, Url};

use super::keys;
use super::reader::{ReadFile, Reader};
use super::{Faults, Loaded, Log, Program};
use crate::api;

const BASE_URL: &str = "ANTHROPIC_BASE_URL";

/// What `restante-worker` is started with.
#[derive(Debug)]
pub struct Worker {
    /// `DATABASE_URL`: where the database is, commonly with a password in it.
    pub database_url: SecretString,
    /// `RESTANTE_DATABASE_CONNECTIONS`: how many connections the pool opens at most.
    pub database_connections: u32,
    /// `ANTHROPIC_API_KEY`: the key that the API is called with.
    pub api_key: SecretString,
    /// How the API is called, apart from the key.
    pub api: Api,
    /// `RESTANTE_OPS_LISTEN`: where `/livez`, `/readyz` and `/metrics` are answered.
    pub ops_listen: SocketAddr,
    /// `RESTANTE_CONCURRENCY`: how many handlers run at once.
    pub concurrency: usize,
    /// `RESTANTE_LEASE_SECONDS`: how long an attempt outlives a worker that has vanished.
    pub lease: Duration,
    /// `RESTANTE_BATCH_POLL_SECONDS`: how long lies between two looks at a batch, before jitter.
    pub batch_poll: Duration,
    /// `RESTANTE_RECONCILE_SECONDS`: how long lies between two searches for what webhooks missed, if any are made.
    pub reconcile: Option<Duration>,
    /// `RESTANTE_DRAIN_SECONDS`: how long a stop waits for attempts under way.
    pub drain: Duration,
    /// `RESTANTE_LOG` and `RUST_LOG`.
    pub log: Log,
}

/// How the Claude API is called, apart from the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// `ANTHROPIC_BASE_URL`: http or https, without user, query or fragment; its path ends in a slash, so that
    /// `base_url.join("v1/messages")` keeps the whole of it.
    pub base_url: Url,
    /// `ANTHROPIC_VERSION`: the value of `anthropic-version`.
    pub version: String,
    /// `ANTHROPIC_BETA`: values of `anthropic-beta` beside those that a call needs anyway; commonly none.
    pub beta: Vec<String>,
    /// `RESTANTE_API_AUTH`: the header that carries the key.
    pub auth: ApiAuth,
}

/// The header that carries the API key. The API refuses a call that has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiAuth {
    /// `x-api-key: KEY`.
    XApiKey,
    /// `authorization: Bearer KEY`.
    Bearer,
}

impl Worker {
    /// The configuration that the variables give; `read_file` gives the text of a file that a `_FILE` variable names.
    ///
    /// # Errors
    ///
    /// Every variable that is missing or wrong, at once.
    pub fn from_vars(
        variables: impl IntoIterator<Item = (String, String)>,
        read_file: ReadFile<'_>,
    ) -> Result<Loaded<Worker>, Faults> {
        let mut reader = Reader::new(Program::Worker, variables, read_file);

        let database_url = reader.needed("DATABASE_URL", keys::database_url);
        let database_connections = reader.number("RESTANTE_DATABASE_CONNECTIONS");
        let api_key = reader.needed("ANTHROPIC_API_KEY", keys::api_key);
        let api = Api::read(&mut reader);
        let ops_listen = reader.address("RESTANTE_OPS_LISTEN").flatten();
        let concurrency = reader.number("RESTANTE_CONCURRENCY");
        let lease = reader.seconds("RESTANTE_LEASE_SECONDS");
        let batch_poll = reader.seconds("RESTANTE_BATCH_POLL_SECONDS");
        let reconcile = reader.seconds("RESTANTE_RECONCILE_SECONDS");
        let drain = reader.seconds("RESTANTE_DRAIN_SECONDS");
        let log = reader.log();

        let config = (|| {
            Some(Worker {
                database_url: database_url?,
                database_connections: database_connections?,
                api_key: api_key?,
                api: api?,
                ops_listen: ops_listen?,
                concurrency: concurrency?,
                lease: lease?,
                batch_poll: batch_poll?,
                reconcile: Some(reconcile?).filter(|every| !every.is_zero()),
                drain: drain?,
                log: log?,
            })
        })();
        reader.finish(config)
    }
}

impl Api {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Api> {
        let base_url = reader.needed(BASE_URL, base_url);
        let version = reader.needed("ANTHROPIC_VERSION", version);
        let beta = reader.parsed("ANTHROPIC_BETA", beta);
        let auth = reader
            .choice("RESTANTE_API_AUTH", [("x-api-key", ApiAuth::XApiKey), ("bearer", ApiAuth::Bearer)]);

        if base_url.as_ref().is_some_and(is_plain_and_far) {
            reader.warn(BASE_URL, "it is plain http to another machine, so the API key travels in the clear");
        }
        Some(Api { base_url: base_url?, version: version?, beta: beta?.unwrap_or_default(), auth: auth? })
    }
}

fn base_url(value: &str) -> Result<Url, (String, String)> {
    let refuse = |problem: &str| {
        (problem.to_owned(), "Write it like https://api.anthropic.com, with a path if need be".to_owned())
    };
    let mut url = Url::parse(value).map_err(|_| refuse("it cannot be read as a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it holds a user or a password, which do not belong into it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it holds a query or a fragment, to which no path can be added"));
    }
    if api::is_of_version(&url) {
        return Err((
            "it ends in /v1, with which the paths of the API begin".to_owned(),
            "Leave /v1 and what follows out, as in https://api.anthropic.com".to_owned(),
        ));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// A version is a date to the API. Only its shape is checked, for a later one may come.
fn version(value: &str) -> Result<String, (String, String)> {
    let shape: String = value.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if shape == "0000-00-00" {
        return Ok(value.to_owned());
    }
    Err(("it is not a date".to_owned(), "Write it like 2023-06-01".to_owned()))
}

fn beta(value: &str) -> Result<Vec<String>, (String, String)> {
    let values: Vec<_> =
        value.split(',').map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned).collect();
    let is_sound = |value: &String| value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match values.iter().position(|value| !is_sound(value)) {
        None => Ok(values),
        Some(position) => Err((
            format!("value {} has other characters than letters, digits and - _ .", position + 1),
            "Write it like name-2026-01-01,other-2026-02-02".to_owned(),
        )),
    }
}

fn is_plain_and_far(url: &Url) -> bool {
    let is_near = match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !is_near
}

#[cfg(test)]
mod tests {
    use super::super::tests::{no_files, with};
    use super::*;

    fn load(name: &str, value: &str) -> Result<Loaded<Worker>, Faults> {
        Worker::from_vars(with(&[(name, value)]), &no_files)
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let config = Worker::from_vars(with(&[]), &no_files).unwrap().config;

        assert_eq!(config.api.base_url.as_str(), "https://api.anthropic.com/");
        assert_eq!((config.api.version.as_str(), config.api.auth), ("2023-06-01", ApiAuth::XApiKey));
        assert!(config.api.beta.is_empty());
        assert_eq!((config.concurrency, config.database_connections), (64, 16));
        assert_eq!(
            (config.lease, config.reconcile),
            (Duration::from_secs(30), Some(Duration::from_secs(300)))
        );
    }

    #[test]
    fn a_base_url_keeps_its_path_when_joined() {
        for (given, joined) in [
            ("https://gateway.example/claude", "https://gateway.example/claude/v1/messages"),
            ("https://gateway.example/claude/", "https://gateway.example/claude/v1/messages"),
            ("http://127.0.0.1:4000", "http://127.0.0.1:4000/v1/messages"),
        ] {
            let url = load("ANTHROPIC_BASE_URL", given).unwrap().config.api.base_url;
            assert_eq!(url.join("v1/messages").unwrap().as_str(), joined);
        }
    }

    #[test]
    fn a_base_url_that_the_key_should_not_go_to_is_a_fault() {
        for bad in
            ["api.anthropic.com", "ftp://x", "https://u@x", "https://:p@x", "https://x?y", "https://x#y"]
        {
            assert!(load("ANTHROPIC_BASE_URL", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_base_url_that_ends_in_the_version_is_a_fault() {
        for bad in [
            "https://api.anthropic.com/v1",
            "https://api.anthropic.com/V1/",
            "https://gateway.example/claude//v1//",
            "https://api.anthropic.com/v1/messages",
            "https://api.anthropic.com/v1/messages/batches/",
        ] {
            let faults = load("ANTHROPIC_BASE_URL", bad).map(drop).unwrap_err().faults;
            assert!(faults[0].mend.starts_with("Leave /v1 and what follows out"), "{bad}: {faults:?}");
        }
        for good in ["https://gateway.example/v1/account/anthropic", "https://v1.example", "https://x/api-v1"]
        {
            assert!(load("ANTHROPIC_BASE_URL", good).is_ok(), "{good}");
        }
    }

    #[test]
    fn plain_http_is_warned_of_unless_it_stays_on_this_machine() {
        for (url, warnings) in [
            ("http://gateway.example", 1),
            ("http://localhost:1", 0),
            ("http://[::1]:1", 0),
            ("https://x", 0),
        ] {
            assert_eq!(load("ANTHROPIC_BASE_URL", url).unwrap().warnings.len(), warnings, "{url}");
        }
    }

    #[test]
    fn values_that_become_headers_are_checked() {
        let betas = load("ANTHROPIC_BETA", "one-2026-01-01, two,").unwrap().config.api.beta;
        assert_eq!(betas, ["one-2026-01-01", "two"]);
        assert_eq!(load("RESTANTE_API_AUTH", "bearer").unwrap().config.api.auth, ApiAuth::Bearer);

        for (name, bad) in [
            ("ANTHROPIC_BETA", "one two"),
            ("ANTHROPIC_VERSION", "latest"),
            ("ANTHROPIC_VERSION", "2023-06-01\r\nx: y"),
            ("RESTANTE_API_AUTH", "basic"),
        ] {
            assert!(load(name, bad).is_err(), "{name}={bad}");
        }
    }

    #[test]
    fn reconciling_is_off_at_zero() {
        assert_eq!(load("RESTANTE_RECONCILE_SECONDS", "0").unwrap().config.reconcile, None);
    }

    #[test]
    fn numbers_out_of_bounds_are_faults() {
        for (name, bad) in [
            ("RESTANTE_CONCURRENCY", "0"),
            ("RESTANTE_CONCURRENCY", "10001"),
            ("RESTANTE_LEASE_SECONDS", "-1"),
            ("RESTANTE_LEASE_SECONDS", "1.5"),
            ("RESTANTE_BATCH_POLL_SECONDS", "0"),
            ("RESTANTE_DATABASE_CONNECTIONS", "99999999999999999999"),
        ] {
            assert!(load(name, bad).is_err(), "{name}={bad}");
        }
    }
}
