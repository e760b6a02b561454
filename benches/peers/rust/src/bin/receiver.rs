//! The naive receiver in Rust: verify, insert, answer.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

#[derive(Clone)]
struct Receiver {
    pool: PgPool,
    key: Vec<u8>,
}

#[derive(Deserialize)]
struct Event {
    id: String,
    created_at: DateTime<Utc>,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "type")]
    kind: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let key = std::env::var("SIGNING_KEY")?;
    let receiver = Receiver {
        pool: PgPoolOptions::new().max_connections(20).connect(&std::env::var("DATABASE_URL")?).await?,
        key: STANDARD.decode(key.trim_start_matches("whsec_"))?,
    };
    let address = format!("127.0.0.1:{}", std::env::var("PORT")?);
    let listener = tokio::net::TcpListener::bind(address).await?;
    let router = Router::new().route("/webhook", post(receive)).with_state(receiver);
    Ok(axum::serve(listener, router).await?)
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if !is_verified(&receiver.key, &headers, &body) {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(event) = serde_json::from_slice::<Event>(&body) else { return StatusCode::BAD_REQUEST };
    let Ok(payload) = serde_json::from_slice::<&serde_json::value::RawValue>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let inserted = sqlx::query(
        "insert into event (id, type, created_at, payload) values ($1, $2, $3, $4) on conflict do nothing",
    )
    .bind(event.id)
    .bind(event.data.kind)
    .bind(event.created_at)
    .bind(sqlx::types::Json(payload))
    .execute(&receiver.pool)
    .await;
    if inserted.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn is_verified(key: &[u8], headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, sent_at) = (header("webhook-id"), header("webhook-timestamp"));
    let is_fresh =
        sent_at.parse::<i64>().is_ok_and(|sent_at| (Utc::now().timestamp() - sent_at).abs() <= 300);
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    for part in [id.as_bytes(), b".", sent_at.as_bytes(), b".", body] {
        mac.update(part);
    }
    is_fresh
        && header("webhook-signature").split(' ').any(|signature| {
            let given = signature.strip_prefix("v1,").and_then(|signature| STANDARD.decode(signature).ok());
            given.is_some_and(|given| mac.clone().verify_slice(&given).is_ok())
        })
}
