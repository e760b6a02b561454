//! `GET /messages/{id}/stream`: a message while it is being written, as server-sent events.
//!
//! Each event of the API is one event here, with `id: ATTEMPT:NUMBER`. A client that connects again with `Last-Event-ID` gets what
//! follows that one. Further events are ours: `attempt` begins a new attempt, and whoever shows text drops what the attempt before had said;
//! `final_message` has the whole answer, where its events are not there any more, and replaces what is shown; `done`, `failed` or
//! `cancelled` is the last. A client that connects again after that is answered 204, which tells an `EventSource` to stop.
//!
//! The endpoint is there only if a token is configured. It reads the database through connections of its own.

mod frames;
mod hub;
mod reader;

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::database::{self, Address};
use frames::Place;
use hub::Hub;
use reader::{Reader, Start};

/// How many readers there are at once at most. Each holds some 64 KiB while it reads.
const READERS_MAX: usize = 256;

/// How many connections their queries share.
const CONNECTIONS: u32 = 3;

/// The endpoint.
struct Endpoint {
    token: Token,
    pool: PgPool,
    hub: Arc<Hub>,
    places: Arc<Semaphore>,
    _primary: AbortOnDropHandle<()>,
}

/// The route of the endpoint, for whoever has this token.
///
/// # Errors
/// As for [`database::pool`].
pub(super) fn router(database_url: &Address, token: Token) -> Result<Router, database::Error> {
    let pool = database::pool(&database_url.now(), "restante-worker readers", CONNECTIONS)?;
    let primary = database::keep_at(&pool, database_url)?;
    let endpoint = Endpoint {
        token,
        hub: Hub::new(database_url.clone(), pool.clone()),
        pool,
        places: Arc::new(Semaphore::new(READERS_MAX)),
        _primary: primary,
    };
    Ok(Router::new().route("/messages/{id}/stream", get(stream)).with_state(Arc::new(endpoint)))
}

async fn stream(
    State(endpoint): State<Arc<Endpoint>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !endpoint.token.is_in(&headers) {
        let asks = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, asks, "the token of RESTANTE_STREAM_TOKEN is needed\n")
            .into_response();
    }
    let not_found = || (StatusCode::NOT_FOUND, "there is no such message\n").into_response();
    let Ok(id) = id.parse::<i64>() else { return not_found() };
    let Ok(place) = Arc::clone(&endpoint.places).try_acquire_owned() else {
        return unavailable("there are as many readers as may be at once\n");
    };
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(Place::read);
    match Reader::start(endpoint.pool.clone(), &endpoint.hub, id, last, place).await {
        Ok(Start::Reads(reader)) => {
            let frames = stream::unfold(reader, |mut reader| async {
                let frames = reader.next().await?;
                Some((Ok::<_, std::convert::Infallible>(frames), reader))
            });
            let headers = [
                (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            // A proxy such as nginx would otherwise collect the events before it passes them on.
            (headers, [("x-accel-buffering", "no")], Body::from_stream(frames)).into_response()
        }
        Ok(Start::HasSeenTheEnd) => StatusCode::NO_CONTENT.into_response(),
        Ok(Start::NoSuchMessage) => not_found(),
        Err(error) => {
            let error = database::told(&error);
            tracing::warn!(message = id, error, "a message cannot be read along");
            unavailable("the database does not answer\n")
        }
    }
}

fn unavailable(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "2")], why).into_response()
}

/// The token that readers show. Only what it becomes under a random key is kept, and compared in constant time. Another one may take
/// its place; clones are the same.
#[derive(Clone)]
pub(super) struct Token {
    mac: Hmac<Sha256>,
    expected: Arc<RwLock<Vec<u8>>>,
}

impl Token {
    pub(super) fn new(token: &SecretString) -> Self {
        let mac = Hmac::<Sha256>::new(&rand::random::<[u8; 64]>().into());
        let expected = Arc::new(RwLock::new(under(&mac, token)));
        Self { mac, expected }
    }

    /// From now on only this one is taken. Returns whether it is another one.
    pub(super) fn replace(&self, token: &SecretString) -> bool {
        let new = under(&self.mac, token);
        let mut expected = self.expected.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *expected, new.clone()) != new
    }

    /// Is it there, as `Authorization: Bearer TOKEN`?
    fn is_in(&self, headers: &HeaderMap) -> bool {
        const SCHEME: &[u8] = b"bearer ";
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let Some((scheme, token)) = given.and_then(|given| given.split_at_checked(SCHEME.len())) else {
            return false;
        };
        let expected = self.expected.read().unwrap_or_else(PoisonError::into_inner);
        scheme.eq_ignore_ascii_case(SCHEME)
            && self.mac.clone().chain_update(token.trim_ascii()).verify_slice(&expected).is_ok()
    }
}

fn under(mac: &Hmac<Sha256>, token: &SecretString) -> Vec<u8> {
    mac.clone().chain_update(token.expose_secret().as_bytes()).finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whoever_shows_the_token_is_let_in() {
        let token = Token::new(&"a-token-of-24-characters".into());
        let is_in = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            token.is_in(&headers)
        };

        assert!(is_in("Bearer a-token-of-24-characters"));
        assert!(is_in("bearer  a-token-of-24-characters"));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer a-token-of-24-character",
            "Basic a-token-of-24-characters",
            "a-token-of-24-characters",
        ] {
            assert!(!is_in(wrong), "{wrong}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
    }
}
