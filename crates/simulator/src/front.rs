//! The front door of several workspaces: the key of a request decides which of them answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use tower::ServiceExt;

use super::gate;

/// The endpoints of all workspaces: those of the key that a request has, else those of the first.
#[derive(Clone)]
pub(super) struct Workspaces {
    first: Router,
    others: Arc<[(SecretString, Router)]>,
}

impl Workspaces {
    pub(super) fn router(first: Router, others: Vec<(SecretString, Router)>) -> Router {
        if others.is_empty() {
            return first;
        }
        Router::new().fallback(answer).with_state(Self { first, others: others.into() })
    }
}

async fn answer(State(workspaces): State<Workspaces>, request: Request) -> Response {
    let of_key = gate::keys(request.headers()).find_map(|key| {
        workspaces.others.iter().find(|(other, _)| other.expose_secret() == key).map(|(_, router)| router)
    });
    let router = of_key.unwrap_or(&workspaces.first).clone();
    router.oneshot(request).await.into_response()
}
