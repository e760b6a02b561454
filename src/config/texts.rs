//! The parsers of the variables that are not secret: addresses, the settings of the API, the log.

use std::net::SocketAddr;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;
use url::{Host, Url};

use super::variable::{Fallible, one_of, unfit};
use crate::api;
use crate::telemetry::LogFormat;

/// An address to listen on.
pub(super) fn address(value: &str) -> Fallible<SocketAddr> {
    let mend = "Write it like 127.0.0.1:9090, 0.0.0.0:9090 for every interface, or [::]:9090";
    value.parse().map_err(|_| unfit("it is not an IP address with a port", mend))
}

/// The path of a file. Whether there is one is found when it is read.
pub(super) fn path(value: &str) -> Fallible<PathBuf> {
    if value.is_empty() {
        return Err(unfit("it is empty", "Give the path of a file"));
    }
    Ok(value.into())
}

/// `true` or `false`.
pub(super) fn truth(value: &str) -> Fallible<bool> {
    one_of(value, [("true", true), ("false", false)])
}

/// The path of a folder. It is the same wherever the program is started.
pub(super) fn folder(value: &str) -> Fallible<PathBuf> {
    let path = PathBuf::from(value);
    if !path.is_absolute() {
        return Err(unfit("it is not an absolute path", "Write it like /var/lib/restante/journal"));
    }
    Ok(path)
}

pub(super) fn log_format(value: &str) -> Fallible<LogFormat> {
    one_of(value, [("json", LogFormat::Json), ("text", LogFormat::Text)])
}

pub(super) fn log_filter(value: &str) -> Fallible<String> {
    let mend = "Write it like info, or info,restante=debug (target=level, separated by commas)";
    let parsed = EnvFilter::builder().parse(value).map_err(|_| unfit("it is not a log filter", mend));
    parsed.map(|_| value.to_owned())
}

pub(super) fn auth(value: &str) -> Fallible<api::Auth> {
    one_of(value, [("x-api-key", api::Auth::XApiKey), ("bearer", api::Auth::Bearer)])
}

/// http or https, without user, query or fragment. Its path ends in a slash, so that `base_url.join("v1/messages")`
/// keeps all of the path.
pub(super) fn base_url(value: &str) -> Fallible<Url> {
    let refuse =
        |problem| unfit(problem, "Write it like https://api.anthropic.com, with a path if it needs one");
    let mut url = Url::parse(value).map_err(|_| refuse("it cannot be read as a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it contains a user or a password, which do not belong there"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it contains a query or a fragment, so no path can be added"));
    }
    if api::is_of_version(&url) {
        let mend = "Remove /v1 and everything after it, as in https://api.anthropic.com";
        return Err(unfit("it ends in /v1, but the paths of the API begin with /v1 themselves", mend));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// http or https, without user or fragment. What else is wrong with it is for `restante doctor` to say.
pub(super) fn public_url(value: &str) -> Fallible<Url> {
    let refuse = |problem| unfit(problem, "Write it like https://hooks.example.com/webhooks/anthropic");
    let url = Url::parse(value).map_err(|_| refuse("it cannot be read as a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(refuse("it contains a user, a password or a fragment, which do not belong there"));
    }
    Ok(url)
}

/// Where a collector is. A token belongs into the headers, which are never shown.
pub(super) fn collector(value: &str) -> Fallible<Url> {
    let refuse = |problem| unfit(problem, "Write it like http://collector:4318");
    let url = Url::parse(value).map_err(|_| refuse("it cannot be read as a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        let mend = "Put what is secret into OTEL_EXPORTER_OTLP_HEADERS";
        return Err(unfit("it contains a user, a password or a query", mend));
    }
    Ok(url)
}

/// For the API, a version is a date. Only its shape is checked, because later versions may come.
pub(super) fn version(value: &str) -> Fallible<String> {
    let shape: String = value.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    match shape.as_str() {
        "0000-00-00" => Ok(value.to_owned()),
        _ => Err(unfit("it is not a date", "Write it like 2023-06-01")),
    }
}

pub(super) fn betas(value: &str) -> Fallible<Vec<String>> {
    let values: Vec<_> =
        value.split(',').map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned).collect();
    let is_sound = |value: &String| value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match values.iter().position(|value| !is_sound(value)) {
        None => Ok(values),
        Some(position) => Err(unfit(
            format!("value {} has characters other than letters, digits and - _ .", position + 1),
            "Write it like name-2026-01-01,other-2026-02-02",
        )),
    }
}

/// Warns if the API key would be sent unencrypted.
pub(super) fn base_url_doubts(url: &Url) -> Vec<String> {
    let is_near = match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if is_near || url.scheme() != "http" {
        return Vec::new();
    }
    vec!["it is plain http to another machine, so the API key is sent unencrypted".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{no_files, with};
    use super::super::{Faults, Loaded, Worker};
    use super::*;

    fn load(name: &str, value: &str) -> Result<Loaded<Worker>, Faults> {
        Worker::from_vars(with(&[(name, value)]), &no_files)
    }

    #[test]
    fn a_base_url_keeps_its_path_when_joined() {
        for (given, joined) in [
            ("https://gateway.example/claude", "https://gateway.example/claude/v1/messages"),
            ("https://gateway.example/claude/", "https://gateway.example/claude/v1/messages"),
            ("http://127.0.0.1:4000", "http://127.0.0.1:4000/v1/messages"),
        ] {
            let url = load("ANTHROPIC_BASE_URL", given).unwrap().config.accounts[0].settings.base_url.clone();
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
            assert!(faults[0].mend.starts_with("Remove /v1 and everything after it"), "{bad}: {faults:?}");
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
        let betas =
            load("ANTHROPIC_BETA", "one-2026-01-01, two,").unwrap().config.accounts[0].settings.betas.clone();
        assert_eq!(betas, ["one-2026-01-01", "two"]);
        assert_eq!(
            load("RESTANTE_API_AUTH", "bearer").unwrap().config.accounts[0].settings.auth,
            api::Auth::Bearer
        );

        for (name, bad) in [
            ("ANTHROPIC_BETA", "one two"),
            ("ANTHROPIC_VERSION", "latest"),
            ("ANTHROPIC_VERSION", "2023-06-01\r\nx: y"),
            ("RESTANTE_API_AUTH", "basic"),
        ] {
            assert!(load(name, bad).is_err(), "{name}={bad}");
        }
    }
}
