//! Bad requests, as anyone can send them to an endpoint for webhooks: each kind that a receiver has to refuse, with paths,
//! identifiers, headers, senders and bodies that nobody has configured.

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

use super::dice;
use super::sign::{self, InvalidKey};

/// Where good requests go.
const ENDPOINT: &str = "/webhooks/anthropic";
/// A body that costs its receiver something to check.
const LARGE_BODY_BYTES: usize = 64 << 10;
/// One byte more than a receiver of Claude's webhooks has to take.
const TOO_LARGE_BYTES: usize = (1 << 20) + 1;
/// How far off a timestamp is; receivers accept five minutes.
const OFF_SECONDS: i64 = 1000;

/// A request that no receiver should take, and what ingest is expected to make of it.
#[derive(Clone, Debug)]
pub struct BadRequest {
    /// The whole request.
    pub bytes: Vec<u8>,
    /// The status of the answer.
    pub status: u16,
    /// The reason that ingest finds at a closer look, and the one that it gives without.
    pub reasons: [&'static str; 2],
}

/// How a request is bad.
#[derive(Clone, Copy, Debug)]
enum Kind {
    RandomPath,
    RandomSender,
    WrongMethod,
    NoHeaders,
    OtherNames,
    Twice,
    Dot,
    NoNumber,
    Stale,
    Future,
    NotBase64,
    KeyOfAnother,
    Altered,
    RandomSignature,
    RandomKey,
    ManyHeaders,
    LargeBody,
    TooLarge,
}

/// In turn, so that however many are sent, each kind is among them.
const KINDS: [Kind; 18] = [
    Kind::RandomPath,
    Kind::RandomSender,
    Kind::WrongMethod,
    Kind::NoHeaders,
    Kind::OtherNames,
    Kind::Twice,
    Kind::Dot,
    Kind::NoNumber,
    Kind::Stale,
    Kind::Future,
    Kind::NotBase64,
    Kind::KeyOfAnother,
    Kind::Altered,
    Kind::RandomSignature,
    Kind::RandomKey,
    Kind::ManyHeaders,
    Kind::LargeBody,
    Kind::TooLarge,
];

/// A good request, of which a bad one is made.
struct Sample {
    number: u64,
    now: i64,
    id: String,
    headers: [(&'static str, String); 3],
    body: String,
}

/// Makes bad requests for `/webhooks/anthropic` and paths that nobody has. Those of one seed are always the same.
#[derive(Debug)]
pub struct Hostile {
    seed: u64,
    key: SecretString,
    key_of_another: SecretString,
}

impl Hostile {
    /// `key` is that of the endpoint, and `key_of_another` that of another sender of the same receiver.
    pub fn new(seed: u64, key: SecretString, key_of_another: SecretString) -> Self {
        Self { seed, key, key_of_another }
    }

    /// The request with this number, sent at the Unix second `now`.
    ///
    /// # Errors
    ///
    /// `InvalidKey` if a key is not base64.
    pub fn request(&self, number: u64, now: i64) -> Result<BadRequest, InvalidKey> {
        let place = usize::try_from(number % KINDS.len() as u64).unwrap_or(0);
        let id = self.word("id", number);
        let body = format!(r#"{{"type":"event","id":"{id}","data":{{"type":"a.b","id":"k{number}"}}}}"#);
        let sample =
            Sample { number, now, headers: sign::standard(&self.key, &id, now, body.as_bytes())?, id, body };
        match KINDS[place] {
            kind @ (Kind::RandomPath | Kind::RandomSender | Kind::WrongMethod | Kind::TooLarge) => {
                Ok(self.refused_unread(kind, &sample))
            }
            kind @ (Kind::Stale | Kind::Future | Kind::KeyOfAnother | Kind::RandomKey) => {
                self.signed_otherwise(kind, &sample)
            }
            kind => Ok(self.with_other_headers(kind, sample)),
        }
    }

    /// What a receiver refuses before it has read the body.
    fn refused_unread(&self, kind: Kind, sample: &Sample) -> BadRequest {
        let Sample { number, headers, body, .. } = sample;
        let to = |method: &Method, path: &str| http(method, path, headers, body.as_bytes(), body.len());
        let (bytes, status, reason) = match kind {
            Kind::RandomPath => {
                let path = format!("/{}/{}", self.word("path", *number), self.word("more", *number));
                (to(&Method::POST, &path), 404, "not_found")
            }
            Kind::RandomSender => {
                (to(&Method::POST, &format!("/webhooks/{}", self.word("sender", *number))), 404, "not_found")
            }
            Kind::WrongMethod => (to(&Method::PUT, ENDPOINT), 405, "wrong_method"),
            // Only announced: a receiver that waits for it could be held for nothing.
            _ => (http(&Method::POST, ENDPOINT, headers, b"", TOO_LARGE_BYTES), 413, "too_large"),
        };
        BadRequest { bytes, status, reasons: [reason; 2] }
    }

    /// A signature that is right, but for another time or another key.
    fn signed_otherwise(&self, kind: Kind, sample: &Sample) -> Result<BadRequest, InvalidKey> {
        let Sample { number, now, id, body, .. } = sample;
        let random = SecretString::from(format!("whsec_{}", STANDARD.encode(self.word("key", *number))));
        let (key, now, closer, plain) = match kind {
            Kind::Stale => (&self.key, now - OFF_SECONDS, "stale", "stale"),
            Kind::Future => (&self.key, now + OFF_SECONDS, "future", "future"),
            Kind::KeyOfAnother => (&self.key_of_another, *now, "key_of_another_sender", "mismatch"),
            _ => (&random, *now, "mismatch", "mismatch"),
        };
        let headers = sign::standard(key, id, now, body.as_bytes())?;
        Ok(refused(post(&headers, body.as_bytes()), closer, plain))
    }

    /// Headers, or a body, that the signature was not made for.
    fn with_other_headers(&self, kind: Kind, sample: Sample) -> BadRequest {
        let Sample { number, headers: [id, time, signature], body, .. } = sample;
        let body = body.into_bytes();
        let random = (signature.0, self.signature(number));
        match kind {
            Kind::OtherNames => {
                let headers =
                    [("svix-id", id.1), ("svix-timestamp", time.1), ("svix-signature", signature.1)];
                refused(post(&headers, &body), "wrong_header_name", "missing")
            }
            Kind::Twice => {
                let first = (time.0, "1".to_owned());
                refused(post(&[id, first, time, signature], &body), "duplicate", "duplicate")
            }
            Kind::Dot => {
                let id = (id.0, format!("{}.{number}", id.1));
                refused(post(&[id, time, signature], &body), "malformed", "malformed")
            }
            Kind::NoNumber => {
                let time = (time.0, format!("{}.{number}", time.1));
                refused(post(&[id, time, signature], &body), "timestamp", "timestamp")
            }
            Kind::NotBase64 => {
                let hexadecimal = (signature.0, format!("v1,{:064x}", dice::number(self.seed, "hex", &id.1)));
                refused(post(&[id, time, hexadecimal], &body), "not_base64", "mismatch")
            }
            Kind::Altered => {
                let altered = [&body[..], b"\n"].concat();
                refused(post(&[id, time, signature], &altered), "body_altered", "mismatch")
            }
            Kind::RandomSignature => refused(post(&[id, time, random], &body), "mismatch", "mismatch"),
            Kind::LargeBody => {
                refused(post(&[id, time, random], &[b'a'; LARGE_BODY_BYTES]), "mismatch", "mismatch")
            }
            Kind::ManyHeaders => {
                let names: Vec<String> = (0..40).map(|nth| self.word("header", number * 40 + nth)).collect();
                let value = self.word("value", number);
                let headers: Vec<_> = names.iter().map(|name| (name.as_str(), value.clone())).collect();
                refused(post(&headers, &body), "missing", "missing")
            }
            _ => refused(post(&[], &body), "missing", "missing"),
        }
    }

    /// A word of letters and digits that no other number has.
    fn word(&self, topic: &str, number: u64) -> String {
        format!("x{:016x}-{number}", dice::number(self.seed, topic, &number.to_string()))
    }

    fn signature(&self, number: u64) -> String {
        let part = |topic: &str| dice::number(self.seed, topic, &number.to_string()).to_be_bytes();
        format!("v1,{}", STANDARD.encode([part("a"), part("b"), part("c"), part("d")].concat()))
    }
}

fn refused(bytes: Vec<u8>, closer: &'static str, plain: &'static str) -> BadRequest {
    BadRequest { bytes, status: 401, reasons: [closer, plain] }
}

fn post(headers: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    http(&Method::POST, ENDPOINT, headers, body, body.len())
}

fn http(method: &Method, path: &str, headers: &[(&str, String)], body: &[u8], announced: usize) -> Vec<u8> {
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nhost: receiver\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {announced}\r\n\r\n"));
    [head.as_bytes(), body].concat()
}
