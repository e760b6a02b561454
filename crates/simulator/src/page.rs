//! Pages of a list: the query parameters, and the API's two kinds of cursors.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::refusal::Refusal;

/// The query parameters, in the order of the URL.
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

    /// All values of this name; the name of a list ends in `[]`.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Is a time within the limits `name[gt]`, `name[gte]`, `name[lt]` and `name[lte]`?
    pub(super) fn has_time(&self, name: &str, time: &Value) -> bool {
        let limit = |suffix: &str| self.get(&format!("{name}[{suffix}]"))?.parse::<DateTime<Utc>>().ok();
        let time = time.as_str().and_then(|time| time.parse::<DateTime<Utc>>().ok());
        limit("gt").is_none_or(|limit| time > Some(limit))
            && limit("gte").is_none_or(|limit| time >= Some(limit))
            && limit("lt").is_none_or(|limit| time < Some(limit))
            && limit("lte").is_none_or(|limit| time <= Some(limit))
    }

    /// The page of these items that `page`, `limit` and `order` ask for. Each item carries the number that it is
    /// sorted by. Cursors are made of these numbers, so a page does not shift when older items are removed.
    pub(super) fn page(
        &self,
        mut items: Vec<(u64, Value)>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Value, Refusal> {
        let newest_first = match self.get("order") {
            None => newest_first,
            Some("desc") => true,
            Some("asc") => false,
            Some(_) => return Err(Refusal::invalid("order: must be asc or desc")),
        };
        items.sort_by_key(|(number, _)| if newest_first { u64::MAX - number } else { *number });
        let cursor = self
            .get("page")
            .map(|cursor| read_cursor(cursor).ok_or_else(|| Refusal::invalid("page: is not a cursor")));
        let start = match cursor.transpose()? {
            None => 0,
            Some(last) => {
                items.iter().take_while(|(n, _)| if newest_first { *n >= last } else { *n <= last }).count()
            }
        };
        let next = (start + limit < items.len()).then(|| cursor_after(items[start + limit - 1].0));
        let prev = (start > 0).then(|| match start.saturating_sub(limit) {
            0 => cursor_after(if newest_first { u64::MAX } else { 0 }),
            start => cursor_after(items[start - 1].0),
        });
        let data: Vec<Value> = items.into_iter().skip(start).take(limit).map(|(_, item)| item).collect();
        Ok(json!({"data": data, "next_page": next, "prev_page": prev}))
    }

    /// As [`Query::page`], newest first. If `with_pauses`, each page but the last is followed by an empty one.
    pub(super) fn page_with_pauses(
        &self,
        items: Vec<(u64, Value)>,
        limit: usize,
        with_pauses: bool,
    ) -> Result<Value, Refusal> {
        const PAUSE: &str = "pause_before_";
        if let Some(next) = self.get("page").and_then(|page| page.strip_prefix(PAUSE)) {
            return Ok(json!({"data": [], "next_page": next, "prev_page": null}));
        }
        let mut page = self.page(items, true, limit)?;
        if let Some(next) = page["next_page"].as_str().filter(|_| with_pauses) {
            page["next_page"] = format!("{PAUSE}{next}").into();
        }
        Ok(page)
    }

    /// The page of these items that comes after the one with the id `after_id`, newest first.
    pub(super) fn page_by_id(&self, mut items: Vec<(u64, Value)>, limit: usize) -> Result<Value, Refusal> {
        items.sort_by_key(|(number, _)| u64::MAX - number);
        let start = match self.get("after_id") {
            None => 0,
            Some(id) => {
                let place = items.iter().position(|(_, item)| item["id"] == id);
                place.ok_or_else(|| Refusal::invalid(format!("after_id: there is no {id:?}")))? + 1
            }
        };
        let has_more = start + limit < items.len();
        Ok(by_id(items.into_iter().skip(start).take(limit).map(|(_, item)| item).collect(), has_more))
    }

    /// The parameter `limit`, which must be from 1 to `max`.
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

fn cursor_after(number: u64) -> String {
    format!("page_{number:016x}")
}

fn read_cursor(cursor: &str) -> Option<u64> {
    u64::from_str_radix(cursor.strip_prefix("page_")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Value {
        let query = Query(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect());
        query.page((1..=5).map(|n| (n, n.into())).collect(), true, 2).ok().unwrap()
    }

    #[test]
    fn pages_follow_one_another_and_lead_back() {
        let first = page("");
        let second = page(&format!("page={}", first["next_page"].as_str().unwrap()));
        let third = page(&format!("page={}", second["next_page"].as_str().unwrap()));
        let back = page(&format!("page={}", third["prev_page"].as_str().unwrap()));

        assert_eq!((&first["data"], &first["prev_page"]), (&json!([5, 4]), &Value::Null));
        assert_eq!(second["data"], json!([3, 2]));
        assert_eq!((&third["data"], &third["next_page"]), (&json!([1]), &Value::Null));
        assert_eq!(back, second);
        assert_eq!(page(&format!("page={}", second["prev_page"].as_str().unwrap()))["data"], first["data"]);
    }

    #[test]
    fn a_list_runs_the_other_way_round_when_asked() {
        assert_eq!(page("order=asc")["data"], json!([1, 2]));
    }
}
