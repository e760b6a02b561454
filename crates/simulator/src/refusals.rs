//! Refusals on demand: every status and every `error.details.error_code` that the API's documents name.

use std::str::FromStr;

use axum::http::Method;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// A call that is refused so many times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// `create`, `list`, `retrieve`, `cancel`, `delete` or `results` of batches, `send` of events to a session, or `any` call.
    pub call: Call,
    /// An error code of the API, or a status: `ramp_limit_exceeded`, `402`.
    #[serde(deserialize_with = "known")]
    pub error: String,
    /// How many such calls are refused; it counts down.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

pub(super) fn known<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let error = String::deserialize(deserializer)?;
    if refusal(&error).is_some() { Ok(error) } else { Err(serde::de::Error::custom(unknown(&error))) }
}

pub(super) fn unknown(error: &str) -> String {
    let names: Vec<&str> = ERRORS.iter().map(|(name, ..)| *name).collect();
    format!("{error:?} is none of {}", names.join(", "))
}

impl FromStr for Planned {
    type Err = String;

    /// Reads `CALL:ERROR` or `CALL:ERROR:TIMES`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (call, error, times) = match parts.as_slice() {
            [call, error] => (*call, *error, "1"),
            [call, error, times] => (*call, *error, *times),
            _ => return Err("expected CALL:ERROR or CALL:ERROR:TIMES".to_owned()),
        };
        let call = serde_json::from_value(call.into()).map_err(|error| error.to_string())?;
        refusal(error).ok_or_else(|| unknown(error))?;
        let times = times.parse().map_err(|_| format!("{times:?} is no number"))?;
        Ok(Self { call, error: error.to_owned(), times })
    }
}

/// A call of the API that can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Every one.
    Any,
    /// Creates a batch.
    Create,
    /// Lists batches.
    List,
    /// Reads a batch.
    Retrieve,
    /// Cancels a batch.
    Cancel,
    /// Deletes a batch.
    Delete,
    /// Reads the results of a batch.
    Results,
    /// Sends events to a session.
    Send,
}

impl Call {
    fn is_of(self, method: &Method, path: &str) -> bool {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let rest = match parts.as_slice() {
            ["v1", "messages", "batches", rest @ ..] => rest,
            _ if self == Call::Send => return is_send(method, path),
            _ => return self == Call::Any,
        };
        let is_post = method == Method::POST;
        let is_get = method == Method::GET;
        match self {
            Call::Any => true,
            Call::Create => is_post && rest.is_empty(),
            Call::List => is_get && rest.is_empty(),
            Call::Retrieve => is_get && rest.len() == 1,
            Call::Cancel => is_post && matches!(rest, [_, "cancel"]),
            Call::Delete => method == Method::DELETE && rest.len() == 1,
            Call::Results => is_get && matches!(rest, [_, "results"]),
            Call::Send => false,
        }
    }
}

/// Does this call send events to a session?
pub(super) fn is_send(method: &Method, path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    method == Method::POST && matches!(parts.as_slice(), ["v1", "sessions", _, "events"])
}

/// The refusal that is planned for this call, which is counted.
pub(super) fn take(planned: &mut Vec<Planned>, method: &Method, path: &str) -> Option<Refusal> {
    let nth = planned.iter().position(|one| one.times > 0 && one.call.is_of(method, path))?;
    planned[nth].times -= 1;
    let refusal = refusal(&planned[nth].error);
    planned.retain(|one| one.times > 0);
    refusal
}

/// The name by which an error is asked for, its status and its type. A name that is no number is an `error_code`.
const ERRORS: &[(&str, u16, &str)] = &[
    ("400", 400, "invalid_request_error"),
    ("401", 401, "authentication_error"),
    ("402", 402, "billing_error"),
    ("403", 403, "permission_error"),
    ("404", 404, "not_found_error"),
    ("408", 408, "timeout_error"),
    ("409", 409, "conflict_error"),
    ("412", 412, "invalid_request_error"),
    ("413", 413, "request_too_large"),
    ("422", 422, "invalid_request_error"),
    ("429", 429, "rate_limit_error"),
    ("431", 431, "invalid_request_error"),
    ("499", 499, "invalid_request_error"),
    ("500", 500, "api_error"),
    ("501", 501, "api_error"),
    ("503", 503, "api_error"),
    ("504", 504, "timeout_error"),
    ("529", 529, "overloaded_error"),
    // Of the workspace or the organization, and not of the request.
    ("workspace_human_review_disabled", 400, "invalid_request_error"),
    ("claude_code_key_creator_not_member", 400, "invalid_request_error"),
    ("organization_on_hold", 400, "invalid_request_error"),
    ("cmek_key_disabled", 400, "invalid_request_error"),
    // The API's documents do not say their statuses; the body is what is refused.
    ("request_body_encoding_unsupported", 400, "invalid_request_error"),
    ("request_body_encoding_invalid", 400, "invalid_request_error"),
    ("request_body_too_large_after_decoding", 413, "request_too_large"),
    ("ramp_limit_exceeded", 429, "rate_limit_error"),
    ("enforced_spend_limit_reached", 429, "rate_limit_error"),
    ("contract_spend_limit_reached", 429, "rate_limit_error"),
    ("change_outcome_unknown", 503, "api_error"),
    ("authorization_check_unavailable", 503, "api_error"),
    ("cmek_context_unavailable", 503, "api_error"),
    ("cmek_key_unreachable", 503, "api_error"),
];

pub(super) fn refusal(error: &str) -> Option<Refusal> {
    let (name, status, kind) = *ERRORS.iter().find(|(name, ..)| *name == error)?;
    let code = name.starts_with(|first: char| !first.is_ascii_digit()).then_some(name);
    // A limit on spending does not pass by itself, so the API does not say when.
    let passes = matches!(name, "429" | "ramp_limit_exceeded");
    Some(Refusal::planned(status, kind, code, passes.then_some(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_method_and_its_path() {
        let path = "/v1/messages/batches";
        for (call, method, path) in [
            (Call::Create, Method::POST, path.to_owned()),
            (Call::List, Method::GET, path.to_owned()),
            (Call::Retrieve, Method::GET, format!("{path}/b")),
            (Call::Cancel, Method::POST, format!("{path}/b/cancel")),
            (Call::Delete, Method::DELETE, format!("{path}/b")),
            (Call::Results, Method::GET, format!("{path}/b/results")),
            (Call::Send, Method::POST, "/v1/sessions/s/events".to_owned()),
        ] {
            let all = [
                Call::Create,
                Call::List,
                Call::Retrieve,
                Call::Cancel,
                Call::Delete,
                Call::Results,
                Call::Send,
            ];
            let of: Vec<Call> = all.into_iter().filter(|one| one.is_of(&method, &path)).collect();
            assert_eq!(of, [call]);
            assert!(Call::Any.is_of(&method, &path));
        }
        assert!(!Call::Create.is_of(&Method::POST, "/v1/messages"));
        assert!(!Call::Send.is_of(&Method::GET, "/v1/sessions/s/events"));
    }

    #[test]
    fn a_plan_is_read_from_a_flag() {
        let plan: Planned = "create:ramp_limit_exceeded:3".parse().unwrap();
        assert_eq!((plan.call, plan.error.as_str(), plan.times), (Call::Create, "ramp_limit_exceeded", 3));
        assert_eq!("any:529".parse::<Planned>().unwrap().times, 1);
        for wrong in ["create", "create:teapot", "brew:529", "any:529:often"] {
            assert!(wrong.parse::<Planned>().is_err(), "{wrong}");
        }
    }
}
