//! The call that creates a batch, and what can go wrong with it: an answer that is lost, and a batch that comes up late.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Uri};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::app::App;
use super::batch::Requests;
use super::batches::{begin, read_requests};
use super::faults::Faults;
use super::flags::duration;
use super::gate;
use super::held::held;
use super::line::Line;
use super::refusal::Refusal;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mishap {
    cut_request_bytes: Option<u64>,
    cut_answer_bytes: Option<u64>,
    late: Option<Duration>,
}

impl Mishap {
    /// The one that the faults plan for this call, which is counted.
    fn take(faults: &mut Faults) -> Mishap {
        let mishap = Mishap {
            cut_request_bytes: faults.create_cut_request_bytes,
            cut_answer_bytes: faults.create_cut_answer_bytes,
            late: faults.create_late_milliseconds.map(Duration::from_millis),
        };
        if mishap != Mishap::default() {
            faults.create_mishaps = faults.create_mishaps.saturating_sub(1);
            if faults.create_mishaps == 0 {
                faults.create_cut_request_bytes = None;
                faults.create_cut_answer_bytes = None;
                faults.create_late_milliseconds = None;
                faults.create_mishaps = 1;
            }
        }
        mishap
    }
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/messages/batches", post(create))
}

async fn create(
    State(app): State<Arc<App>>,
    ConnectInfo(line): ConnectInfo<Line>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let mishap = Mishap::take(&mut held(&app.faults));
    let body = match mishap.cut_request_bytes {
        None => body,
        Some(bytes) => match read_before(body, bytes).await {
            Some(whole) => Body::from(whole),
            None => {
                line.cut_after(0);
                return Ok(Json(json!({})));
            }
        },
    };
    let bytes = gate::body(uri.path(), body).await?;
    let version = gate::text(&headers, "anthropic-version").unwrap_or_default();
    let requests = Requests::Posted(read_requests(&bytes, version)?);
    let (age, lasts) = (duration(app.settings.batch_age_seconds), lasts(&app));
    if let Some(late) = mishap.late {
        line.cut_after(0);
        app.later(late, move |app| _ = begin(app, &headers, requests, age, lasts));
        return Ok(Json(json!({})));
    }
    if let Some(bytes) = mishap.cut_answer_bytes {
        line.cut_after(bytes);
    }
    Ok(Json(begin(&app, &headers, requests, age, lasts)))
}

/// How long the batch that is about to be created takes.
fn lasts(app: &App) -> Duration {
    let faults = app.faults();
    let number = held(&app.batches).created() + 1;
    let is_slow = faults.slow_batch_every > 0 && number.is_multiple_of(faults.slow_batch_every);
    duration(if is_slow { faults.slow_batch_seconds } else { app.settings.batch_seconds })
}

/// The whole body if it ends before so many bytes, or `None` if it does not: then that is where it is cut.
async fn read_before(body: Body, bytes: u64) -> Option<Bytes> {
    let mut pieces = body.into_data_stream();
    let mut read = Vec::new();
    while let Some(Ok(piece)) = pieces.next().await {
        read.extend_from_slice(&piece);
        if read.len() as u64 >= bytes {
            return None;
        }
    }
    Some(read.into())
}
