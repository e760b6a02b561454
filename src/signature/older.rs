//! The older scheme: two headers, and one signature in hexadecimal.

use axum::http::HeaderMap;
use secrecy::SecretSlice;

use crate::key_use::Fingerprint;

use super::{Rejection, Verified, fresh, must_be_on, must_match, once, sole};

/// Checks a delivery under the older scheme with those of `keys` that are not empty.
pub(super) fn verify(
    keys: &[SecretSlice<u8>],
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Verified, Rejection> {
    must_be_on(keys)?;
    let sent_at = once(sole(headers, &["anthropic-timestamp"])?);
    let signature = once(sole(headers, &["anthropic-signature"])?);

    let timestamp = fresh(sent_at, now)?;
    let signed = [sent_at.as_bytes(), b".", body];
    let fits = must_match(keys, &signed, hex_signature(signature).as_slice())?;
    let fits = fits.into_iter().map(Fingerprint::of_text).collect();
    Ok(Verified { webhook_id: None, timestamp, fits })
}

fn hex_signature(text: &str) -> Option<[u8; 32]> {
    // Each signature has only one valid spelling: lower case.
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    hex::decode(text).ok()?.try_into().ok()
}
