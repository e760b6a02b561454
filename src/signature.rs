//! The proof that a delivery comes from a holder of our signing key.
//!
//! Two schemes are read. A scheme is on only while it has keys: which headers a request happens to bring never
//! switches one on, so nobody can pick the weaker door.
//!
//! | scheme | headers | signed bytes |
//! |---|---|---|
//! | Standard Webhooks | `webhook-id`, `webhook-timestamp`, `webhook-signature` (a list of `v1,<base64>`) | `id.timestamp.body` |
//! | older | `anthropic-timestamp`, `anthropic-signature` (lower-case hex) | `timestamp.body` |
//!
//! Both sign with HMAC-SHA256 over the bytes as they were received: nothing is decoded, trimmed or printed anew
//! before the check. The functions here are pure; what a refused sender is told is decided by `ingest`.

use axum::http::HeaderMap;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

/// How far the timestamp of an attempt may lie from our clock, either way and inclusive: the five minutes
/// that Standard Webhooks and the official SDKs use.
pub const TOLERANCE_SECONDS: u64 = 300;

/// How many signatures of one header are compared. Two are enough for a rotation; the rest of a longer list is
/// not looked at, so that a list costs no more than this many comparisons per key.
pub const SIGNATURES_MAX: usize = 16;

/// The keys that deliveries may be signed with, per scheme. Several keys serve a rotation.
#[derive(Debug, Default)]
pub struct Keys {
    /// Keys of Standard Webhooks: the decoded bytes, not the `whsec_…` text. None: the scheme is off.
    pub standard: Vec<SecretSlice<u8>>,
    /// Keys of the older scheme: the secret's own bytes. None: the scheme is off.
    pub older: Vec<SecretSlice<u8>>,
}

/// What a valid signature vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The `webhook-id`, the same on every attempt to deliver an event; the older scheme has none.
    pub webhook_id: Option<String>,
    /// When this attempt was made, in Unix seconds by the sender's clock.
    pub timestamp: i64,
}

/// Why a delivery was refused, in the order of the checks: a greater one got further.
///
/// It is for logs and metrics only. The sender gets one uniform answer, so that it learns nothing from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Rejection {
    /// No key is set, so nothing can be verified.
    #[error("no signing key is set")]
    NoKeys,
    /// A header of the scheme is absent or empty.
    #[error("a signature header is missing")]
    Missing,
    /// A header of the scheme is there more than once.
    #[error("a signature header is there twice")]
    Duplicate,
    /// A header is no plain ASCII text, or the identifier holds the dot that separates what is signed.
    #[error("a signature header is malformed")]
    Malformed,
    /// The timestamp is no plain number of seconds.
    #[error("the timestamp is not a number of seconds")]
    Timestamp,
    /// The attempt is too old: a replay, a slow network, or our clock is ahead.
    #[error("the timestamp is too old")]
    Stale,
    /// The attempt lies in the future: our clock is behind.
    #[error("the timestamp lies in the future")]
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
/// While both schemes are on, a delivery that verifies under either is accepted.
///
/// # Errors
/// The check that failed; of two schemes, that of the one which got further.
pub fn verify(keys: &Keys, headers: &HeaderMap, body: &[u8], now: i64) -> Result<Verified, Rejection> {
    verify_standard(&keys.standard, headers, body, now).or_else(|standard| {
        verify_older(&keys.older, headers, body, now).map_err(|older| standard.max(older))
    })
}

fn verify_standard(
    keys: &[SecretSlice<u8>],
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Verified, Rejection> {
    must_be_on(keys)?;
    let id = sole(headers, &["webhook-id", "x-webhook-id"])?;
    let sent_at = sole(headers, &["webhook-timestamp", "x-webhook-timestamp"])?;
    let list = sole(headers, &["webhook-signature", "x-webhook-signature"])?;

    // A dot inside the identifier would leave open where it ends and the timestamp begins.
    if id.contains('.') {
        return Err(Rejection::Malformed);
    }
    let timestamp = fresh(sent_at, now)?;
    let signed = [id.as_bytes(), b".", sent_at.as_bytes(), b".", body];
    must_match(keys, &signed, &listed_signatures(list))?;
    Ok(Verified { webhook_id: Some(id.to_owned()), timestamp })
}

fn verify_older(
    keys: &[SecretSlice<u8>],
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Verified, Rejection> {
    must_be_on(keys)?;
    let sent_at = sole(headers, &["anthropic-timestamp"])?;
    let signature = sole(headers, &["anthropic-signature"])?;

    let timestamp = fresh(sent_at, now)?;
    let signed = [sent_at.as_bytes(), b".", body];
    must_match(keys, &signed, hex_signature(signature).as_slice())?;
    Ok(Verified { webhook_id: None, timestamp })
}

/// A scheme whose keys are all empty counts as off, since anybody can sign with the empty key.
fn must_be_on(keys: &[SecretSlice<u8>]) -> Result<(), Rejection> {
    let on = keys.iter().any(|key| !key.expose_secret().is_empty());
    if on { Ok(()) } else { Err(Rejection::NoKeys) }
}

/// The only value of the first of `names` that is there at all; the later names are aliases.
fn sole<'h>(headers: &'h HeaderMap, names: &[&str]) -> Result<&'h str, Rejection> {
    let name = names.iter().find(|name| headers.contains_key(**name)).ok_or(Rejection::Missing)?;
    let mut values = headers.get_all(*name).iter();
    let value = values.next().ok_or(Rejection::Missing)?;
    // Which of two values is meant would be our guess, and a proxy before us may guess otherwise.
    if values.next().is_some() {
        return Err(Rejection::Duplicate);
    }
    match value.to_str() {
        Ok("") => Err(Rejection::Missing),
        Ok(text) => Ok(text),
        Err(_) => Err(Rejection::Malformed),
    }
}

/// The number of seconds in `text`, if it lies close enough to `now`.
fn fresh(text: &str, now: i64) -> Result<i64, Rejection> {
    // Eleven digits reach the year 5138, and they fit whatever they are. Signs, spaces, fractions, exponents and
    // leading zeros have no place in a timestamp, though parsers disagree on them.
    let plain =
        (1..=11).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    let timestamp = if plain { text.parse::<i64>().ok() } else { None }.ok_or(Rejection::Timestamp)?;

    // `abs_diff` cannot overflow, whatever either clock says.
    if timestamp.abs_diff(now) <= TOLERANCE_SECONDS {
        Ok(timestamp)
    } else if timestamp < now {
        Err(Rejection::Stale)
    } else {
        Err(Rejection::Future)
    }
}

/// The standard alphabet, with or without padding, and without stray bits in the last character.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The first [`SIGNATURES_MAX`] well-formed `v1` signatures of a list. Other versions and malformed entries are
/// skipped: a sender may add kinds that we do not know beside the one that we do.
fn listed_signatures(list: &str) -> Vec<[u8; 32]> {
    list.split(' ')
        .filter_map(|entry| entry.strip_prefix("v1,"))
        .filter_map(|text| BASE64.decode(text).ok()?.try_into().ok())
        .take(SIGNATURES_MAX)
        .collect()
}

fn hex_signature(text: &str) -> Option<[u8; 32]> {
    // One signature has one spelling, so that no edit of a valid one is valid.
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    hex::decode(text).ok()?.try_into().ok()
}

/// Compares every signature with every key, in constant time and without stopping at a match, so that the time
/// taken tells neither how much of a signature is right nor which key it belongs to.
fn must_match(keys: &[SecretSlice<u8>], signed: &[&[u8]], signatures: &[[u8; 32]]) -> Result<(), Rejection> {
    let mut matched = false;
    for key in keys.iter().map(ExposeSecret::expose_secret).filter(|key| !key.is_empty()) {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { continue };
        for part in signed {
            mac.update(part);
        }
        for signature in signatures {
            matched |= mac.clone().verify_slice(signature).is_ok();
        }
    }
    if matched { Ok(()) } else { Err(Rejection::Mismatch) }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    // Computed with the reference implementation of Standard Webhooks and, independently, with plain HMAC.
    const ID: &str = "whe_00000000000000000000000000000001";
    const SENT_AT: &str = "1793534400";
    const NOW: i64 = 1_793_534_400;
    const BODY: &[u8] = br#"{"type":"event","id":"whe_00000000000000000000000000000001","created_at":"2026-11-01T12:00:00Z","data":{"type":"session.status_idled","id":"sesn_test0001","organization_id":"org_test","workspace_id":"wrkspc_test"}}"#;
    const WITH_A: &str = "v1,c1RBmP+cjh2lpmdNEilk/q0SZtuzvIh/bCNRC+mQ5v0=";
    const WITH_B: &str = "v1,zoZQRsdWTP8sZsTwqVH2J0yIuWpNW+qOpDoDlCfPTBs=";
    const OLDER: &str = "bf75c625ade3f4373e537e7fc2f0f65ec7ba6833bd94bac91c264fa5789b96c1";

    fn key(bytes: &[u8]) -> SecretSlice<u8> {
        SecretSlice::from(bytes.to_vec())
    }

    fn key_a() -> SecretSlice<u8> {
        key(&(0..32).collect::<Vec<u8>>())
    }

    fn key_b() -> SecretSlice<u8> {
        key(&[0xff; 32])
    }

    fn only_a() -> Keys {
        Keys { standard: vec![key_a()], older: vec![] }
    }

    fn only_older() -> Keys {
        Keys { standard: vec![], older: vec![key(b"s3cret")] }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    fn standard(id: &str, sent_at: &str, signature: &str) -> HeaderMap {
        headers(&[("webhook-id", id), ("webhook-timestamp", sent_at), ("webhook-signature", signature)])
    }

    fn older(sent_at: &str, signature: &str) -> HeaderMap {
        headers(&[("anthropic-timestamp", sent_at), ("anthropic-signature", signature)])
    }

    /// A valid Standard Webhooks signature with key A.
    fn sign(id: &str, sent_at: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key_a().expose_secret()).unwrap();
        for part in [id.as_bytes(), b".", sent_at.as_bytes(), b".", body] {
            mac.update(part);
        }
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn the_published_vectors_verify() {
        let rotation = format!("{WITH_B} {WITH_A}");
        let only_b = Keys { standard: vec![key_b()], older: vec![] };
        let both = Keys { standard: vec![key_b(), key_a()], older: vec![] };
        let table = [
            (&only_a(), WITH_A),
            (&only_b, WITH_B),
            (&only_a(), &rotation),
            (&only_b, &rotation),
            (&both, WITH_A),
            (&both, WITH_B),
        ];

        for (keys, signature) in table {
            let verified = verify(keys, &standard(ID, SENT_AT, signature), BODY, NOW);
            assert_eq!(verified, Ok(Verified { webhook_id: Some(ID.into()), timestamp: NOW }), "{signature}");
        }
        assert_eq!(
            verify(&only_older(), &older(SENT_AT, OLDER), BODY, NOW),
            Ok(Verified { webhook_id: None, timestamp: NOW })
        );
        assert_eq!(
            verify(&only_a(), &standard(ID, SENT_AT, WITH_B), BODY, NOW),
            Err(Rejection::Mismatch),
            "a retired key"
        );
    }

    #[test]
    fn every_change_of_one_byte_of_the_body_is_refused() {
        for (keys, headers) in
            [(only_a(), standard(ID, SENT_AT, WITH_A)), (only_older(), older(SENT_AT, OLDER))]
        {
            let mut body = BODY.to_vec();
            for at in 0..body.len() {
                for flip in 1..=255 {
                    body[at] ^= flip;
                    assert_eq!(verify(&keys, &headers, &body, NOW), Err(Rejection::Mismatch), "byte {at}");
                    body[at] ^= flip;
                }
            }
            assert!(verify(&keys, &headers, &body, NOW).is_ok());
        }
    }

    #[test]
    fn every_change_of_one_byte_of_a_header_is_refused() {
        let cases = [(only_a(), standard(ID, SENT_AT, WITH_A), 3), (only_older(), older(SENT_AT, OLDER), 2)];
        for (keys, original, count) in cases {
            assert_eq!(original.len(), count);
            for (name, value) in &original {
                for at in 0..value.len() {
                    for byte in 0..=255 {
                        let mut changed = value.as_bytes().to_vec();
                        changed[at] = byte;
                        // A space in place of the padding leaves the same signature, unpadded.
                        let unpadded = name == "webhook-signature" && at + 1 == value.len() && byte == b' ';
                        let Ok(changed) = HeaderValue::from_bytes(&changed) else { continue };
                        if changed == value || unpadded {
                            continue;
                        }
                        let mut headers = original.clone();
                        headers.insert(name, changed);
                        assert!(verify(&keys, &headers, BODY, NOW).is_err(), "{name}, byte {at} = {byte}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_body_or_signature_cut_short_or_made_longer_is_refused() {
        let longer = [BODY, b" "].concat();
        for body in [&BODY[1..], &BODY[..BODY.len() - 1], &longer, b""] {
            let refused = verify(&only_a(), &standard(ID, SENT_AT, WITH_A), body, NOW);
            assert_eq!(refused, Err(Rejection::Mismatch));
        }
        for signature in ["v1,", "v1", "v1,c1RBmP+cjh2lpmdNEilk", &format!("{WITH_A}AAAA"), &WITH_A[3..]] {
            let refused = verify(&only_a(), &standard(ID, SENT_AT, signature), BODY, NOW);
            assert_eq!(refused, Err(Rejection::Mismatch), "{signature}");
        }
        for signature in
            [&OLDER[..32], &OLDER.to_uppercase(), &format!("{OLDER}00"), &format!("sha256={OLDER}")]
        {
            let refused = verify(&only_older(), &older(SENT_AT, signature), BODY, NOW);
            assert_eq!(refused, Err(Rejection::Mismatch), "{signature}");
        }
    }

    #[test]
    fn the_tolerance_is_five_minutes_either_way_and_inclusive() {
        for (now, expected) in [
            (NOW, Ok(())),
            (NOW + 300, Ok(())),
            (NOW - 300, Ok(())),
            (NOW + 301, Err(Rejection::Stale)),
            (NOW - 301, Err(Rejection::Future)),
            (i64::MAX, Err(Rejection::Stale)),
            (i64::MIN, Err(Rejection::Future)),
        ] {
            let standard = verify(&only_a(), &standard(ID, SENT_AT, WITH_A), BODY, now).map(|_| ());
            let older = verify(&only_older(), &older(SENT_AT, OLDER), BODY, now).map(|_| ());
            assert_eq!((standard, older), (expected, expected), "{now}");
        }
    }

    #[test]
    fn a_timestamp_that_is_no_plain_number_is_refused_though_it_is_signed() {
        for sent_at in [
            "-9223372036854775808",
            "-9223372036854775807",
            "9223372036854775807",
            "9223372036854775808",
            "99999999999999999999999999999999999999999",
            "-1793534400",
            "+1793534400",
            " 1793534400",
            "1793534400 ",
            "01793534400",
            "1793534400.0",
            "1.7935344e9",
            "1_793_534_400",
            "0x6ae6f480",
            "NaN",
            "inf",
            "0",
            "1793534400000",
        ] {
            let signature = sign(ID, sent_at, BODY);
            let refused = verify(&only_a(), &standard(ID, sent_at, &signature), BODY, NOW);
            assert_eq!(refused, Err(Rejection::Timestamp), "{sent_at}");
        }
        let arabic = standard(ID, "١٧٩٣٥٣٤٤٠٠", WITH_A);
        assert_eq!(verify(&only_a(), &arabic, BODY, NOW), Err(Rejection::Malformed));
    }

    #[test]
    fn one_valid_signature_in_a_list_is_enough() {
        let unpadded = WITH_A.trim_end_matches('=');
        let crowd = vec!["v1,!!!"; 1000].join(" ");
        for list in [
            unpadded.to_owned(),
            format!("v1a,AAAA {WITH_A}"),
            format!("v2,c1RBmP+c nocomma , v1, {WITH_A} v1,@@@@"),
            format!("  {WITH_A}  "),
            format!("{crowd} {WITH_A}"),
            format!("{} {WITH_A}", vec![WITH_B; SIGNATURES_MAX - 1].join(" ")),
        ] {
            assert!(verify(&only_a(), &standard(ID, SENT_AT, &list), BODY, NOW).is_ok(), "{list}");
        }
        let late = format!("{} {WITH_A}", vec![WITH_B; SIGNATURES_MAX].join(" "));
        assert_eq!(
            verify(&only_a(), &standard(ID, SENT_AT, &late), BODY, NOW),
            Err(Rejection::Mismatch),
            "past the signatures that are looked at"
        );
    }

    #[test]
    fn a_signature_header_that_is_missing_empty_or_there_twice_is_refused() {
        let complete = [("webhook-id", ID), ("webhook-timestamp", SENT_AT), ("webhook-signature", WITH_A)];
        for (at, (name, value)) in complete.into_iter().enumerate() {
            let mut without = complete.to_vec();
            without.remove(at);
            assert_eq!(verify(&only_a(), &headers(&without), BODY, NOW), Err(Rejection::Missing), "{name}");

            let mut empty = complete.to_vec();
            empty[at].1 = "";
            assert_eq!(verify(&only_a(), &headers(&empty), BODY, NOW), Err(Rejection::Missing), "{name}");

            let mut twice = complete.to_vec();
            twice.push((name, value));
            assert_eq!(verify(&only_a(), &headers(&twice), BODY, NOW), Err(Rejection::Duplicate), "{name}");
        }
    }

    #[test]
    fn an_alias_is_read_only_where_its_header_is_absent() {
        let all = [("x-webhook-id", ID), ("x-webhook-timestamp", SENT_AT), ("x-webhook-signature", WITH_A)];
        assert!(verify(&only_a(), &headers(&all), BODY, NOW).is_ok());
        let one = [("webhook-id", ID), ("webhook-timestamp", SENT_AT), ("x-webhook-signature", WITH_A)];
        assert!(verify(&only_a(), &headers(&one), BODY, NOW).is_ok());

        let mut shadowed = standard(ID, SENT_AT, WITH_B);
        shadowed.insert("x-webhook-signature", HeaderValue::from_static(WITH_A));
        assert_eq!(verify(&only_a(), &shadowed, BODY, NOW), Err(Rejection::Mismatch));

        let svix = [("svix-id", ID), ("svix-timestamp", SENT_AT), ("svix-signature", WITH_A)];
        assert_eq!(verify(&only_a(), &headers(&svix), BODY, NOW), Err(Rejection::Missing));
    }

    #[test]
    fn an_identifier_with_a_dot_is_refused_though_it_is_signed() {
        let signature = sign("whe_1.2", SENT_AT, BODY);
        let refused = verify(&only_a(), &standard("whe_1.2", SENT_AT, &signature), BODY, NOW);
        assert_eq!(refused, Err(Rejection::Malformed));
    }

    #[test]
    fn a_scheme_is_on_only_by_its_keys_and_nothing_signed_for_one_passes_as_the_other() {
        // One secret for both schemes is the worst case.
        let shared = || key(b"s3cret");
        let off = Keys::default();
        let standard_on = Keys { standard: vec![shared()], older: vec![] };
        let older_on = Keys { standard: vec![], older: vec![shared()] };
        let both_on = Keys { standard: vec![shared()], older: vec![shared()] };
        let as_base64 = format!("v1,{}", BASE64.encode(hex::decode(OLDER).unwrap()));
        let as_standard = standard(ID, SENT_AT, &as_base64);
        let as_older = older(SENT_AT, OLDER);
        let mut as_both = as_standard.clone();
        as_both.extend(as_older.clone());

        let table = [
            ("off, older", &off, &as_older, Err(Rejection::NoKeys)),
            ("standard, older", &standard_on, &as_older, Err(Rejection::Missing)),
            ("standard, moved over", &standard_on, &as_standard, Err(Rejection::Mismatch)),
            ("standard, both headers", &standard_on, &as_both, Err(Rejection::Mismatch)),
            ("older, older", &older_on, &as_older, Ok(())),
            ("older, moved over", &older_on, &as_standard, Err(Rejection::Missing)),
            ("both, older", &both_on, &as_older, Ok(())),
            ("both, moved over", &both_on, &as_standard, Err(Rejection::Mismatch)),
            ("both, both headers, one valid", &both_on, &as_both, Ok(())),
        ];
        for (name, keys, headers, expected) in table {
            assert_eq!(verify(keys, headers, BODY, NOW).map(|_| ()), expected, "{name}");
        }
    }

    #[test]
    fn the_empty_key_verifies_nothing() {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"").unwrap();
        mac.update(format!("{SENT_AT}.").as_bytes());
        mac.update(BODY);
        let forged = hex::encode(mac.finalize().into_bytes());

        let empty = Keys { standard: vec![], older: vec![key(b"")] };
        assert_eq!(verify(&empty, &older(SENT_AT, &forged), BODY, NOW), Err(Rejection::NoKeys));
        let beside = Keys { standard: vec![], older: vec![key(b""), key(b"s3cret")] };
        assert_eq!(verify(&beside, &older(SENT_AT, &forged), BODY, NOW), Err(Rejection::Mismatch));
    }

    #[test]
    fn keys_do_not_show_in_debug() {
        let keys = Keys { standard: vec![], older: vec![key(b"s3cret")] };
        let shown = format!("{keys:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("115, 51"), "{shown}");
    }

    proptest! {
        #[test]
        fn arbitrary_headers_neither_panic_nor_pass(
            values in proptest::collection::vec(
                (0..8usize, proptest::collection::vec(any::<u8>(), 0..80)), 0..8),
            body in proptest::collection::vec(any::<u8>(), 0..80),
            now in any::<i64>(),
        ) {
            const NAMES: [&str; 8] = [
                "webhook-id", "webhook-timestamp", "webhook-signature", "x-webhook-id",
                "x-webhook-timestamp", "x-webhook-signature", "anthropic-timestamp", "anthropic-signature",
            ];
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.append(NAMES[name], value);
                }
            }
            let keys = Keys { standard: vec![key_a()], older: vec![key(b"s3cret")] };
            prop_assert!(verify(&keys, &headers, &body, now).is_err());
        }

        #[test]
        fn whatever_is_signed_and_fresh_verifies(
            id in "[!-~&&[^.]]{1,60}",
            body in proptest::collection::vec(any::<u8>(), 0..200),
            now in 1..99_999_999_999i64,
        ) {
            let sent_at = now.to_string();
            let signature = sign(&id, &sent_at, &body);
            let verified = verify(&only_a(), &standard(&id, &sent_at, &signature), &body, now);
            prop_assert_eq!(verified, Ok(Verified { webhook_id: Some(id), timestamp: now }));
        }
    }
}
