//! What senders send: deliveries with a valid signature, as the bytes of a request.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub(super) const NOW: i64 = 1_793_534_400;
pub(super) const KEY: &[u8] = b"the 24-byte key of tests";

pub(super) fn body(id: &str) -> String {
    format!(r#"{{"type":"event","id":"{id}","data":{{"type":"session.status_idled","id":"sesn_1"}}}}"#)
}

/// The three signature headers for `body`, each with its line end.
pub(super) fn signature(body: &[u8]) -> String {
    signature_by(KEY, "webhook", body)
}

/// The signature headers by a key; their names begin with `prefix`.
pub(super) fn signature_by(key: &[u8], prefix: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("whe_header.{NOW}.").as_bytes());
    mac.update(body);
    let signature =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, mac.finalize().into_bytes());
    format!("{prefix}-id: whe_header\r\n{prefix}-timestamp: {NOW}\r\n{prefix}-signature: v1,{signature}\r\n")
}

/// A signed delivery; `more` are further header lines.
pub(super) fn delivery_with(path: &str, body: &[u8], more: &str) -> Vec<u8> {
    let signature = signature(body);
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: restante\r\n{signature}content-length: {length}\r\n{more}\r\n"
    );
    [head.as_bytes(), body].concat()
}

pub(super) fn delivery(id: &str) -> Vec<u8> {
    delivery_with("/webhooks/anthropic", body(id).as_bytes(), "")
}

/// A signed delivery of `id` whose length headers and body are `framed`, valid or not.
pub(super) fn framed(id: &str, framed: &str) -> String {
    format!("POST /webhook HTTP/1.1\r\nhost: restante\r\n{}{framed}", signature(body(id).as_bytes()))
}
