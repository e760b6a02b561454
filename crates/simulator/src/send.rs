//! `restante send`: signs one event of any kind and posts it to a webhook endpoint.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, ValueEnum};
use reqwest::{Client, StatusCode, redirect};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::sign;

/// How long the endpoint has for its answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Signs one event and delivers it once, as the API does
#[derive(Args, Clone, Debug)]
pub struct SendArgs {
    /// The endpoint
    #[arg(long, default_value = "http://127.0.0.1:8080/webhooks/anthropic")]
    pub url: String,
    /// The type of the event
    #[arg(long = "type", value_name = "TYPE", default_value = "session.status_idled")]
    pub event_type: String,
    /// The id of the object that it happened to (`data.id`); `restante simulate` has the default one
    #[arg(long = "id", visible_alias = "resource-id", value_name = "ID", default_value = "sesn_example")]
    pub resource_id: String,
    /// The id of the event; the same id twice is the same event [default: a new one]
    #[arg(long, value_name = "ID")]
    pub event_id: Option<String>,
    /// More fields of `data`, as a JSON object; they override the others
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub data: Option<Value>,
    /// When it happened [default: now]
    #[arg(long, value_name = "RFC 3339")]
    pub created_at: Option<DateTime<Utc>>,
    /// Sends the bytes of this file instead of an envelope
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "created_at"])]
    pub body_file: Option<PathBuf>,
    /// The scheme of the signature [default: standard, or older if only a secret is given]
    #[arg(long)]
    pub scheme: Option<Scheme>,
    /// Key of the standard scheme: `whsec_` and the key in base64 [env: ANTHROPIC_WEBHOOK_SIGNING_KEY]
    #[arg(long, visible_alias = "key", value_name = "KEY")]
    pub signing_key: Option<SecretString>,
    /// Secret of the older scheme [env: ANTHROPIC_WEBHOOK_SECRET]
    #[arg(long, value_name = "SECRET")]
    pub secret: Option<SecretString>,
}

/// How a delivery is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// Standard Webhooks: `webhook-signature`
    Standard,
    /// `anthropic-signature`, in hexadecimal
    Older,
}

/// Why an event was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no key to sign it with.
    #[error("no key to sign with: give --signing-key, or --secret for the older scheme")]
    NoKey,
    /// The key cannot be used.
    #[error(transparent)]
    InvalidKey(#[from] sign::InvalidKey),
    /// The body could not be read.
    #[error("cannot read the body")]
    Body(#[source] std::io::Error),
    /// The endpoint did not answer.
    #[error("no answer")]
    NoAnswer(#[source] reqwest::Error),
    /// The endpoint refused the event.
    #[error("the endpoint answered {0}")]
    Refused(StatusCode),
}

/// Delivers the event, and prints its id, the answer's status and how long it took.
///
/// The process must have a default TLS provider.
///
/// # Errors
///
/// If the event cannot be signed, or the answer is not a 2xx.
pub async fn run(args: SendArgs) -> Result<(), Error> {
    let event_id = args.event_id.clone().unwrap_or_else(|| format!("whe_{:032x}", rand::random::<u128>()));
    let now = Utc::now();
    let body = match &args.body_file {
        Some(file) => std::fs::read(file).map_err(Error::Body)?,
        None => envelope(&args, &event_id, now),
    };
    let headers = headers(&args, &event_id, now.timestamp(), &body)?;

    let client = Client::builder().redirect(redirect::Policy::none()).timeout(TIMEOUT).build();
    let post = client.map_err(Error::NoAnswer)?.post(&args.url).header("content-type", "application/json");
    let post = headers.into_iter().fold(post, |post, (name, value)| post.header(name, value));
    let started = Instant::now();
    let response = post.body(body).send().await.map_err(Error::NoAnswer)?;
    let (status, milliseconds) = (response.status(), started.elapsed().as_secs_f64() * 1e3);
    println!("{event_id}  {status}  {milliseconds:.1} ms");
    if status.is_success() { Ok(()) } else { Err(Error::Refused(status)) }
}

fn envelope(args: &SendArgs, event_id: &str, now: DateTime<Utc>) -> Vec<u8> {
    let created_at = args.created_at.unwrap_or(now).to_rfc3339_opts(SecondsFormat::Micros, true);
    let mut data = Map::new();
    data.insert("type".to_owned(), args.event_type.clone().into());
    data.insert("id".to_owned(), args.resource_id.clone().into());
    if let Some(Value::Object(more)) = &args.data {
        data.extend(more.clone());
    }
    json!({"type": "event", "id": event_id, "created_at": created_at, "data": data}).to_string().into_bytes()
}

fn headers(
    args: &SendArgs,
    event_id: &str,
    timestamp: i64,
    body: &[u8],
) -> Result<Vec<(&'static str, String)>, Error> {
    let scheme = args.scheme.unwrap_or(match (&args.signing_key, &args.secret) {
        (None, Some(_)) => Scheme::Older,
        _ => Scheme::Standard,
    });
    match (scheme, &args.signing_key, &args.secret) {
        (Scheme::Standard, Some(key), _) => Ok(sign::standard(key, event_id, timestamp, body)?.into()),
        (Scheme::Older, _, Some(secret)) => Ok(sign::older(secret, timestamp, body)?.into()),
        _ => Err(Error::NoKey),
    }
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(Value::Object(fields)),
        Ok(_) => Err("expected a JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Send {
        #[command(flatten)]
        args: SendArgs,
    }

    fn args(line: &[&str]) -> SendArgs {
        Send::parse_from([&["send"], line].concat()).args
    }

    #[test]
    fn the_command_line_is_sound() {
        Send::command().debug_assert();
    }

    #[test]
    fn data_wins_over_the_fields_made_up() {
        let args = args(&["--type", "vault.created", "--data", r#"{"id":"vlt_2","x":1}"#]);

        let envelope: Value = serde_json::from_slice(&envelope(&args, "whe_1", Utc::now())).unwrap();

        assert_eq!(envelope["data"], json!({"type": "vault.created", "id": "vlt_2", "x": 1}));
    }

    #[test]
    fn a_secret_alone_picks_the_older_scheme() {
        let headers = headers(&args(&["--secret", "s"]), "whe_1", 1, b"{}").unwrap();

        assert_eq!(headers[1].0, "anthropic-signature");
    }

    #[test]
    fn without_a_key_nothing_is_sent() {
        assert!(matches!(headers(&args(&[]), "whe_1", 1, b"{}"), Err(Error::NoKey)));
    }
}
