//! A closer look at a delivery that was refused: what its sender, or something in between, is likely to have got wrong.
//!
//! It decides nothing: the delivery stays refused, and its sender learns nothing of this. It costs several times what the check
//! costs, so the caller limits how often it is made.

use axum::http::HeaderMap;
use base64::Engine;
use secrecy::{ExposeSecret, SecretSlice};

use super::standard::{self, BASE64};
use super::{Keys, Rejection, values, verify};

/// A longer body is not looked at more closely, in bytes. Deliveries of the API are below 1 kB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What a closer look found; the words are those of `restante.refusal_hint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    /// The check already says all there is to say.
    As(Rejection),
    /// It is signed under headers of a scheme that is not on.
    WrongHeaderName,
    /// No signature of the list is base64 of 32 bytes.
    NotBase64,
    /// The signature is not 64 hexadecimal digits in lower case.
    NotHex,
    /// The keys of another sender fit.
    KeyOfAnotherSender,
    /// The signature fits the body with other white space.
    BodyAltered,
}

impl Diagnosis {
    /// A short name that stays the same.
    pub fn reason(self) -> &'static str {
        match self {
            Diagnosis::As(rejection) => rejection.reason(),
            Diagnosis::WrongHeaderName => "wrong_header_name",
            Diagnosis::NotBase64 => "not_base64",
            Diagnosis::NotHex => "not_hex",
            Diagnosis::KeyOfAnotherSender => "key_of_another_sender",
            Diagnosis::BodyAltered => "body_altered",
        }
    }
}

/// A refused delivery, as its check saw it.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'r> {
    /// What the check said.
    pub rejection: Rejection,
    /// The keys that it was checked with.
    pub keys: &'r Keys,
    /// Its headers.
    pub headers: &'r HeaderMap,
    /// Its body.
    pub body: &'r [u8],
    /// The Unix second of the check.
    pub now: i64,
}

impl Refused<'_> {
    /// Looks more closely. `others` are the keys of the other senders.
    pub fn diagnose<'k>(self, others: impl IntoIterator<Item = &'k Keys>) -> Diagnosis {
        let Refused { rejection, keys, headers, body, now } = self;
        let fits = |keys: &Keys, body: &[u8]| {
            body.len() <= BODY_BYTES_MAX && verify(keys, headers, body, now).is_ok()
        };
        match rejection {
            Rejection::Missing | Rejection::NoKeys if is_signed_otherwise(keys, headers) => {
                // Another sender may be signing by a scheme that this one does not have.
                if others.into_iter().any(|other| fits(other, body)) {
                    Diagnosis::KeyOfAnotherSender
                } else {
                    Diagnosis::WrongHeaderName
                }
            }
            Rejection::Mismatch if !has_base64(keys, headers) => Diagnosis::NotBase64,
            Rejection::Mismatch if !has_hex(keys, headers) => Diagnosis::NotHex,
            Rejection::Mismatch if body.len() <= BODY_BYTES_MAX => {
                if others.into_iter().any(|other| fits(other, body)) {
                    Diagnosis::KeyOfAnotherSender
                } else if variants(body).any(|variant| fits(keys, &variant)) {
                    Diagnosis::BodyAltered
                } else {
                    Diagnosis::As(rejection)
                }
            }
            _ => Diagnosis::As(rejection),
        }
    }
}

fn is_on(keys: &[SecretSlice<u8>]) -> bool {
    keys.iter().any(|key| !key.expose_secret().is_empty())
}

/// Has it a header that looks like a signature, and belongs to no scheme that is on?
fn is_signed_otherwise(keys: &Keys, headers: &HeaderMap) -> bool {
    let read: Vec<&str> = [
        (is_on(&keys.standard), standard::WEBHOOK.signature),
        (is_on(&keys.svix), standard::SVIX.signature),
        (is_on(&keys.older), &["anthropic-signature"]),
    ]
    .into_iter()
    .filter(|(is_on, _)| *is_on)
    .flat_map(|(_, names)| names.iter().copied())
    .collect();
    headers
        .keys()
        .map(axum::http::HeaderName::as_str)
        .any(|name| (name.contains("signature") || name.contains("hmac")) && !read.contains(&name))
}

/// Holds unless the delivery has a list of signatures for a scheme that is on, and none of the list is one.
fn has_base64(keys: &Keys, headers: &HeaderMap) -> bool {
    let schemes = [(&keys.standard, standard::WEBHOOK.signature), (&keys.svix, standard::SVIX.signature)];
    schemes.into_iter().filter(|(keys, _)| is_on(keys)).all(|(_, names)| {
        let Ok(lists) = values(headers, names) else { return true };
        lists.iter().any(|list| {
            let words = list.split([' ', '\t', ',']);
            words.into_iter().any(|word| BASE64.decode(word).is_ok_and(|bytes| bytes.len() == 32))
        })
    })
}

/// The same of the older scheme.
fn has_hex(keys: &Keys, headers: &HeaderMap) -> bool {
    let Ok(signatures) = values(headers, &["anthropic-signature"]) else { return true };
    let is_hex =
        |text: &str| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    !is_on(&keys.older)
        || signatures.iter().any(|signature| signature.split(',').any(|part| is_hex(part.trim_ascii())))
}

/// The body as it may have been before something wrote it anew: without white space around it, with a line end after it, with
/// the line ends of another system, and as compact and as spaced JSON.
fn variants(body: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let trimmed = body.trim_ascii();
    let is_new = |variant: &Vec<u8>| variant != body;
    [
        trimmed.to_vec(),
        [trimmed, b"\n"].concat(),
        body.iter().copied().filter(|byte| *byte != b'\r').collect(),
        body.split(|byte| *byte == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]),
        spaced_as(trimmed, b":", b","),
        spaced_as(trimmed, b": ", b", "),
    ]
    .into_iter()
    .filter(is_new)
    .collect::<Vec<_>>()
    .into_iter()
}

/// JSON with only this white space after its colons and commas.
fn spaced_as(json: &[u8], colon: &[u8], comma: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(json.len() + json.len() / 8);
    let (mut is_text, mut is_escaped) = (false, false);
    for &byte in json {
        match byte {
            _ if is_text => {
                written.push(byte);
                is_text = byte != b'"' || is_escaped;
                is_escaped = byte == b'\\' && !is_escaped;
            }
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b':' => written.extend_from_slice(colon),
            b',' => written.extend_from_slice(comma),
            _ => {
                is_text = byte == b'"';
                written.push(byte);
            }
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::tests::{BODY, ID, NOW, SENT_AT, WITH_A, headers, only_a, sign, standard};

    fn diagnosed(keys: &Keys, headers: &HeaderMap, body: &[u8], others: &[Keys]) -> Diagnosis {
        let rejection = verify(keys, headers, body, NOW).unwrap_err();
        Refused { rejection, keys, headers, body, now: NOW }.diagnose(others)
    }

    fn key(text: &[u8]) -> Vec<SecretSlice<u8>> {
        vec![SecretSlice::from(text.to_vec())]
    }

    #[test]
    fn headers_of_another_scheme_are_told_from_headers_that_are_missing() {
        for (name, value) in [
            ("svix-signature", WITH_A),
            ("x-hub-signature-256", "sha256=00"),
            ("x-shopify-hmac-sha256", "00"),
            ("anthropic-signature", "00"),
        ] {
            let headers = headers(&[(name, value)]);
            assert_eq!(diagnosed(&only_a(), &headers, BODY, &[]), Diagnosis::WrongHeaderName, "{name}");
        }
        for present in [&[][..], &[("webhook-signature", WITH_A)], &[("webhook-id", ID)]] {
            let missing = diagnosed(&only_a(), &headers(present), BODY, &[]);
            assert_eq!(missing, Diagnosis::As(Rejection::Missing), "{present:?}");
        }
    }

    #[test]
    fn a_signature_that_is_none_is_told_from_one_that_does_not_fit() {
        for none in ["v1,!!!", "v1,c2hvcnQ=", "sha256=00112233", "deadbeef"] {
            let headers = standard(ID, SENT_AT, none);
            assert_eq!(diagnosed(&only_a(), &headers, BODY, &[]), Diagnosis::NotBase64, "{none}");
        }
        let misfit = standard(ID, SENT_AT, &sign("whe_other", SENT_AT, BODY));
        assert_eq!(diagnosed(&only_a(), &misfit, BODY, &[]), Diagnosis::As(Rejection::Mismatch));

        let older = Keys { older: key(b"s3cret"), ..Keys::default() };
        let of = |signature: &str| {
            headers(&[("anthropic-timestamp", SENT_AT), ("anthropic-signature", signature)])
        };
        for none in ["BF75", "bf75", WITH_A] {
            assert_eq!(diagnosed(&older, &of(none), BODY, &[]), Diagnosis::NotHex, "{none}");
        }
        assert_eq!(diagnosed(&older, &of(&"0".repeat(64)), BODY, &[]), Diagnosis::As(Rejection::Mismatch));
    }

    #[test]
    fn a_signature_by_the_key_of_another_sender_is_told() {
        let other = Keys { standard: key(b"the key of the other sender"), ..Keys::default() };

        let headers = standard(ID, SENT_AT, &sign(ID, SENT_AT, BODY));

        assert_eq!(diagnosed(&other, &headers, BODY, &[only_a()]), Diagnosis::KeyOfAnotherSender);
        assert_eq!(diagnosed(&other, &headers, BODY, &[]), Diagnosis::As(Rejection::Mismatch));

        let of_another_scheme = Keys { older: key(b"s3cret"), ..Keys::default() };
        assert_eq!(diagnosed(&of_another_scheme, &headers, BODY, &[only_a()]), Diagnosis::KeyOfAnotherSender);
        assert_eq!(diagnosed(&of_another_scheme, &headers, BODY, &[]), Diagnosis::WrongHeaderName);
    }

    #[test]
    fn a_body_whose_white_space_was_changed_on_the_way_is_told_and_stays_refused() {
        let compact = br#"{"a":"x: \"y\", z","b":[1,2]}"#;
        let spaced = br#"{"a": "x: \"y\", z", "b": [1, 2]}"#;
        let pretty = b"{\n  \"a\": \"x: \\\"y\\\", z\",\n  \"b\": [1, 2]\n}\n";
        let lines = b"{\"a\":\n1}".as_slice();
        for (sent, arrived) in [
            (&compact[..], &spaced[..]),
            (&spaced[..], &compact[..]),
            (&compact[..], &pretty[..]),
            (&compact[..], &[&compact[..], b"\n"].concat()),
            (&[&compact[..], b"\n"].concat(), &compact[..]),
            (lines, b"{\"a\":\r\n1}"),
            (b"{\"a\":\r\n1}", lines),
        ] {
            let headers = standard(ID, SENT_AT, &sign(ID, SENT_AT, sent));
            let told = diagnosed(&only_a(), &headers, arrived, &[]);
            assert_eq!(told, Diagnosis::BodyAltered, "{}", String::from_utf8_lossy(arrived));
        }
        let headers = standard(ID, SENT_AT, &sign(ID, SENT_AT, compact));
        let other = diagnosed(&only_a(), &headers, br#"{"a":"x","b":[1,2]}"#, &[]);
        assert_eq!(other, Diagnosis::As(Rejection::Mismatch), "another body is no body that was altered");
    }
}
