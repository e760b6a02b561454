//! Pages of a list: the parameters of a query, and the API's two kinds of cursors.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde_json::{Value, json};

use super::refusal::Refusal;

/// The parameters of a query, in their order.
pub(super) struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Query(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl Query {
    /// The last value of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `limit`, if it is one of 1 to `max`.
    pub(super) fn limit(&self, default: usize, max: usize) -> Result<usize, Refusal> {
        match self.get("limit").map(str::parse) {
            None => Ok(default),
            Some(Ok(limit)) if (1..=max).contains(&limit) => Ok(limit),
            Some(_) => Err(Refusal::invalid(format!("limit: must be a number from 1 to {max}"))),
        }
    }
}

/// The answer of a list with id cursors: `data`, `has_more`, `first_id`, `last_id`.
pub(super) fn by_id(data: Vec<Value>, has_more: bool) -> Value {
    let id = |object: Option<&Value>| object.map(|object| object["id"].clone()).unwrap_or_default();
    json!({"has_more": has_more, "first_id": id(data.first()), "last_id": id(data.last()), "data": data})
}
