//! The session's own list of events, which says whether what was sent has arrived.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::store::{self, Send};
use crate::api;
use crate::handler::{Classify, Context, Error};

/// `anthropic-beta` of sessions.
pub(super) const MANAGED_AGENTS: &str = "managed-agents-2026-04-01";

/// How many events are listed at once. The API's documents do not say how many it may be.
const PAGE: &str = "100";

/// The events of a send, as they go out and taken apart.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) raw: Box<RawValue>,
    events: Vec<Value>,
    /// Each once.
    types: BTreeSet<String>,
}

impl Sent {
    /// # Errors
    /// [`Error::Permanent`] if they are no list of JSON, which the function that stores them has looked at.
    pub(super) fn read(send: &Send) -> Result<Sent, Error> {
        let raw: Box<RawValue> = serde_json::from_str(&send.events).permanent()?;
        let events: Vec<Value> = serde_json::from_str(&send.events).permanent()?;
        let types = events.iter().filter_map(|event| Some(event["type"].as_str()?.to_owned())).collect();
        Ok(Sent { raw, events, types })
    }
}

/// An event of the session's list.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) id: String,
    /// Null while the event is queued.
    #[serde(default)]
    processed_at: Option<String>,
    #[serde(flatten)]
    fields: Value,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Listed>,
    #[serde(default)]
    next_page: Option<String>,
}

/// What of a send the list shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// All of it once, under these identifiers.
    Whole(Vec<String>),
    /// Nothing came up.
    Nothing,
    /// Something came up that is not clearly this send.
    Perhaps,
}

/// The path of the events of a session.
pub(super) fn path(send: &Send) -> [&str; 4] {
    ["v1", "sessions", &send.session, "events"]
}

/// The identifiers that the answer to a POST gives the events, if it names each.
pub(super) fn ids(answer: &RawValue, sent: &Sent) -> Option<Vec<String>> {
    let page: Page = serde_json::from_str(answer.get()).ok()?;
    let ids: Vec<String> = page.data.into_iter().map(|event| event.id).collect();
    (ids.len() == sent.events.len()).then_some(ids)
}

/// The newest event in the session that is of a type of these.
///
/// # Errors
/// Those of any request.
pub(super) async fn newest(cx: &Context<'_>, send: &Send, sent: &Sent) -> Result<Option<String>, api::Error> {
    Ok(page(cx, send, sent, "1", None).await?.data.into_iter().next().map(|event| event.id))
}

/// The events of these types that came up since the send, and are of no other send, the oldest first.
///
/// The list is in the order in which the session took events on, and the documents do not say where those stand that are still
/// queued. So all pages are read, and a queued event counts as new wherever it stands.
///
/// # Errors
/// The outer one is the database's, the inner one that of a request.
pub(super) async fn since(
    cx: &Context<'_>,
    send: &Send,
    sent: &Sent,
) -> Result<Result<Vec<Listed>, api::Error>, Error> {
    let mut new = Vec::new();
    let mut is_from_before = false;
    let mut after = None;
    loop {
        let listed = match page(cx, send, sent, PAGE, after.as_deref()).await {
            Ok(listed) => listed,
            Err(error) => return Ok(Err(error)),
        };
        for event in listed.data {
            is_from_before |= Some(&event.id) == send.known_before.as_ref();
            if !is_from_before || event.processed_at.is_none() {
                new.push(event);
            }
        }
        match listed.next_page {
            Some(next) => after = Some(next),
            None => break,
        }
        cx.progress();
    }
    new.retain(|event| Some(&event.id) != send.known_before.as_ref());
    let ids: Vec<String> = new.iter().map(|event| event.id.clone()).collect();
    let free =
        store::of_no_other(&mut *cx.connection().await?, cx.event.account_or_default(), send, &ids).await?;
    new.retain(|event| free.contains(&event.id));
    new.reverse();
    new.sort_by_key(|event| event.processed_at.is_none());
    Ok(Ok(new))
}

/// Looks for the events of a send, one after the other, among those that came up since.
pub(super) fn compare(sent: &Sent, since: &[Listed]) -> Arrived {
    let is_whole = |found: &&[Listed]| {
        found
            .iter()
            .zip(&sent.events)
            .all(|(listed, event)| shows(&listed.fields, event, &["id", "processed_at"]))
    };
    let mut whole = since.windows(sent.events.len().max(1)).filter(is_whole);
    match (whole.next(), whole.next()) {
        (Some(found), None) => Arrived::Whole(found.iter().map(|event| event.id.clone()).collect()),
        (None, _) if since.is_empty() => Arrived::Nothing,
        _ => Arrived::Perhaps,
    }
}

/// Does the API's form of a value show all that was sent? It may have added fields of its own. `own` are fields that it gives
/// itself, whatever was sent.
fn shows(listed: &Value, sent: &Value, own: &[&str]) -> bool {
    match (listed, sent) {
        (Value::Object(listed), Value::Object(sent)) => sent.iter().all(|(name, value)| {
            own.contains(&name.as_str()) || shows(listed.get(name).unwrap_or(&Value::Null), value, &[])
        }),
        (Value::Array(listed), Value::Array(sent)) => {
            listed.len() == sent.len()
                && listed.iter().zip(sent).all(|(listed, sent)| shows(listed, sent, &[]))
        }
        (listed, sent) => listed == sent,
    }
}

/// One page of the session's events of these types, the newest first.
async fn page(
    cx: &Context<'_>,
    send: &Send,
    sent: &Sent,
    limit: &str,
    after: Option<&str>,
) -> Result<Page, api::Error> {
    let mut query = vec![("order", "desc"), ("limit", limit)];
    query.extend(sent.types.iter().map(|kind| ("types[]", kind.as_str())));
    query.extend(after.map(|after| ("page", after)));
    let json = cx.api.get_json(&path(send), &query, &[MANAGED_AGENTS]).await?;
    serde_json::from_str(json.get()).map_err(|_| api::Error::Malformed { promised: "a list of events" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(events: &[Value]) -> Sent {
        Sent {
            raw: serde_json::value::to_raw_value(events).unwrap(),
            events: events.to_vec(),
            types: BTreeSet::new(),
        }
    }

    fn message(text: &str) -> Value {
        json!({ "type": "user.message", "content": [{ "type": "text", "text": text }] })
    }

    /// The event as the session shows it, with fields of the API's own.
    fn listed(id: &str, mut event: Value) -> Listed {
        event["id"] = id.into();
        event["processed_at"] = "2026-11-01T12:00:00Z".into();
        event["session_thread_id"] = "sth_1".into();
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn what_was_sent_is_found_by_type_content_and_order_among_what_others_sent() {
        let sent = sent(&[message("a"), message("b")]);
        let [a, b, c] = ["a", "b", "c"].map(message);

        let one = [listed("1", c.clone()), listed("2", a.clone()), listed("3", b.clone())];
        assert_eq!(compare(&sent, &one), Arrived::Whole(vec!["2".to_owned(), "3".to_owned()]));
        assert_eq!(compare(&sent, &[]), Arrived::Nothing);
        for unclear in [
            vec![listed("1", a.clone())],
            vec![listed("1", b.clone()), listed("2", a.clone())],
            vec![listed("1", a.clone()), listed("2", c.clone()), listed("3", b.clone())],
            vec![listed("1", c.clone())],
            [a.clone(), b.clone(), a, b].into_iter().map(|event| listed("1", event)).collect(),
        ] {
            assert_eq!(compare(&sent, &unclear), Arrived::Perhaps, "{unclear:?}");
        }
    }

    #[test]
    fn the_api_may_add_fields_and_change_none() {
        let event = json!({ "type": "t", "a": { "b": [1, null] }, "none": null });
        for (listed, is_shown) in [
            (json!({ "type": "t", "a": { "b": [1, null], "more": 1 } }), true),
            (json!({ "type": "t", "a": { "b": [1, null, 2] } }), false),
            (json!({ "type": "t", "a": { "b": [2, null] } }), false),
            (json!({ "type": "t", "a": "b" }), false),
            (json!({ "type": "u", "a": { "b": [1, null] } }), false),
        ] {
            assert_eq!(shows(&listed, &event, &[]), is_shown, "{listed}");
        }
    }
}
