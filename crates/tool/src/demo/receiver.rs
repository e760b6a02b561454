//! The receiver of the demo's notifications: a small server, as a user would write one.
//!
//! It verifies with the official library of Standard Webhooks, which shares no code with the worker that signs.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::PgConnection;
use standardwebhooks::{HEADER_WEBHOOK_ID, Webhook};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::PATIENCE;

/// A notification whose signature the library has verified.
#[derive(Debug, PartialEq)]
pub(super) struct Notification {
    /// Its header `webhook-id`, the same at every attempt.
    pub(super) id: String,
    /// Its body, byte for byte.
    pub(super) body: String,
}

/// A server that takes notifications. It ends when this is dropped.
pub(super) struct Receiver {
    url: Url,
    arrived: UnboundedReceiver<Result<Notification, String>>,
    _serving: AbortOnDropHandle<()>,
}

/// What the server knows.
struct Door {
    webhook: Webhook,
    arrived: UnboundedSender<Result<Notification, String>>,
}

impl Receiver {
    /// Starts the server on a free port of this machine.
    ///
    /// # Errors
    /// If the text is no secret of Standard Webhooks, or no port is free.
    pub(super) async fn start(secret: &SecretString) -> anyhow::Result<Receiver> {
        let webhook = Webhook::new(secret.expose_secret())
            .context("the text for the receiver is no secret of Standard Webhooks")?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port is free for the receiver")?;
        let url = format!("http://{}/answers", listener.local_addr()?).parse()?;
        let (sender, arrived) = mpsc::unbounded_channel();
        let door = Arc::new(Door { webhook, arrived: sender });
        let app = Router::new().route("/answers", post(take)).with_state(door);
        let serving = tokio::spawn(async move {
            // It goes on after an error, such as too many open files.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Receiver { url, arrived, _serving: AbortOnDropHandle::new(serving) })
    }

    /// Where notifications are to be sent.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Adds the receiver to the endpoints, as an operator does. It gets callbacks and no other events.
    ///
    /// # Errors
    /// If the statement fails.
    pub(super) async fn add_as_endpoint(
        &self,
        connection: &mut PgConnection,
        secret: &SecretString,
    ) -> sqlx::Result<()> {
        sqlx::query(
            "insert into restante.endpoint (name, url, secret, event_types) values ('receiver', $1, $2, '{}')",
        )
        .bind(self.url.as_str())
        .bind(secret.expose_secret())
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Waits for the next notification.
    ///
    /// # Errors
    /// If it is not signed as it should be, or none comes within a minute.
    pub(super) async fn next(&mut self) -> anyhow::Result<Notification> {
        match timeout(PATIENCE, self.arrived.recv()).await {
            Ok(Some(Ok(notification))) => Ok(notification),
            Ok(Some(Err(fault))) => bail!("the receiver refused a notification: {fault}"),
            Ok(None) => Err(anyhow!("the receiver has ended")),
            Err(_) => Err(anyhow!("no notification came within {} s", PATIENCE.as_secs())),
        }
    }
}

async fn take(State(door): State<Arc<Door>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let notification = verified(&door.webhook, &headers, &body);
    let status = if notification.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::BAD_REQUEST };
    // Nobody listens any more while the demo ends.
    let _ = door.arrived.send(notification);
    status
}

fn verified(webhook: &Webhook, headers: &HeaderMap, body: &[u8]) -> Result<Notification, String> {
    webhook.verify(body, headers).map_err(|error| error.to_string())?;
    let id = headers.get(HEADER_WEBHOOK_ID).and_then(|id| id.to_str().ok());
    let body = String::from_utf8(body.to_vec()).map_err(|error| error.to_string())?;
    Ok(Notification { id: id.unwrap_or_default().to_owned(), body })
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use standardwebhooks::{HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP};

    use super::*;

    fn signed(webhook: &Webhook, id: &str, at: i64, body: &str) -> HeaderMap {
        let signature = webhook.sign(id, at, body.as_bytes()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(HEADER_WEBHOOK_ID, id.parse().unwrap());
        headers.insert(HEADER_WEBHOOK_TIMESTAMP, at.into());
        headers.insert(HEADER_WEBHOOK_SIGNATURE, signature.parse().unwrap());
        headers
    }

    #[test]
    fn only_what_was_signed_with_its_own_secret_just_now_and_arrives_unchanged_is_taken() {
        let ours = Webhook::from_bytes(vec![1; 32]).unwrap();
        let (now, body) = (Utc::now().timestamp(), r#"{"type":"message.completed"}"#);
        let headers = signed(&ours, "ntf_1", now, body);

        let taken = verified(&ours, &headers, body.as_bytes());

        assert_eq!(taken, Ok(Notification { id: "ntf_1".to_owned(), body: body.to_owned() }));
        let other = Webhook::from_bytes(vec![2; 32]).unwrap();
        for (headers, body) in [
            (headers, r#"{"type":"message.completed" }"#),
            (signed(&other, "ntf_1", now, body), body),
            (signed(&ours, "ntf_1", now - 3600, body), body),
            (HeaderMap::new(), body),
        ] {
            assert!(verified(&ours, &headers, body.as_bytes()).is_err(), "{headers:?} {body}");
        }
    }
}
