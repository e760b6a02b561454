//! The errors of requests, classified by whose fault they are.
//!
//! Statuses and headers are interpreted here and nowhere else. What the API says is passed on shortened, without
//! control characters, and without the key if the API repeats it, so that it can go into a log and a column. Nothing
//! depends on the text of a message: it is not stable.

use std::fmt;
use std::time::Duration;

use chrono::Utc;
use reqwest::Response;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::keys::Secrets;
use super::retry_after::retry_after;

/// How much is read of the body of an answer.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How much is kept of each text in the body.
const TEXT_CHARS_MAX: usize = 300;

/// Codes that say that the API does not serve the account, whatever the status. Waiting does not help.
const ACCOUNT_CODES: [&str; 4] = [
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
    "organization_on_hold",
    "cmek_key_disabled",
];

/// The `error.type` of the API for an object that does not exist.
const NOT_FOUND: &str = "not_found_error";

/// Why a request gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refuses requests like this one (400, 405, 413, 422, 423, other 4xx). We choose the form of all requests,
    /// so the fault is in our settings, our account or something between us and the API, and never in the object that
    /// was asked for.
    #[error("the API refused the request: {0}")]
    Refused(Box<Answer>),
    /// The key or the account is at fault, not the request (401, 402, 403, a spend limit). The operator has to fix it.
    #[error("the API does not serve this key or account: {0}")]
    Account(Box<Answer>),
    /// Too many requests (429).
    #[error("the API asks for fewer requests: {answer}")]
    RateLimited {
        /// The wait that the API asks for, at most an hour.
        retry_after: Option<Duration>,
        /// What it said.
        answer: Box<Answer>,
    },
    /// The object does not exist, not yet, or not for this key (404, 410); the API does not say which. This error comes
    /// from the API only: a 404 of another server is [`Error::Refused`].
    #[error("the API does not find it: {0}")]
    NotFound(Box<Answer>),
    /// The API cannot answer now (408, 409, 5xx).
    #[error("the API cannot answer now: {answer}")]
    Unavailable {
        /// The wait that the API asks for, at most an hour.
        retry_after: Option<Duration>,
        /// What it said.
        answer: Box<Answer>,
    },
    /// The answer was a redirect, which is never followed.
    #[error("the answer was a redirect ({status}), which is not followed: the base URL is probably wrong")]
    Redirected {
        /// The HTTP status.
        status: u16,
    },
    /// No connection, a timeout, or a connection that broke. The text contains no URL.
    #[error("the connection to the API failed")]
    Transport(#[source] reqwest::Error),
    /// A success with another content than expected, such as a page of HTML: another server may answer in the API's
    /// place.
    #[error("the answer is not {promised}")]
    Malformed {
        /// What it should have been.
        promised: &'static str,
    },
    /// The URL is outside the configured origin, so the request was not sent.
    #[error("the URL is not of the API's origin")]
    ForeignOrigin,
    /// The id is empty, consists of dots, or has control characters: it cannot name anything.
    #[error("the id cannot be part of a URL")]
    BadId,
    /// The body to be sent cannot be written as JSON, so the request was not sent.
    #[error("the body cannot be written as JSON")]
    NotJson(#[source] serde_json::Error),
    /// The settings cannot work.
    #[error("{0}")]
    Settings(&'static str),
    /// The path is below `/v1/organizations/`, which the API shows to an Admin key only, and the client has none. The
    /// request was not sent.
    #[error("no Admin key is configured")]
    NoAdminKey,
    /// The account of the event is not configured, so there is no key. The request was not sent.
    #[error("{said}")]
    NotConfigured {
        /// Which account, and what to do.
        said: String,
        /// This is the first such error since the accounts were configured.
        is_first: bool,
    },
    /// The limit of the API has no place for the request now, so it was not sent.
    #[error("the API's limit leaves no place for the call now")]
    OutOfTurn {
        /// How long to wait before the next try.
        wait: Duration,
    },
    /// The API is in trouble, or does not answer about this very object, so the request was not sent.
    #[error("not asked again yet: {said}")]
    NotAsked {
        /// How long to wait before the next try.
        wait: Duration,
        /// The kind of the last error.
        kind: &'static str,
        /// The text of the last error.
        said: String,
        /// This is the first such error since the trouble began.
        is_first: bool,
    },
}

impl Error {
    /// Is something wrong with us, with the API or with the way to it, and not with the object that was asked for?
    pub fn is_trouble(&self) -> bool {
        match self {
            Error::Refused(_)
            | Error::Account(_)
            | Error::RateLimited { .. }
            | Error::Unavailable { .. }
            | Error::Redirected { .. }
            | Error::Transport(_)
            | Error::Malformed { .. }
            | Error::Settings(_)
            | Error::NoAdminKey
            | Error::NotConfigured { .. } => true,
            Error::NotFound(_)
            | Error::ForeignOrigin
            | Error::BadId
            | Error::NotJson(_)
            | Error::OutOfTurn { .. }
            | Error::NotAsked { .. } => false,
        }
    }

    /// Does the API refuse the very content that it was sent? Where an application wrote the content, nothing is wrong with us.
    pub fn is_of_content(&self) -> bool {
        match self {
            // A gateway's own refusal has no kind, and a code names a fault of the workspace or of the form of the request.
            Error::Refused(answer) => {
                matches!(answer.status, 400 | 413 | 422) && answer.code.is_none() && answer.kind.is_some()
            }
            _ => false,
        }
    }

    /// The wait that the API asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::RateLimited { retry_after, .. } | Error::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What the operator should do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Error::Account(_) => {
                "give a valid key of the workspace whose webhooks arrive here: ANTHROPIC_API_KEY, or that of the account"
            }
            Error::RateLimited { .. }
            | Error::Unavailable { .. }
            | Error::OutOfTurn { .. }
            | Error::NotAsked { .. } => "try again in a while",
            Error::Transport(_) => "check ANTHROPIC_BASE_URL, and that this machine may connect to it",
            Error::Refused(_) => {
                "read what the API says, and check the account, ANTHROPIC_VERSION, ANTHROPIC_BETA and ANTHROPIC_BASE_URL"
            }
            Error::NoAdminKey => "give the account an Admin key of its organization",
            Error::NotConfigured { .. } => "configure the account, or cancel what waits for it",
            _ => "check ANTHROPIC_BASE_URL and ANTHROPIC_VERSION",
        }
    }

    /// The kind of error: one word to group by.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Refused(_) => "refused_by_api",
            Error::Account(_) => "account",
            Error::RateLimited { .. } => "rate_limited",
            Error::NotFound(_) => "not_found",
            Error::Unavailable { .. } => "unavailable",
            Error::Redirected { .. } => "redirected",
            Error::Transport(_) => "transport",
            Error::Malformed { .. } => "malformed",
            Error::ForeignOrigin | Error::BadId => "bad_id",
            Error::NotJson(_) => "not_json",
            Error::Settings(_) => "settings",
            Error::NoAdminKey => "no_admin_key",
            Error::NotConfigured { .. } => "not_configured",
            Error::OutOfTurn { .. } => "out_of_turn",
            Error::NotAsked { kind, .. } => kind,
        }
    }

    /// Does it say that the API has not taken the request, even if it had read all of it?
    pub(super) fn denies_arrival(&self) -> bool {
        match self {
            // 408 and 409 are among these, and a 5xx may come from something in between.
            Error::Unavailable { .. } | Error::Transport(_) | Error::Malformed { .. } => false,
            Error::Refused(_)
            | Error::Account(_)
            | Error::RateLimited { .. }
            | Error::NotFound(_)
            | Error::Redirected { .. }
            | Error::ForeignOrigin
            | Error::BadId
            | Error::NotJson(_)
            | Error::Settings(_)
            | Error::NoAdminKey
            | Error::NotConfigured { .. }
            | Error::OutOfTurn { .. }
            | Error::NotAsked { .. } => true,
        }
    }

    pub(super) fn transport(error: reqwest::Error) -> Error {
        Error::Transport(error.without_url())
    }
}

/// The answer of the API to a request that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `error.type`.
    pub kind: Option<String>,
    /// `error.details.error_code`, which is more precise but often absent.
    pub code: Option<String>,
    /// `error.message`, or the beginning of a body that is not an error of the API. At most 300 characters.
    pub message: String,
    /// The id of the request, which the API's support asks for.
    pub request_id: Option<String>,
    /// The workspace that the key belongs to, where the API says so.
    pub workspace_id: Option<String>,
}

impl Answer {
    /// Does its code say that the API does not serve the account?
    pub(super) fn is_of_account(&self) -> bool {
        self.code.as_deref().is_some_and(|code| ACCOUNT_CODES.contains(&code))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.status)?;
        for text in [&self.kind, &self.code].into_iter().flatten() {
            write!(formatter, " {text}")?;
        }
        if !self.message.is_empty() {
            write!(formatter, ": {}", self.message)?;
        }
        self.request_id.iter().try_for_each(|id| write!(formatter, " (request {id})"))
    }
}

/// Reads the error from a response, with as much of its body as arrives within `timeout`.
pub(super) async fn read(mut response: Response, secrets: &Secrets, timeout: Duration) -> Error {
    let mut body = Vec::new();
    // The status decides: if the body breaks off, trickles or never ends, only the message is shorter.
    let _ = tokio::time::timeout(timeout, async {
        while body.len() < BODY_BYTES_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
    })
    .await;
    body.truncate(BODY_BYTES_MAX);
    let answer = answer(response.status().as_u16(), response.headers(), &body, secrets);
    classified(answer, response.headers())
}

/// What an answer says, with this body.
pub(super) fn answer(status: u16, headers: &HeaderMap, body: &[u8], secrets: &Secrets) -> Answer {
    let envelope: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(|text| presentable(text, secrets));
    let error = &envelope["error"];
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let request_id = header("request-id");
    Answer {
        status,
        kind: text(&error["type"]),
        code: text(&error["details"]["error_code"]),
        message: text(&error["message"])
            .unwrap_or_else(|| presentable(&String::from_utf8_lossy(body), secrets)),
        request_id: request_id.map(|id| presentable(id, secrets)).or_else(|| text(&envelope["request_id"])),
        workspace_id: header("anthropic-workspace-id").map(|id| presentable(id, secrets)),
    }
}

/// Classifies an answer. `x-should-retry` decides where the status leaves it open, as in the official SDKs.
fn classified(answer: Answer, headers: &HeaderMap) -> Error {
    let should_retry = match headers.get("x-should-retry").map(HeaderValue::as_bytes) {
        Some(b"true") => Some(true),
        Some(b"false") => Some(false),
        _ => None,
    };
    let retry_after = retry_after(headers, Utc::now());
    let is_account = answer.is_of_account();
    let answer = Box::new(answer);
    match answer.status {
        401..=403 => Error::Account(answer),
        _ if is_account => Error::Account(answer),
        // If a wait does not lift the limit, it is a limit of the account and not of the rate.
        429 if should_retry == Some(false) => Error::Account(answer),
        429 => Error::RateLimited { retry_after, answer },
        // Any other 404 may come from a gateway that does not know the path, or from another server.
        404 | 410 if answer.kind.as_deref() == Some(NOT_FOUND) => Error::NotFound(answer),
        404 | 410 => Error::Refused(answer),
        status if should_retry.unwrap_or(matches!(status, 408 | 409 | 500..)) => {
            Error::Unavailable { retry_after, answer }
        }
        _ => Error::Refused(answer),
    }
}

/// The text without the keys, on one line, shortened.
fn presentable(text: &str, secrets: &Secrets) -> String {
    // The keys are replaced first: after a cut or a changed character, a part of them could remain.
    let text = secrets.blotted_out(text).replace(char::is_control, " ");
    let text = text.trim();
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: &str = r#"{"type":"error","error":{"type":"t","message":"m"},"request_id":"req_body"}"#;

    fn key() -> Secrets {
        Secrets::of([&"sk-secret".into(), &"sk-admin-secret".into()])
    }

    fn read(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Error {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        classified(answer(status, &headers, body.as_bytes(), &key()), &headers)
    }

    fn class(error: &Error) -> &'static str {
        match error {
            Error::Refused(_) => "refused",
            Error::Account(_) => "account",
            Error::RateLimited { .. } => "rate limited",
            Error::NotFound(_) => "not found",
            Error::Unavailable { .. } => "unavailable",
            _ => "other",
        }
    }

    #[test]
    fn a_status_says_whose_fault_it_is() {
        let cases = [
            ("refused", &[400, 404, 405, 410, 412, 413, 422, 423, 431, 499][..]),
            ("account", &[401, 402, 403]),
            ("rate limited", &[429]),
            ("unavailable", &[408, 409, 500, 501, 502, 503, 504, 529, 599]),
        ];
        for (expected, statuses) in cases {
            for &status in statuses {
                assert_eq!(class(&read(status, &[], ENVELOPE)), expected, "{status}");
            }
        }
    }

    #[test]
    fn the_api_decides_whether_to_retry_what_the_status_leaves_open() {
        let cases = [
            (500, "false", "refused"),
            (409, "false", "refused"),
            (400, "true", "unavailable"),
            (429, "true", "rate limited"),
            (429, "false", "account"),
            (401, "true", "account"),
            (503, "perhaps", "unavailable"),
        ];
        for (status, should_retry, expected) in cases {
            let error = read(status, &[("x-should-retry", should_retry)], ENVELOPE);
            assert_eq!(class(&error), expected, "{status} {should_retry}");
        }
    }

    #[test]
    fn only_the_api_itself_can_say_that_there_is_no_such_thing() {
        let said = r#"{"type":"error","error":{"type":"not_found_error","message":"m"}}"#;
        for status in [404, 410] {
            assert_eq!(class(&read(status, &[("x-should-retry", "true")], said)), "not found");
            for other in ["", "<html>404</html>", r#"{"detail":"Not Found"}"#, r#"{"error":{"type":"t"}}"#] {
                assert_eq!(class(&read(status, &[], other)), "refused", "{other}");
            }
        }
    }

    #[test]
    fn a_spend_limit_is_the_accounts_fault_and_a_ramp_limit_is_not() {
        let coded = |status, code| {
            let body =
                format!(r#"{{"error":{{"type":"t","message":"m","details":{{"error_code":"{code}"}}}}}}"#);
            read(status, &[], &body)
        };
        for code in ACCOUNT_CODES {
            assert_eq!(class(&coded(429, code)), "account");
            assert_eq!(class(&coded(400, code)), "account");
        }
        assert_eq!(class(&coded(429, "ramp_limit_exceeded")), "rate limited");
    }

    #[test]
    fn the_wait_that_is_asked_for_is_passed_on() {
        let wait = Some(Duration::from_secs(5));
        let headers = [("retry-after", "5")];

        assert!(
            matches!(read(429, &headers, ""), Error::RateLimited { retry_after, .. } if retry_after == wait)
        );
        assert!(
            matches!(read(529, &headers, ""), Error::Unavailable { retry_after, .. } if retry_after == wait)
        );
    }

    #[test]
    fn an_answer_reads_as_one_line() {
        let cases = [
            (&[("request-id", "req_head")][..], ENVELOPE, "400 t: m (request req_head)"),
            (&[], ENVELOPE, "400 t: m (request req_body)"),
            (&[], "<html>\r\n<b>no</b>\0", "400: <html>  <b>no</b>"),
            (&[], r#"{"error":"flat","request_id":null}"#, r#"400: {"error":"flat","request_id":null}"#),
            (&[], "", "400"),
        ];
        for (headers, body, expected) in cases {
            let message = read(400, headers, body).to_string();
            assert_eq!(message, format!("the API refused the request: {expected}"));
        }
    }

    #[test]
    fn a_long_message_is_cut_and_never_within_the_key() {
        let padding = "é".repeat(295);
        let body = format!(r#"{{"error":{{"message":"{padding}sk-secret and so on"}}}}"#);

        let Error::Refused(answer) = read(400, &[], &body) else { panic!("not refused") };

        assert_eq!(answer.message, format!("{padding}[key]…"));
    }

    #[test]
    fn the_keys_are_blotted_out_wherever_they_are_echoed() {
        let body = r#"{"error":{"type":"sk-secret","message":"sk-admin-secret","details":{"error_code":"sk-secret"}}}"#;
        for body in [body, "echo: sk-secret sk-admin-secret"] {
            let error = read(400, &[("request-id", "sk-secret")], body);
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }
}
