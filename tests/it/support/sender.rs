//! The sender of webhooks: signs deliveries with plain HMAC, and posts them.
//!
//! It shares no code with the checks of ingest or with the simulator: a mistake in shared code would go unnoticed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::HeaderMap;
use serde_json::json;
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The key of the Standard Webhooks scheme, without `whsec_` and base64.
const KEY: &[u8] = b"a key of 32 bytes that signs all";
/// The secret of the older scheme.
pub const WEBHOOK_SECRET: &str = "raw-secret-of-the-older-scheme";

/// The key of the Standard Webhooks scheme, as in the variable of ingest.
pub fn signing_key() -> String {
    signing_key_of(KEY)
}

/// Any key of the Standard Webhooks scheme as ingest is told it.
pub fn signing_key_of(key: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(key))
}

/// The time for the timestamps of deliveries.
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// One signed request that carries an event.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Delivery {
    /// By the Standard Webhooks scheme, stamped now.
    pub fn new(event_id: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::stamped(event_id, &now_seconds().to_string(), body)
    }

    /// By the Standard Webhooks scheme, stamped now, with this key.
    pub fn signed_with(key: &[u8], event_id: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::signed(key, event_id, &now_seconds().to_string(), body.into())
    }

    /// By the Standard Webhooks scheme, with this timestamp.
    pub fn stamped(event_id: &str, timestamp: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::signed(KEY, event_id, timestamp, body.into())
    }

    fn signed(key: &[u8], event_id: &str, timestamp: &str, body: Vec<u8>) -> Self {
        let signed = [event_id.as_bytes(), b".", timestamp.as_bytes(), b".", &body].concat();
        let signature = format!("v1,{}", STANDARD.encode(hmac(key, &signed)));
        let headers = vec![
            ("webhook-id", event_id.to_owned()),
            ("webhook-timestamp", timestamp.to_owned()),
            ("webhook-signature", signature),
        ];
        Self { headers, body }
    }

    /// By the older scheme, with this timestamp.
    pub fn older_stamped(timestamp: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::older_signed(WEBHOOK_SECRET, timestamp, body.into())
    }

    /// By the older scheme, stamped now, with this secret.
    pub fn older_with(secret: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::older_signed(secret, &now_seconds().to_string(), body.into())
    }

    fn older_signed(secret: &str, timestamp: &str, body: Vec<u8>) -> Self {
        let signed = [timestamp.as_bytes(), b".", &body].concat();
        let signature = hex::encode(hmac(secret.as_bytes(), &signed));
        let headers = vec![("anthropic-timestamp", timestamp.to_owned()), ("anthropic-signature", signature)];
        Self { headers, body }
    }

    /// By the older scheme, stamped now.
    pub fn older(body: impl Into<Vec<u8>>) -> Self {
        Self::older_stamped(&now_seconds().to_string(), body)
    }

    /// An event in the official envelope.
    pub fn event(event_id: &str, event_type: &str, key: &str) -> Self {
        Self::new(event_id, envelope(event_id, event_type, key))
    }

    /// The bytes of the request, which asks to close the connection afterwards.
    pub fn to_http(&self, path: &str) -> Vec<u8> {
        let mut request = format!("POST {path} HTTP/1.1\r\nhost: restante\r\nconnection: close\r\n");
        for (name, value) in &self.headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n", self.body.len());
        [request.as_bytes(), &self.body].concat()
    }
}

/// The body of an event in the official envelope.
pub fn envelope(event_id: &str, event_type: &str, key: &str) -> String {
    let data =
        json!({ "type": event_type, "id": key, "organization_id": "org_1", "workspace_id": "wrkspc_1" });
    let event =
        json!({ "type": "event", "id": event_id, "created_at": "2026-11-01T12:00:00Z", "data": data });
    event.to_string()
}

fn hmac(key: &[u8], signed: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(signed);
    mac.finalize().into_bytes().to_vec()
}

/// An answer to a delivery.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
}

/// Posts deliveries to an ingest whose address can change. Clones share the address.
#[derive(Clone, Debug)]
pub struct Sender {
    client: reqwest::Client,
    address: Arc<Mutex<SocketAddr>>,
}

impl Sender {
    pub fn to(address: SocketAddr) -> Self {
        Self { client: client(), address: Arc::new(Mutex::new(address)) }
    }

    /// A sender that opens a connection for every delivery. A kept connection can be used at the very moment at which ingest
    /// closes it for lack of room, and with HTTP/1.1 the only remedy is another attempt.
    pub fn without_kept_connections(address: SocketAddr) -> Self {
        let client = client_builder().pool_max_idle_per_host(0).build().unwrap();
        Self { client, address: Arc::new(Mutex::new(address)) }
    }

    /// From now on deliveries go to this address.
    pub fn moved_to(&self, address: SocketAddr) {
        *self.address.lock().unwrap() = address;
    }

    /// Posts a delivery. Returns the answer, or `None` if the connection was refused or broke off.
    pub async fn post(&self, delivery: &Delivery) -> Option<Answer> {
        self.post_at("/webhooks/anthropic", delivery).await
    }

    pub async fn post_at(&self, path: &str, delivery: &Delivery) -> Option<Answer> {
        let address = *self.address.lock().unwrap();
        let mut request = self.client.post(format!("http://{address}{path}")).body(delivery.body.clone());
        for (name, value) in &delivery.headers {
            request = request.header(*name, value);
        }
        let answer = request.send().await.ok()?;
        Some(Answer { status: answer.status().as_u16(), headers: answer.headers().clone() })
    }

    /// Posts a delivery, which has to be answered, and returns the status.
    pub async fn status(&self, delivery: &Delivery) -> u16 {
        self.post(delivery).await.expect("an answer").status
    }

    /// Signs and posts an event until ingest accepts it, as the API does. Returns how many deliveries failed.
    pub async fn insist(&self, event_id: &str, event_type: &str, key: &str) -> u32 {
        const ATTEMPTS_MAX: u32 = 10_000;
        for in_vain in 0..ATTEMPTS_MAX {
            let answer = self.post(&Delivery::event(event_id, event_type, key)).await;
            if answer.is_some_and(|answer| (200..300).contains(&answer.status)) {
                return in_vain;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{event_id} was never accepted");
    }

    /// Sends bytes as they are and returns the status, or 0 if no answer came.
    pub async fn raw(&self, request: &[u8]) -> u16 {
        let address = *self.address.lock().unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // An answer that came before a reset counts too.
        let _ = stream.read_to_end(&mut answer).await;
        let line = String::from_utf8_lossy(&answer);
        line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

/// A client that follows no redirect and uses no proxy.
pub fn client() -> reqwest::Client {
    client_builder().build().unwrap()
}

fn client_builder() -> reqwest::ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_secs(30))
}
