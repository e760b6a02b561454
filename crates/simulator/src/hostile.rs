//! Bad requests, as anyone can send them to an endpoint for webhooks: each kind that a receiver has to refuse, with paths,
//! identifiers, headers, senders and bodies that nobody has configured.

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

use super::dice;
use super::sign::{self, InvalidKey};

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
        let kind = KINDS[place];
        let id = self.word("id", number);
        let body = format!(r#"{{"type":"event","id":"{id}","data":{{"type":"a.b","id":"k{number}"}}}}"#)
            .into_bytes();
        let signed = |key: &SecretString, now, body: &[u8]| sign::standard(key, &id, now, body);
        let ours = |now| signed(&self.key, now, &body);
        let post = |headers: [(&'static str, String); 3], body: &[u8]| {
            http(&Method::POST, "/webhooks/anthropic", &headers, body, body.len())
        };
        let refused = |bytes, closer, plain| BadRequest { bytes, status: 401, reasons: [closer, plain] };

        Ok(match kind {
            Kind::RandomPath => {
                let path = format!("/{}/{}", self.word("path", number), self.word("more", number));
                not_found(http(&Method::POST, &path, &ours(now)?, &body, body.len()))
            }
            Kind::RandomSender => {
                let path = format!("/webhooks/{}", self.word("sender", number));
                not_found(http(&Method::POST, &path, &ours(now)?, &body, body.len()))
            }
            Kind::WrongMethod => {
                let bytes = http(&Method::PUT, "/webhooks/anthropic", &ours(now)?, &body, body.len());
                BadRequest { bytes, status: 405, reasons: ["wrong_method"; 2] }
            }
            Kind::NoHeaders => {
                let bytes = http(&Method::POST, "/webhooks/anthropic", &[], &body, body.len());
                refused(bytes, "missing", "missing")
            }
            Kind::OtherNames => {
                let [id, time, signature] = ours(now)?.map(|(_, value)| value);
                let names = ["svix-id", "svix-timestamp", "svix-signature"];
                let headers = [(names[0], id), (names[1], time), (names[2], signature)];
                refused(post(headers, &body), "wrong_header_name", "missing")
            }
            Kind::Twice => {
                let [id, time, signature] = ours(now)?;
                let headers = [id, ("webhook-timestamp", "1".to_owned()), time, signature];
                let bytes = http(&Method::POST, "/webhooks/anthropic", &headers, &body, body.len());
                refused(bytes, "duplicate", "duplicate")
            }
            Kind::Dot => {
                let [(name, id), time, signature] = ours(now)?;
                refused(
                    post([(name, format!("{id}.{number}")), time, signature], &body),
                    "malformed",
                    "malformed",
                )
            }
            Kind::NoNumber => {
                let [id, (name, time), signature] = ours(now)?;
                refused(
                    post([id, (name, format!("{time}.{number}")), signature], &body),
                    "timestamp",
                    "timestamp",
                )
            }
            Kind::Stale => refused(post(ours(now - OFF_SECONDS)?, &body), "stale", "stale"),
            Kind::Future => refused(post(ours(now + OFF_SECONDS)?, &body), "future", "future"),
            Kind::NotBase64 => {
                let [id, time, (name, _)] = ours(now)?;
                let signature = format!("v1,{:064x}", dice::number(self.seed, "hex", &id.1));
                refused(post([id, time, (name, signature)], &body), "not_base64", "mismatch")
            }
            Kind::KeyOfAnother => {
                let headers = signed(&self.key_of_another, now, &body)?;
                refused(post(headers, &body), "key_of_another_sender", "mismatch")
            }
            Kind::Altered => {
                let headers = ours(now)?;
                refused(post(headers, &[&body[..], b"\n"].concat()), "body_altered", "mismatch")
            }
            Kind::RandomSignature => {
                let [id, time, (name, _)] = ours(now)?;
                refused(post([id, time, (name, self.signature(number))], &body), "mismatch", "mismatch")
            }
            Kind::RandomKey => {
                let key = SecretString::from(format!("whsec_{}", STANDARD.encode(self.word("key", number))));
                refused(post(signed(&key, now, &body)?, &body), "mismatch", "mismatch")
            }
            Kind::ManyHeaders => {
                let names: Vec<String> = (0..40).map(|nth| self.word("header", number * 40 + nth)).collect();
                let headers: Vec<_> =
                    names.iter().map(|name| (name.as_str(), self.word("value", number))).collect();
                let bytes = http(&Method::POST, "/webhooks/anthropic", &headers, &body, body.len());
                refused(bytes, "missing", "missing")
            }
            Kind::LargeBody => {
                let [id, time, (name, _)] = ours(now)?;
                let body = vec![b'a'; LARGE_BODY_BYTES];
                refused(post([id, time, (name, self.signature(number))], &body), "mismatch", "mismatch")
            }
            // Only announced: a receiver that waits for it could be held for nothing.
            Kind::TooLarge => {
                let bytes = http(&Method::POST, "/webhooks/anthropic", &ours(now)?, b"", TOO_LARGE_BYTES);
                BadRequest { bytes, status: 413, reasons: ["too_large"; 2] }
            }
        })
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

fn not_found(bytes: Vec<u8>) -> BadRequest {
    BadRequest { bytes, status: 404, reasons: ["not_found"; 2] }
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
