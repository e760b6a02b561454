//! The doctor calls the public URL as the sender of webhooks does.
//!
//! It sends a signed probe, whose identifier says that it is one: ingest checks it as any delivery, stores nothing, and answers
//! that it knows it. So one request shows that ingest of ours answers there, that the way keeps body and headers, and that the keys
//! are the same on both ends.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::time::Duration;

use chrono::Utc;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, redirect};
use restante::internals::config::Tool;
use restante::internals::egress::address::{Leads, leads};
use restante::internals::ingest::{PROBE_HEADER, PROBE_PREFIX};
use restante::internals::signature::Keys;
use restante_simulator::sign;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::net::lookup_host;
use tokio::time::timeout;
use url::{Host, Url};

use super::finding::{Finding, Verdict};

const SUBJECT: &str = "public url";

/// How long a name may take to be looked up.
const NAME_PATIENCE: Duration = Duration::from_secs(5);

/// How long the answer may take; the API waits for about as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Examines the URL, and what answers there.
pub(super) async fn examine(url: &Url, config: &Tool) -> Vec<Finding> {
    let mut findings: Vec<Finding> = [scheme(url), port(url)].into_iter().flatten().collect();
    findings.extend(addresses(url).await);
    findings.push(answer(url, &config.keys).await);
    // What answers is told in either case, and the rest is worth a line only together.
    if findings.iter().all(|finding| finding.verdict == Verdict::Fine) {
        findings.insert(0, Finding::fine(SUBJECT, "is https at port 443 of a public address"));
    }
    findings
}

fn scheme(url: &Url) -> Option<Finding> {
    (url.scheme() != "https").then(|| {
        let why = "the API delivers to https only";
        let remedy = "let a proxy before ingest terminate TLS with a certificate of a public authority, and give its https URL";
        Finding::wrong(SUBJECT, format!("is {}", url.scheme()), why, remedy)
    })
}

fn port(url: &Url) -> Option<Finding> {
    let port = url.port_or_known_default().unwrap_or(0);
    (port != 443).then(|| {
        let why = "the API delivers to port 443 only";
        let remedy = "let the proxy listen at port 443, and leave the port out of the URL";
        Finding::wrong(SUBJECT, format!("has the port {port}"), why, remedy)
    })
}

/// The addresses of its host that no sender on the internet can reach.
async fn addresses(url: &Url) -> Vec<Finding> {
    let found: Vec<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => vec![address.into()],
        Some(Host::Ipv6(address)) => vec![address.into()],
        Some(Host::Domain(name)) => match timeout(NAME_PATIENCE, lookup_host((name, 443))).await {
            Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        },
        None => Vec::new(),
    };
    if found.is_empty() {
        let why = "the API cannot find the endpoint either, and disables it";
        let remedy = "correct RESTANTE_PUBLIC_URL, or make an A or AAAA record for the host";
        return vec![Finding::wrong(SUBJECT, "has a host without an address", why, remedy)];
    }
    let private: Vec<String> =
        found.iter().filter(|address| leads(**address) != Leads::Public).map(ToString::to_string).collect();
    if private.is_empty() {
        return Vec::new();
    }
    let says = format!("leads to {}, which is no public address", private.join(", "));
    let why = "the API disables an endpoint at a private address at once";
    let remedy = "let the name lead to the public address of the proxy, and to no other; if only this machine sees the private \
                  one, ask from outside: restante doctor ingest --public-url URL";
    vec![Finding::wrong(SUBJECT, says, why, remedy)]
}

/// Sends the probe.
async fn answer(url: &Url, keys: &Keys) -> Finding {
    let client = Client::builder().redirect(redirect::Policy::none()).timeout(PATIENCE).no_proxy().build();
    let Ok(client) = client else {
        return Finding::warn(
            SUBJECT,
            "was not called",
            "TLS cannot be set up here",
            "run it on another machine",
        );
    };
    let (is_signed, headers, body) = probe(keys);
    let request = client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body);
    let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    match request.send().await {
        Err(error) => unreached(&error),
        Ok(response) => judge(&response, is_signed),
    }
}

/// A delivery that ingest knows for a probe by its identifier, signed with the first key.
fn probe(keys: &Keys) -> (bool, Vec<(&'static str, String)>, Vec<u8>) {
    let now = Utc::now();
    let event_id = format!("{PROBE_PREFIX}{:032x}", rand::random::<u128>());
    let data = json!({ "type": "restante.probe", "id": "doctor", "note": "a body of more than ASCII: ä €  \u{1f4ee}" });
    let body = json!({ "type": "event", "id": event_id, "created_at": now.to_rfc3339(), "data": data });
    let body = body.to_string().into_bytes();
    let headers = if let Some(key) = keys.standard.first() {
        sign::standard(&in_base64(key.expose_secret()), &event_id, now.timestamp(), &body).map(Vec::from).ok()
    } else {
        let secret = keys.older.first().and_then(|secret| str::from_utf8(secret.expose_secret()).ok());
        secret.and_then(|secret| sign::older(&secret.into(), now.timestamp(), &body).map(Vec::from).ok())
    };
    (headers.is_some(), headers.unwrap_or_default(), body)
}

fn in_base64(key: &[u8]) -> SecretString {
    use base64::Engine as _;
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(key)).into()
}

fn unreached(error: &reqwest::Error) -> Finding {
    let cause = innermost(error);
    let says = format!("gives no answer: {cause}");
    if cause.contains("certificate") {
        let why = "the API delivers only where the certificate is valid, and of a public authority";
        let remedy = "give the proxy a certificate for this very name, with the whole chain: openssl s_client -connect HOST:443 \
                      -servername HOST shows the present one";
        return Finding::wrong(SUBJECT, says, why, remedy);
    }
    let why = "the API would get no answer either, and disables an endpoint that fails for long";
    let remedy = "open port 443 of the proxy to the internet, and start the proxy; if only this machine cannot reach it, ask from outside";
    Finding::wrong(SUBJECT, says, why, remedy)
}

fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("none within {} s", PATIENCE.as_secs());
    }
    let first: &dyn StdError = error;
    let last = std::iter::successors(Some(first), |&error| error.source()).last().unwrap_or(first);
    last.to_string()
}

fn judge(response: &Response, is_signed: bool) -> Finding {
    let status = response.status().as_u16();
    if response.headers().contains_key(PROBE_HEADER) {
        let says = "our ingest answers there, and the signature of a probe is valid when it arrives";
        return Finding::fine(SUBJECT, says);
    }
    let wrong = |says: String, why: &str, remedy: &str| Finding::wrong(SUBJECT, says, why, remedy);
    let says = format!("answers {status} to a signed probe");
    match status {
        300..=399 => {
            let to = response.headers().get(LOCATION).and_then(|to| Url::parse(to.to_str().ok()?).ok());
            let host = to.as_ref().and_then(Url::host_str).unwrap_or("another path");
            wrong(
                format!("answers {status}, a redirect to {host}"),
                "the API disables an endpoint at the first redirect",
                "give the URL that is redirected to, or let the proxy answer at this one itself",
            )
        }
        401 if !is_signed => Finding::warn(
            SUBJECT,
            "answers 401 to a probe without a signature, as ingest does",
            "no signing key is in this environment, so it is unknown whether signed deliveries get through",
            "run restante doctor with the variables of ingest",
        ),
        401 => wrong(
            says,
            "the body or the signature's headers are changed on the way, or ingest has other keys",
            "send one past the proxy, with the keys of ingest: restante send --url http://127.0.0.1:8080/webhooks/anthropic. If \
             that is answered with 204, let the proxy pass on body and headers unchanged",
        ),
        404 | 405 => wrong(
            says,
            "there is no endpoint at that path, or the proxy changes the path",
            "give the URL https://HOST/webhooks/anthropic, and let the proxy pass on path and method unchanged",
        ),
        200..=299 => wrong(
            says,
            "something else than our ingest takes deliveries and drops them, or an ingest of a release before this one, which \
             has stored the probe as an event of the type restante.probe",
            "let the proxy pass on /webhooks/ to ingest, of this release",
        ),
        403 | 406 | 429 => wrong(
            says,
            "something before ingest refuses requests, such as a firewall for web applications",
            "let POST on /webhooks/ through without challenges, cookies or limits",
        ),
        _ => wrong(
            says,
            "the API tries a delivery a few times only, and disables an endpoint that goes on failing",
            "look at the log of the proxy and of ingest, and at /readyz of ingest: restante healthcheck",
        ),
    }
}
