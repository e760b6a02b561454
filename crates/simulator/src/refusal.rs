//! A refusal: an error answer in the API's envelope.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The status and the content of the envelope. The gate adds the id of the request.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
    code: Option<&'static str>,
    retry_after_seconds: Option<u64>,
}

impl Refusal {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Refusal {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Refusal { status, kind, message: message.into(), code: None, retry_after_seconds: None }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(400, "invalid_request_error", message)
    }

    pub(super) fn unauthenticated(message: &str) -> Refusal {
        Refusal::new(401, "authentication_error", message)
    }

    pub(super) fn not_found(what: &str) -> Refusal {
        Refusal::new(404, "not_found_error", format!("{what} was not found."))
    }

    pub(super) fn too_large() -> Refusal {
        Refusal::new(413, "request_too_large", "Request exceeds the maximum size")
    }

    pub(super) fn rate_limited(retry_after_seconds: u64) -> Refusal {
        let refusal = Refusal::new(429, "rate_limit_error", "This request would exceed your rate limit.");
        Refusal { retry_after_seconds: Some(retry_after_seconds), ..refusal }
    }

    pub(super) fn internal() -> Refusal {
        Refusal::new(500, "api_error", "Internal server error")
    }

    pub(super) fn overloaded() -> Refusal {
        Refusal::new(529, "overloaded_error", "Overloaded")
    }

    /// A refusal that the user of the simulator configured.
    pub(super) fn planned(
        status: u16,
        kind: &'static str,
        code: Option<&'static str>,
        retry_after_seconds: Option<u64>,
    ) -> Refusal {
        let message = format!("Refused on demand: {}", code.unwrap_or(kind));
        Refusal { code, retry_after_seconds, ..Refusal::new(status, kind, message) }
    }

    /// The envelope: `{"type":"error","error":{…},"request_id":…}`.
    pub(super) fn envelope(&self, request_id: &str) -> Value {
        let mut error = json!({"type": self.kind, "message": self.message});
        if let Some(code) = self.code {
            error["details"] = json!({"error_code": code});
        }
        json!({"type": "error", "error": error, "request_id": request_id})
    }

    /// The complete HTTP answer.
    pub(super) fn answer(&self, request_id: &str) -> Response {
        let mut response = (self.status, Json(self.envelope(request_id))).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Refusal {
    /// An empty answer that carries the refusal to the gate, which knows the id of the request.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Refusal {
    Refusal::not_found(uri.path())
}

pub(super) async fn no_such_method() -> Refusal {
    Refusal::new(405, "invalid_request_error", "Method Not Allowed")
}
