//! Signs a notification as Standard Webhooks says: over `id.timestamp.body`, once with each secret.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::Ed25519KeyPair;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// The standard alphabet, with or without padding, as secrets are copied from anywhere.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An ed25519 key as the libraries write it: the seed, and often the public key after it, in bytes.
const SEED_BYTES: usize = 32;

/// A secret that signs nothing. Its text is not part of the error.
#[derive(Debug, thiserror::Error)]
#[error("secret {0} of the endpoint is neither whsec_ nor whsk_ with the base64 of a key")]
pub(super) struct NoSecret(usize);

/// The header `webhook-signature`: a signature for each secret, in their order. `v1` is HMAC-SHA256, `v1a` is ed25519.
///
/// # Errors
/// [`NoSecret`] with the number of the first secret that is none.
pub(super) fn signatures(
    secrets: &SecretString,
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> Result<String, NoSecret> {
    let signed = [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body].concat();
    let each = secrets.expose_secret().split([' ', ',']).filter(|secret| !secret.is_empty());
    let signatures: Vec<String> = each
        .enumerate()
        .map(|(index, secret)| signature(secret, &signed).ok_or(NoSecret(index + 1)))
        .collect::<Result<_, _>>()?;
    if signatures.is_empty() { Err(NoSecret(1)) } else { Ok(signatures.join(" ")) }
}

fn signature(secret: &str, signed: &[u8]) -> Option<String> {
    if let Some(key) = secret.strip_prefix("whsec_") {
        let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64.decode(key).ok()?).ok()?;
        mac.update(signed);
        return Some(format!("v1,{}", BASE64.encode(mac.finalize().into_bytes())));
    }
    let key = BASE64.decode(secret.strip_prefix("whsk_")?).ok()?;
    let pair = match key.split_at_checked(SEED_BYTES)? {
        (seed, []) => Ed25519KeyPair::from_seed_unchecked(seed),
        (seed, public) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
    };
    Some(format!("v1a,{}", BASE64.encode(pair.ok()?.sign(signed))))
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};

    use super::*;

    fn signed(secrets: &str) -> Result<String, NoSecret> {
        signatures(&secrets.into(), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#)
    }

    #[test]
    fn the_example_of_the_standard_is_signed_as_it_says() {
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(), signature);
    }

    #[test]
    fn each_secret_signs_in_its_order() {
        let both =
            signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, whsec_c2Vjb25kIGtleSBzZWNvbmQga2V5IQ").unwrap();
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!(first, signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        assert_eq!(second, signed("whsec_c2Vjb25kIGtleSBzZWNvbmQga2V5IQ==").unwrap());
    }

    #[test]
    fn an_ed25519_key_signs_with_and_without_its_public_half() {
        let seed = [7; SEED_BYTES];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let whole = [&seed[..], pair.public_key().as_ref()].concat();
        let [short, long] =
            [&seed[..], &whole].map(|key| signed(&format!("whsk_{}", BASE64.encode(key))).unwrap());

        assert_eq!(short, long);
        let signature = BASE64.decode(short.strip_prefix("v1a,").unwrap()).unwrap();
        let key = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
        let text = br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#;
        key.verify(text, &signature).unwrap();
    }

    #[test]
    fn what_is_no_secret_is_named_by_its_place_and_never_shown() {
        for wrong in ["whsec_ßß", "whpk_AAAA", "canary", "whsk_AAAA", ""] {
            let secrets = format!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw {wrong}");
            match signed(&secrets) {
                Ok(_) => assert_eq!(wrong, ""),
                Err(error) => assert!(error.to_string().starts_with("secret 2 "), "{error}"),
            }
        }
        assert!(signed("").is_err());
    }
}
