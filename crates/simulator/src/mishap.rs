//! What can go wrong with a call that sends events to a session, once the session has them: its answer does not come.

use axum::http::Method;
use axum::response::Response;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::app::App;
use super::faults::Faults;
use super::held::held;
use super::line::Line;
use super::refusal::Refusal;

/// What becomes of the answer to a call whose events the session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mishap {
    /// The connection is cut before it.
    Lost,
    /// It never comes, and the connection stays open.
    Silence,
    /// It is 500 `api_error`.
    Error,
}

impl Mishap {
    /// The one that the faults plan for this call, which is counted.
    fn take(faults: &mut Faults) -> Option<Mishap> {
        let mishap = faults.send_mishap?;
        faults.send_mishaps = faults.send_mishaps.saturating_sub(1);
        if faults.send_mishaps == 0 {
            (faults.send_mishap, faults.send_mishaps) = (None, 1);
        }
        Some(mishap)
    }
}

/// The answer to a request, or what its mishap makes of it.
pub(super) async fn suffered(
    app: &App,
    method: &Method,
    path: &str,
    line: Option<&Line>,
    answer: Response,
) -> Result<Response, Refusal> {
    if !is_send(method, path) || !answer.status().is_success() {
        return Ok(answer);
    }
    let mishap = Mishap::take(&mut held(&app.faults));
    match mishap {
        None => Ok(answer),
        Some(Mishap::Error) => Err(Refusal::internal()),
        // Until the client or the simulator ends.
        Some(Mishap::Silence) => std::future::pending().await,
        Some(Mishap::Lost) => {
            if let Some(line) = line {
                line.cut_after(0);
            }
            Ok(answer)
        }
    }
}

/// Does this call send events to a session?
pub(super) fn is_send(method: &Method, path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    method == Method::POST && matches!(parts.as_slice(), ["v1", "sessions", _, "events"])
}
