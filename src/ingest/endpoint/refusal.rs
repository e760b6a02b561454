//! Why a request does not lead to a committed event, and what whoever sent it is told.

use axum::http::header::{ALLOW, CONNECTION, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::ingest::PROBE_HEADER;
use crate::ingest::accept::CLOSE;
use crate::ingest::body::NotRead;
use crate::ingest::commit::NotStored;
use crate::signature::{Diagnosis, Rejection};

/// How long a sender should wait after a 503, in seconds: the shortest pause that the API makes by itself.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// Why a request does not lead to a committed event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// No endpoint has its path.
    NotFound,
    /// The endpoint does not take its method.
    WrongMethod,
    NotRead(NotRead),
    Unverified(Rejection, Diagnosis),
    /// A valid delivery that says that it is a probe. It is no 2xx, because nothing is stored.
    Probe,
    NotStored(NotStored),
}

impl From<NotRead> for Refusal {
    fn from(not_read: NotRead) -> Self {
        Refusal::NotRead(not_read)
    }
}

impl From<NotStored> for Refusal {
    fn from(not_stored: NotStored) -> Self {
        Refusal::NotStored(not_stored)
    }
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::NotRead(NotRead::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::NotRead(NotRead::Slow) => StatusCode::REQUEST_TIMEOUT,
            Refusal::NotRead(NotRead::Broken) => StatusCode::BAD_REQUEST,
            Refusal::Unverified(..) => StatusCode::UNAUTHORIZED,
            Refusal::Probe => StatusCode::CONFLICT,
            Refusal::NotRead(NotRead::NoRoom) | Refusal::NotStored(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer: a status, and at most how to send the next request. A sender learns nothing else.
    pub(super) fn answer(self) -> Response {
        let status = self.status();
        let mut response = status.into_response();
        let headers = response.headers_mut();
        match self {
            Refusal::WrongMethod => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            }
            // It is unknown where the next request would begin.
            Refusal::NotRead(_) => {
                headers.insert(CONNECTION, CLOSE);
            }
            Refusal::Probe => {
                headers.insert(PROBE_HEADER, HeaderValue::from_static("verified"));
            }
            Refusal::NotFound | Refusal::Unverified(..) | Refusal::NotStored(_) => {}
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }

    /// What was wrong as far as a closer look has found, for the log and for `restante.refusal`.
    pub(super) fn closer_reason(self) -> &'static str {
        match self {
            Refusal::Unverified(_, diagnosis) => diagnosis.reason(),
            _ => self.reason(),
        }
    }

    /// What the check found, for metrics.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Refusal::NotFound => "not_found",
            Refusal::WrongMethod => "wrong_method",
            Refusal::NotRead(NotRead::TooLarge) => "too_large",
            Refusal::NotRead(NotRead::Slow) => "slow",
            Refusal::NotRead(NotRead::Broken) => "broken",
            Refusal::NotRead(NotRead::NoRoom) => "large_bodies",
            Refusal::Unverified(rejection, _) => rejection.reason(),
            Refusal::Probe => "probe",
            Refusal::NotStored(not_stored) => not_stored.reason(),
        }
    }
}
