//! What can go wrong with a call that sends events to a session, once the session has them: its answer does not come.

use axum::http::Method;
use axum::response::Response;

use super::app::App;
use super::faults::{Faults, Mishap};
use super::held::held;
use super::line::Line;
use super::refusal::Refusal;
use super::refusals::is_send;

/// The mishap that the faults plan for this call, which is counted.
fn take(faults: &mut Faults) -> Option<Mishap> {
    let mishap = faults.send_mishap?;
    faults.send_mishaps = faults.send_mishaps.saturating_sub(1);
    if faults.send_mishaps == 0 {
        (faults.send_mishap, faults.send_mishaps) = (None, 1);
    }
    Some(mishap)
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
    let mishap = take(&mut held(&app.faults));
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
