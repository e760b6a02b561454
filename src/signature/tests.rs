//! Deliveries signed by either scheme, and whether they still verify when a byte, a key or the clock changes.

use axum::http::{HeaderName, HeaderValue};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;

use super::*;

// Computed with the reference implementation of Standard Webhooks and, independently, with plain HMAC.
pub(super) const ID: &str = "whe_00000000000000000000000000000001";
pub(super) const SENT_AT: &str = "1793534400";
pub(super) const NOW: i64 = 1_793_534_400;
pub(super) const BODY: &[u8] = br#"{"type":"event","id":"whe_00000000000000000000000000000001","created_at":"2026-11-01T12:00:00Z","data":{"type":"session.status_idled","id":"sesn_test0001","organization_id":"org_test","workspace_id":"wrkspc_test"}}"#;
pub(super) const WITH_A: &str = "v1,c1RBmP+cjh2lpmdNEilk/q0SZtuzvIh/bCNRC+mQ5v0=";
pub(super) const WITH_B: &str = "v1,zoZQRsdWTP8sZsTwqVH2J0yIuWpNW+qOpDoDlCfPTBs=";
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

pub(super) fn only_a() -> Keys {
    Keys { standard: vec![key_a()], older: vec![], ..Keys::default() }
}

fn only_older() -> Keys {
    Keys { standard: vec![], older: vec![key(b"s3cret")], ..Keys::default() }
}

pub(super) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

pub(super) fn standard(id: &str, sent_at: &str, signature: &str) -> HeaderMap {
    headers(&[("webhook-id", id), ("webhook-timestamp", sent_at), ("webhook-signature", signature)])
}

fn older(sent_at: &str, signature: &str) -> HeaderMap {
    headers(&[("anthropic-timestamp", sent_at), ("anthropic-signature", signature)])
}

/// A valid Standard Webhooks signature with key A.
pub(super) fn sign(id: &str, sent_at: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key_a().expose_secret()).unwrap();
    for part in [id.as_bytes(), b".", sent_at.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

#[test]
fn the_published_vectors_verify() {
    let rotation = format!("{WITH_B} {WITH_A}");
    let only_b = Keys { standard: vec![key_b()], older: vec![], ..Keys::default() };
    let both = Keys { standard: vec![key_b(), key_a()], older: vec![], ..Keys::default() };
    let table = [
        (&only_a(), WITH_A),
        (&only_b, WITH_B),
        (&only_a(), &rotation),
        (&only_b, &rotation),
        (&both, WITH_A),
        (&both, WITH_B),
        (&both, &rotation),
    ];

    for (keys, signature) in table {
        let verified = verify(keys, &standard(ID, SENT_AT, signature), BODY, NOW);
        let fits = keys.fingerprints();
        let expected = fits.iter().copied().filter(|key| {
            let of = |known: SecretSlice<u8>| Fingerprint::of(known.expose_secret());
            (signature.contains(WITH_A) && *key == of(key_a()))
                || (signature.contains(WITH_B) && *key == of(key_b()))
        });
        let expected = Verified { webhook_id: Some(ID.into()), timestamp: NOW, fits: expected.collect() };
        assert_eq!(verified, Ok(expected), "{signature}");
    }
    assert_eq!(
        verify(&only_older(), &older(SENT_AT, OLDER), BODY, NOW),
        Ok(Verified { webhook_id: None, timestamp: NOW, fits: only_older().fingerprints() })
    );
    assert_eq!(
        verify(&only_a(), &standard(ID, SENT_AT, WITH_B), BODY, NOW),
        Err(Rejection::Mismatch),
        "a retired key"
    );
}

#[test]
fn every_change_of_one_byte_of_the_body_is_refused() {
    for (keys, headers) in [(only_a(), standard(ID, SENT_AT, WITH_A)), (only_older(), older(SENT_AT, OLDER))]
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
                    // A separator in place of the padding leaves the same signature, unpadded.
                    let unpadded = name == "webhook-signature"
                        && at + 1 == value.len()
                        && [b' ', b'\t', b','].contains(&byte);
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
    for signature in [&OLDER[..32], &OLDER.to_uppercase(), &format!("{OLDER}00"), &format!("sha256={OLDER}")]
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
fn a_signature_header_that_is_missing_empty_or_there_twice_with_another_value_is_refused() {
    let complete = [("webhook-id", ID), ("webhook-timestamp", SENT_AT), ("webhook-signature", WITH_A)];
    for (at, (name, value)) in complete.into_iter().enumerate() {
        let mut without = complete.to_vec();
        without.remove(at);
        assert_eq!(verify(&only_a(), &headers(&without), BODY, NOW), Err(Rejection::Missing), "{name}");

        let mut empty = complete.to_vec();
        empty[at].1 = "";
        assert_eq!(verify(&only_a(), &headers(&empty), BODY, NOW), Err(Rejection::Missing), "{name}");

        // Signatures are a list, the others are not.
        if name != "webhook-signature" {
            let other = format!("{value}0");
            for (first, second) in [(value, other.as_str()), (&other, value)] {
                let mut twice = complete.to_vec();
                twice[at].1 = first;
                twice.push((name, second));
                assert_eq!(
                    verify(&only_a(), &headers(&twice), BODY, NOW),
                    Err(Rejection::Duplicate),
                    "{twice:?}"
                );
                let joined = format!("{first}, {second}");
                twice.pop();
                twice[at].1 = &joined;
                assert!(verify(&only_a(), &headers(&twice), BODY, NOW).is_err(), "{joined}");
            }
        }
    }
    let twice = headers(&[
        ("anthropic-timestamp", SENT_AT),
        ("anthropic-signature", OLDER),
        ("anthropic-signature", "00"),
    ]);
    assert_eq!(verify(&only_older(), &twice, BODY, NOW), Err(Rejection::Duplicate));
}

#[test]
fn equal_headers_are_one_and_several_lists_of_signatures_are_one_list() {
    let standard = [("webhook-id", ID), ("webhook-timestamp", SENT_AT), ("webhook-signature", WITH_A)];
    let older = [("anthropic-timestamp", SENT_AT), ("anthropic-signature", OLDER)];
    for (keys, complete) in [(only_a(), &standard[..]), (only_older(), &older[..])] {
        let doubled = [complete, complete].concat();
        assert!(verify(&keys, &headers(&doubled), BODY, NOW).is_ok(), "doubled");
        for separator in [",", ", ", " , "] {
            let joined: Vec<_> =
                complete.iter().map(|(name, value)| (*name, [*value, value].join(separator))).collect();
            let joined: Vec<_> = joined.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert!(verify(&keys, &headers(&joined), BODY, NOW).is_ok(), "{joined:?}");
        }
    }
    for id in ["a,b", "a,a", ",", "a,,a"] {
        let signature = sign(id, SENT_AT, BODY);
        let verified = verify(&only_a(), &self::standard(id, SENT_AT, &signature), BODY, NOW).unwrap();
        assert_eq!(verified.webhook_id.as_deref(), Some(id), "an identifier with a comma of its own");
    }
    for lists in [[WITH_B, WITH_A], [WITH_A, WITH_B], ["v1a,AAAA", WITH_A]] {
        let mut both = standard[..2].to_vec();
        both.extend(lists.map(|list| ("webhook-signature", list)));
        assert!(verify(&only_a(), &headers(&both), BODY, NOW).is_ok(), "{lists:?}");
    }
}

#[test]
fn a_scheme_is_on_only_by_its_keys_and_nothing_signed_for_one_passes_as_the_other() {
    // One secret for both schemes is the worst case.
    let shared = || key(b"s3cret");
    let off = Keys::default();
    let standard_on = Keys { standard: vec![shared()], older: vec![], ..Keys::default() };
    let older_on = Keys { standard: vec![], older: vec![shared()], ..Keys::default() };
    let both_on = Keys { standard: vec![shared()], older: vec![shared()], ..Keys::default() };
    let as_base64 = format!("v1,{}", BASE64_STANDARD.encode(hex::decode(OLDER).unwrap()));
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

    let empty = Keys { standard: vec![], older: vec![key(b"")], ..Keys::default() };
    assert_eq!(verify(&empty, &older(SENT_AT, &forged), BODY, NOW), Err(Rejection::NoKeys));
    let beside = Keys { standard: vec![], older: vec![key(b""), key(b"s3cret")], ..Keys::default() };
    assert_eq!(verify(&beside, &older(SENT_AT, &forged), BODY, NOW), Err(Rejection::Mismatch));
}

#[test]
fn keys_do_not_show_in_debug() {
    let keys = Keys { standard: vec![], older: vec![key(b"s3cret")], ..Keys::default() };
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
        let keys = Keys { standard: vec![key_a()], older: vec![key(b"s3cret")], ..Keys::default() };
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
        prop_assert_eq!(verified, Ok(Verified { webhook_id: Some(id), timestamp: now, fits: only_a().fingerprints() }));
    }
}
