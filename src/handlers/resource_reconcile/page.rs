//! One page of a list, with either of the API's cursors, and the objects on it.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::kinds::Listed;
use crate::handler::Context;
use crate::handlers::resources::object::Object;
use crate::{api, envelope};

/// The most that every list gives.
const LIMIT: &str = "100";

/// The page of a list.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<Shown>,
    /// Where the next page is. An empty page may have one.
    pub(super) next: Option<String>,
}

/// An object as a list shows it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) json: Box<RawValue>,
    pub(super) value: Value,
    pub(super) object: Object,
    pub(super) created_at: Option<DateTime<Utc>>,
}

impl Page {
    /// Were all objects of the page created before this? Only a list that is newest first ends there.
    pub(super) fn is_before(&self, horizon: DateTime<Utc>) -> bool {
        let created: Option<Vec<_>> = self.objects.iter().map(|shown| shown.created_at).collect();
        created.is_some_and(|created| {
            created.is_sorted_by(|newer, older| newer >= older)
                && created.first().is_some_and(|newest| *newest < horizon)
        })
    }
}

impl Shown {
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer).and_then(Value::as_str)
    }
}

/// Lists a page.
///
/// # Errors
/// Those of [`api::Client::get_json`]; [`api::Error::Malformed`] also if the answer is no list.
pub(super) async fn list(
    cx: &Context<'_>,
    listed: &Listed,
    path: &[&str],
    cursor: Option<&str>,
) -> Result<Page, api::Error> {
    let mut query = vec![("limit", LIMIT)];
    if listed.has_archive {
        query.push(("include_archived", "true"));
    }
    query.extend(cursor.and_then(|cursor| cursor.split_once('=')));
    let betas = listed.kind().and_then(|kind| kind.beta);
    let answer = cx.api.get_json(path, &query, betas.as_slice()).await?;
    read(answer.get(), cursor).ok_or(api::Error::Malformed { promised: "a list" })
}

/// Reads a page. An entry without an identifier counts for nothing.
fn read(answer: &str, cursor: Option<&str>) -> Option<Page> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Box<RawValue>>,
        #[serde(default)]
        next_page: Value,
        #[serde(default)]
        has_more: Value,
        #[serde(default)]
        last_id: Value,
    }
    let list: List = serde_json::from_str(answer).ok()?;
    let objects: Vec<Shown> = list.data.into_iter().filter_map(shown).collect();
    let by_page = list.next_page.as_str().map(|page| format!("page={page}"));
    let last_id = || list.last_id.as_str().or_else(|| objects.last().map(|shown| shown.id.as_str()));
    let by_id = (list.has_more == true).then(last_id).flatten().map(|id| format!("after_id={id}"));
    // A cursor that does not move would be followed forever.
    let next = by_page.or(by_id).filter(|next| Some(next.as_str()) != cursor && !next.contains('\0'));
    Some(Page { objects, next })
}

/// Reads an object of a list; none, if it has no identifier.
pub(super) fn shown(json: Box<RawValue>) -> Option<Shown> {
    let value: Value = serde_json::from_str(json.get()).ok()?;
    let id = value.get("id")?.as_str().filter(|id| is_name(id))?.to_owned();
    let time = |field: &str| value.get(field)?.as_str()?.parse().ok();
    Some(Shown { id, created_at: time("created_at"), object: Object::read(json.get()), value, json })
}

/// Can it be part of a key, and of an index?
fn is_name(id: &str) -> bool {
    !id.is_empty() && id.len() <= envelope::TEXT_BYTES_MAX && !id.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_cursors_are_followed_even_from_an_empty_page() {
        let next = |answer: &str, cursor| read(answer, cursor).unwrap().next;

        assert_eq!(next(r#"{"data":[],"next_page":"p2"}"#, None).as_deref(), Some("page=p2"));
        assert_eq!(next(r#"{"data":[{"id":"a"}],"has_more":true}"#, None).as_deref(), Some("after_id=a"));
        let by_id = r#"{"data":[],"has_more":true,"last_id":"b"}"#;
        assert_eq!(next(by_id, Some("after_id=a")).as_deref(), Some("after_id=b"));
        assert_eq!(next(r#"{"data":[{"id":"a"}],"has_more":false,"last_id":"a"}"#, None), None);
        assert_eq!(next(r#"{"data":[],"next_page":null}"#, None), None);
    }

    #[test]
    fn a_cursor_that_stands_still_is_the_end() {
        assert_eq!(read(r#"{"data":[],"next_page":"p2"}"#, Some("page=p2")).unwrap().next, None);
    }

    #[test]
    fn what_is_no_list_is_none() {
        assert!(read(r#"{"type":"session"}"#, None).is_none());
        assert!(read(r#"{"data":[{"id":7},{"id":""},{}]}"#, None).unwrap().objects.is_empty());
    }

    #[test]
    fn only_a_page_that_is_newest_first_can_be_the_last_of_a_look() {
        let page = |days: &[u32]| {
            let object =
                |day: &u32| format!(r#"{{"id":"a{day}","created_at":"2026-11-{day:02}T00:00:00Z"}}"#);
            let objects: Vec<String> = days.iter().map(object).collect();
            read(&format!(r#"{{"data":[{}]}}"#, objects.join(",")), None).unwrap()
        };
        let horizon = "2026-11-10T00:00:00Z".parse().unwrap();
        assert!(page(&[9, 8]).is_before(horizon));
        assert!(!page(&[8, 9]).is_before(horizon), "it is oldest first");
        assert!(!page(&[11, 9]).is_before(horizon));
        assert!(!page(&[]).is_before(horizon));
    }
}
