//! Signed deliveries, made before the clock starts.

use std::net::SocketAddr;

use base64::Engine;
use chrono::{SecondsFormat, Utc};
use restante_simulator::sign;
use secrecy::SecretString;

/// The key that every receiver gets.
pub(crate) fn signing_key() -> String {
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode([7; 32]))
}

/// A key that no receiver has.
pub(crate) fn key_of_another() -> String {
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode([8; 32]))
}

/// HTTP requests for receivers at `address`, each with its own event and a body of about 400 bytes. If `keyed`, each event has
/// its own key, otherwise none.
pub(crate) fn requests(
    address: SocketAddr,
    path: &str,
    count: usize,
    keyed: bool,
) -> anyhow::Result<Vec<Request>> {
    let key = SecretString::from(signing_key());
    let run = rand::random::<u32>();
    (0..count)
        .map(|number| {
            let now = Utc::now();
            let id = format!("event_01{run:08x}{number:012}");
            let session = format!("sesn_01{run:08x}{number:012}");
            let at = now.to_rfc3339_opts(SecondsFormat::Micros, true);
            let body = body(&id, &at, keyed.then_some(session.as_str()));
            let headers = sign::standard(&key, &id, now.timestamp(), body.as_bytes())?;
            let mut head =
                format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
            Ok(Request { id, bytes: (head + &body).into_bytes() })
        })
        .collect()
}

/// One delivery.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The event that it carries.
    pub id: String,
    /// The bytes of the whole request.
    pub bytes: Vec<u8>,
}

/// The text of an event as the API sends it, a little longer than most.
pub(crate) fn body(id: &str, created_at: &str, key: Option<&str>) -> String {
    let resource = key.map(|key| format!(r#""id":"{key}","#)).unwrap_or_default();
    format!(
        concat!(
            r#"{{"type":"event","id":"{id}","created_at":"{at}","data":{{"type":"bench.event",{resource}"#,
            r#""organization_id":"8a3d2f1e-0000-4000-8000-00000000abcd","#,
            r#""workspace_id":"wrkspc_01JwQvzr7rXLA5AGx3HKfFUJ","#,
            r#""note":"what happened, in as many words as make the body of this event as long as an event with a few "#,
            r#"more fields than those which every event has would be"}}}}"#
        ),
        id = id,
        at = created_at,
        resource = resource,
    )
}
