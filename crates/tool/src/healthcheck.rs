//! `restante healthcheck`: asks the ops listener of a service whether it is ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, StatusCode, redirect};
use serde::Deserialize;
use url::Url;

/// `/readyz` answers within about a second, whatever hangs behind it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The default ops listeners of ingest and of the worker.
const DEFAULTS: [&str; 2] = ["http://127.0.0.1:9091/readyz", "http://127.0.0.1:9092/readyz"];

/// What one listener says of its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// The service is ready, and what an operator should know nevertheless.
    Ready(Vec<String>),
    /// The service answers and is not ready: the failed checks, and how to fix them.
    NotReady(String),
    /// Nothing answers there, and why.
    Away(String),
}

/// Asks the listener at `url`. Without a URL it asks the listener of `RESTANTE_OPS_LISTEN`, and without that both default
/// ones: then one has to answer, and each that answers has to be ready. Returns lines for people, and whether all is well.
pub(super) async fn run(url: Option<Url>, ops_listen: Option<SocketAddr>) -> anyhow::Result<(String, bool)> {
    let urls = match (url, ops_listen) {
        (Some(url), _) => vec![with_path(url)],
        (None, Some(address)) => vec![url_of(address)?],
        (None, None) => DEFAULTS.iter().map(|url| url.parse()).collect::<Result<_, _>>()?,
    };
    let mut asked = Vec::new();
    for url in urls {
        let health = ask(&url).await?;
        asked.push((url, health));
    }
    Ok(verdict(&asked))
}

/// Asks one listener.
///
/// # Errors
/// If the HTTP client cannot be built, or the answer breaks off.
pub(super) async fn ask(url: &Url) -> anyhow::Result<Health> {
    let client = Client::builder().redirect(redirect::Policy::none()).timeout(TIMEOUT).no_proxy().build()?;
    let response = match client.get(url.clone()).send().await {
        Ok(response) => response,
        Err(error) => return Ok(Health::Away(cause(&error))),
    };
    let status = response.status();
    let body = response.bytes().await.context("the answer broke off")?;
    Ok(match (status, serde_json::from_slice::<Readiness>(&body)) {
        (StatusCode::OK, read) => Health::Ready(read.map(Readiness::notes).unwrap_or_default()),
        (_, Ok(readiness)) => Health::NotReady(readiness.faults()),
        (_, Err(_)) => Health::NotReady(format!("the answer is {status}: is that the ops listener?")),
    })
}

fn verdict(asked: &[(Url, Health)]) -> (String, bool) {
    let answered: Vec<_> = asked.iter().filter(|(_, health)| !matches!(health, Health::Away(_))).collect();
    // If only one of the two defaults answers, the other service is on another machine, or not used.
    let told: Vec<_> = if answered.is_empty() { asked.iter().collect() } else { answered };
    let lines = told.iter().map(|(url, health)| match health {
        Health::Ready(notes) => {
            let notes = notes.iter().map(|note| format!("  note: {note}\n"));
            std::iter::once(format!("{url}: ready\n")).chain(notes).collect()
        }
        Health::NotReady(why) => format!("{url}: not ready: {why}\n"),
        Health::Away(why) => format!("{url}: no answer: {why}\n"),
    });
    (lines.collect(), told.iter().all(|(_, health)| matches!(health, Health::Ready(_))))
}

/// The part of the answer of `/readyz` that is read here.
#[derive(Deserialize)]
struct Readiness {
    checks: Vec<Checked>,
    #[serde(default)]
    notes: Vec<Noted>,
}

#[derive(Deserialize)]
struct Noted {
    name: String,
    note: String,
}

#[derive(Deserialize)]
struct Checked {
    name: String,
    ok: bool,
    problem: Option<String>,
    mend: Option<String>,
}

impl Readiness {
    fn notes(self) -> Vec<String> {
        self.notes.into_iter().map(|noted| format!("{}: {}", noted.name, noted.note)).collect()
    }

    fn faults(&self) -> String {
        let faults = self.checks.iter().filter(|check| !check.ok).map(|check| {
            let (problem, mend) = (check.problem.as_deref(), check.mend.as_deref());
            format!("{}: {}. {}", check.name, problem.unwrap_or("it failed"), mend.unwrap_or_default())
        });
        faults.collect::<Vec<_>>().join("; ")
    }
}

/// The URL of `/readyz` for an address that a service listens on, as seen from the same machine.
pub(super) fn url_of(address: SocketAddr) -> anyhow::Result<Url> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(format!("http://{}/readyz", SocketAddr::new(ip, address.port())).parse()?)
}

fn with_path(mut url: Url) -> Url {
    if url.path() == "/" {
        url.set_path("/readyz");
    }
    url
}

/// The innermost cause of an error, such as `connection refused`.
fn cause(error: &reqwest::Error) -> String {
    let first: &dyn std::error::Error = error;
    let last = std::iter::successors(Some(first), |error| error.source()).last().unwrap_or(first);
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(health: [Health; 2]) -> Vec<(Url, Health)> {
        DEFAULTS.iter().map(|url| url.parse().unwrap()).zip(health).collect()
    }

    #[test]
    fn one_of_the_two_defaults_is_enough() {
        let (text, is_well) =
            verdict(&asked([Health::Ready(Vec::new()), Health::Away("refused".to_owned())]));

        assert_eq!((text.as_str(), is_well), ("http://127.0.0.1:9091/readyz: ready\n", true));
    }

    #[test]
    fn nobody_there_and_somebody_unready_are_no_good() {
        let away = || Health::Away("connection refused".to_owned());

        let (text, is_well) = verdict(&asked([away(), away()]));
        assert!(!is_well && text.matches("connection refused").count() == 2, "{text}");

        let (text, is_well) =
            verdict(&asked([Health::Ready(Vec::new()), Health::NotReady("database: away".to_owned())]));
        assert!(!is_well && text.contains("not ready: database: away"), "{text}");
    }

    #[test]
    fn what_a_ready_service_notes_is_told() {
        let readiness: Readiness = serde_json::from_str(
            r#"{"ready":true,"checks":[],"notes":[{"name":"journal","note":"journaling since noon"}]}"#,
        )
        .unwrap();

        let (text, is_well) =
            verdict(&asked([Health::Ready(readiness.notes()), Health::Away("refused".to_owned())]));

        let told = "http://127.0.0.1:9091/readyz: ready\n  note: journal: journaling since noon\n";
        assert_eq!((text.as_str(), is_well), (told, true));
    }

    #[test]
    fn a_listener_on_every_interface_is_asked_on_this_machine() {
        for (address, url) in [
            ("0.0.0.0:9091", "http://127.0.0.1:9091/readyz"),
            ("[::]:9092", "http://[::1]:9092/readyz"),
            ("10.1.2.3:80", "http://10.1.2.3/readyz"),
        ] {
            assert_eq!(url_of(address.parse().unwrap()).unwrap().as_str(), url);
        }
    }

    #[test]
    fn a_url_without_a_path_asks_for_readiness() {
        for (given, asked) in [("http://h:1", "http://h:1/readyz"), ("http://h:1/livez", "http://h:1/livez")]
        {
            assert_eq!(with_path(given.parse().unwrap()).as_str(), asked);
        }
    }

    #[test]
    fn the_failed_checks_are_named_with_what_mends_them() {
        let readiness: Readiness = serde_json::from_str(
            r#"{"ready":false,"checks":[{"name":"up","ok":true},
                {"name":"database","ok":false,"problem":"refused","mend":"Start it"}]}"#,
        )
        .unwrap();

        assert_eq!(readiness.faults(), "database: refused. Start it");
    }
}
