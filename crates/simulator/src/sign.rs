//! Signatures of outgoing webhooks, by the two schemes that receivers accept.
//!
//! Ingest has its own module for signatures. If both shared one, a mistake in it would go unnoticed.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The signing key is not `whsec_` and base64, or is empty. The error does not show the key.
#[derive(Debug, thiserror::Error)]
#[error("the signing key is not `whsec_` followed by a key in base64")]
pub struct InvalidKey;

/// The headers of a delivery by the Standard Webhooks scheme (its specification, section "Signature scheme"):
/// HMAC-SHA256 over `id.timestamp.body`, in base64 behind `v1,`. The timestamp counts seconds since 1970.
///
/// # Errors
///
/// `InvalidKey` if the key is not base64.
pub fn standard(
    key: &SecretString,
    event_id: &str,
    timestamp_seconds: i64,
    body: &[u8],
) -> Result<[(&'static str, String); 3], InvalidKey> {
    let text = key.expose_secret();
    let bytes = BASE64.decode(text.strip_prefix("whsec_").unwrap_or(text)).map_err(|_| InvalidKey)?;
    if bytes.is_empty() {
        return Err(InvalidKey);
    }
    let digest =
        hmac(&bytes, &[event_id.as_bytes(), b".", timestamp_seconds.to_string().as_bytes(), b".", body])?;
    Ok([
        ("webhook-id", event_id.to_owned()),
        ("webhook-timestamp", timestamp_seconds.to_string()),
        ("webhook-signature", format!("v1,{}", BASE64.encode(digest))),
    ])
}

/// The headers of a delivery by the older scheme: HMAC-SHA256 over `timestamp.body` in hexadecimal, with the secret as
/// given.
///
/// # Errors
///
/// `InvalidKey` if the secret is empty.
pub fn older(
    secret: &SecretString,
    timestamp_seconds: i64,
    body: &[u8],
) -> Result<[(&'static str, String); 2], InvalidKey> {
    let bytes = secret.expose_secret().as_bytes();
    if bytes.is_empty() {
        return Err(InvalidKey);
    }
    let digest = hmac(bytes, &[timestamp_seconds.to_string().as_bytes(), b".", body])?;
    Ok([("anthropic-timestamp", timestamp_seconds.to_string()), ("anthropic-signature", hex::encode(digest))])
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>, InvalidKey> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| InvalidKey)?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "whe_00000000000000000000000000000001";
    const TIMESTAMP: i64 = 1_793_534_400;
    const BODY: &str = r#"{"type":"event","id":"whe_00000000000000000000000000000001","created_at":"2026-11-01T12:00:00Z","data":{"type":"session.status_idled","id":"sesn_test0001","organization_id":"org_test","workspace_id":"wrkspc_test"}}"#;

    fn signature(key: &str) -> String {
        let [.., (_, signature)] = standard(&key.to_owned().into(), ID, TIMESTAMP, BODY.as_bytes()).unwrap();
        signature
    }

    /// Both computed with the `standardwebhooks` library 1.1.0 for Python, which the official SDK calls.
    #[test]
    fn standard_signatures_are_those_of_the_reference_library() {
        assert_eq!(
            signature("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
            "v1,c1RBmP+cjh2lpmdNEilk/q0SZtuzvIh/bCNRC+mQ5v0=",
        );
        assert_eq!(
            signature("whsec_//////////////////////////////////////////8="),
            "v1,zoZQRsdWTP8sZsTwqVH2J0yIuWpNW+qOpDoDlCfPTBs=",
        );
    }

    #[test]
    fn a_key_without_its_prefix_and_padding_signs_alike() {
        assert_eq!(
            signature("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"),
            signature("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        );
    }

    /// Computed with Python's `hmac`.
    #[test]
    fn older_signatures_are_hexadecimal_over_timestamp_and_body() {
        let [_, (name, signature)] = older(&"s3cret".to_owned().into(), TIMESTAMP, BODY.as_bytes()).unwrap();

        assert_eq!(name, "anthropic-signature");
        assert_eq!(signature, "bf75c625ade3f4373e537e7fc2f0f65ec7ba6833bd94bac91c264fa5789b96c1");
    }

    #[test]
    fn a_key_that_is_no_base64_is_refused() {
        for key in ["whsec_***", "whsec_", ""] {
            assert!(standard(&key.to_owned().into(), ID, TIMESTAMP, b"").is_err(), "{key:?}");
        }
    }
}
