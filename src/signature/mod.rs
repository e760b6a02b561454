//! The proof that a delivery comes from a holder of our signing key.
//!
//! Two schemes are read, the first under two spellings of its headers. A scheme is on only while it has keys. The headers of
//! a request never turn one on, so a sender cannot choose the weaker scheme.
//!
//! | scheme | headers | signed bytes |
//! |---|---|---|
//! | Standard Webhooks | `webhook-id`, `webhook-timestamp`, `webhook-signature` (a list of `v1,<base64>`) | `id.timestamp.body` |
//! | the same, as Svix spells it | `svix-id`, `svix-timestamp`, `svix-signature` | `id.timestamp.body` |
//! | older | `anthropic-timestamp`, `anthropic-signature` (lower-case hex) | `timestamp.body` |
//!
//! Both sign with HMAC-SHA256 over the bytes as they were received: nothing is decoded, trimmed or reformatted before
//! the check. The functions here are pure; `ingest` decides what it answers to a refused sender.

use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

use crate::key_use::Fingerprint;

mod diagnosis;
mod older;
mod standard;
#[cfg(test)]
mod tests;

pub use self::diagnosis::{Diagnosis, Refused};
pub use self::standard::SIGNATURES_MAX;

/// How far the timestamp of a delivery may be from our clock, in either direction and inclusive: the five minutes
/// that Standard Webhooks and the official SDKs use.
pub const TOLERANCE_SECONDS: u64 = 300;

/// The keys that deliveries may be signed with, per scheme. Several keys serve a rotation.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Keys of Standard Webhooks: the decoded bytes, not the `whsec_…` text. If empty, the scheme is off.
    pub standard: Vec<SecretSlice<u8>>,
    /// The same for a sender whose headers are called `svix-id`, `svix-timestamp` and `svix-signature`.
    pub svix: Vec<SecretSlice<u8>>,
    /// Keys of the older scheme: the secret's own bytes. If empty, the scheme is off.
    pub older: Vec<SecretSlice<u8>>,
}

impl PartialEq for Keys {
    /// Compares the keys where they are, so that nobody holds them for a comparison. It takes no constant time: nobody outside
    /// can ask for it.
    fn eq(&self, other: &Self) -> bool {
        let Self { standard, svix, older } = self;
        let are_same = |ours: &[SecretSlice<u8>], theirs: &[SecretSlice<u8>]| {
            ours.iter().map(ExposeSecret::expose_secret).eq(theirs.iter().map(ExposeSecret::expose_secret))
        };
        are_same(standard, &other.standard) && are_same(svix, &other.svix) && are_same(older, &other.older)
    }
}

impl Keys {
    /// Their fingerprints, in the order in which they are tried.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        let Self { standard, svix, older } = self;
        let random = standard.iter().chain(svix).map(|key| Fingerprint::of(key.expose_secret()));
        random.chain(older.iter().map(|key| Fingerprint::of_text(key.expose_secret()))).collect()
    }
}

/// What a valid signature vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The `webhook-id`, the same on every delivery of an event; the older scheme has none.
    pub webhook_id: Option<String>,
    /// When this delivery was sent, in Unix seconds by the sender's clock.
    pub timestamp: i64,
    /// The keys that its signatures fit, in the order of [`Keys`], at least one. With several, each of them would have done.
    pub fits: Vec<Fingerprint>,
}

/// Why a delivery was refused, in the order of the checks: a greater value passed more of them.
///
/// For logs and metrics only. The sender gets the same answer for each, so that it learns nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Rejection {
    /// No key is set, so nothing can be verified.
    #[error("no signing key is set")]
    NoKeys,
    /// A header of the scheme is absent or empty.
    #[error("a signature header is missing")]
    Missing,
    /// A header of the scheme occurs more than once, with different values.
    #[error("a signature header occurs twice, with different values")]
    Duplicate,
    /// A header is not plain ASCII text, or the identifier contains the dot that separates the signed parts.
    #[error("a signature header is malformed")]
    Malformed,
    /// The timestamp is not a plain number of seconds.
    #[error("the timestamp is not a number of seconds")]
    Timestamp,
    /// The delivery is too old: it was recorded and sent again, the network is slow, or our clock is ahead.
    #[error("the timestamp is too old")]
    Stale,
    /// The timestamp is in the future: our clock is behind.
    #[error("the timestamp is in the future")]
    Future,
    /// No signature matches any key.
    #[error("no signature matches")]
    Mismatch,
}

impl Rejection {
    /// A short name that stays the same, for logs and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Rejection::NoKeys => "no_keys",
            Rejection::Missing => "missing",
            Rejection::Duplicate => "duplicate",
            Rejection::Malformed => "malformed",
            Rejection::Timestamp => "timestamp",
            Rejection::Stale => "stale",
            Rejection::Future => "future",
            Rejection::Mismatch => "mismatch",
        }
    }
}

/// Checks the signature of a delivery whose body is `body`, at the Unix second `now`.
///
/// While several schemes are on, a delivery that verifies under any of them is accepted.
///
/// # Errors
/// The check that failed. If several schemes fail, the error is that of the scheme which passed most checks.
pub fn verify(keys: &Keys, headers: &HeaderMap, body: &[u8], now: i64) -> Result<Verified, Rejection> {
    standard::verify(&keys.standard, &standard::WEBHOOK, headers, body, now)
        .or_else(|first| {
            standard::verify(&keys.svix, &standard::SVIX, headers, body, now)
                .map_err(|second| first.max(second))
        })
        .or_else(|first| older::verify(&keys.older, headers, body, now).map_err(|second| first.max(second)))
}

/// A scheme whose keys are all empty counts as off, because anyone can sign with the empty key.
fn must_be_on(keys: &[SecretSlice<u8>]) -> Result<(), Rejection> {
    let on = keys.iter().any(|key| !key.expose_secret().is_empty());
    if on { Ok(()) } else { Err(Rejection::NoKeys) }
}

/// The one value of the first of `names` that is present; the later names are aliases. Equal values count as one,
/// because a proxy may double a header.
fn sole<'h>(headers: &'h HeaderMap, names: &[&str]) -> Result<&'h str, Rejection> {
    let values = values(headers, names)?;
    // We could only guess which of two values is meant, and a proxy in front of us may guess differently.
    match values.as_slice() {
        [value, others @ ..] if others.iter().all(|other| other == value) => Ok(value),
        _ => Err(Rejection::Duplicate),
    }
}

/// If a proxy has doubled a value and joined the two with a comma, returns the value once; any other value unchanged.
fn once(value: &str) -> &str {
    let Some((first, more)) = value.split_once(',') else { return value };
    let first = first.trim_ascii();
    if !first.is_empty() && more.split(',').all(|part| part.trim_ascii() == first) { first } else { value }
}

/// All values of the first of `names` that is present; no value is empty.
fn values<'h>(headers: &'h HeaderMap, names: &[&str]) -> Result<Vec<&'h str>, Rejection> {
    let name = names.iter().find(|name| headers.contains_key(**name)).ok_or(Rejection::Missing)?;
    headers
        .get_all(*name)
        .iter()
        .map(|value| match value.to_str() {
            Ok("") => Err(Rejection::Missing),
            Ok(text) => Ok(text),
            Err(_) => Err(Rejection::Malformed),
        })
        .collect()
}

/// The number of seconds in `text`, if it is close enough to `now`.
fn fresh(text: &str, now: i64) -> Result<i64, Rejection> {
    // Eleven digits reach the year 5138, and always fit. Signs, spaces, fractions, exponents and leading zeros are
    // refused, because parsers disagree on them.
    let plain =
        (1..=11).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    let timestamp = if plain { text.parse::<i64>().ok() } else { None }.ok_or(Rejection::Timestamp)?;

    // `abs_diff` cannot overflow.
    if timestamp.abs_diff(now) <= TOLERANCE_SECONDS {
        Ok(timestamp)
    } else if timestamp < now {
        Err(Rejection::Stale)
    } else {
        Err(Rejection::Future)
    }
}

/// Compares every signature with every key, in constant time and without stopping at a match, so that the time
/// taken reveals neither how much of a signature is right nor which key matches. Returns the keys that match.
fn must_match<'k>(
    keys: &'k [SecretSlice<u8>],
    signed: &[&[u8]],
    signatures: &[[u8; 32]],
) -> Result<Vec<&'k [u8]>, Rejection> {
    let mut fits = Vec::new();
    for key in keys.iter().map(ExposeSecret::expose_secret).filter(|key| !key.is_empty()) {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { continue };
        for part in signed {
            mac.update(part);
        }
        let mut matched = false;
        for signature in signatures {
            matched |= mac.clone().verify_slice(signature).is_ok();
        }
        if matched {
            fits.push(key);
        }
    }
    if fits.is_empty() { Err(Rejection::Mismatch) } else { Ok(fits) }
}
