//! Why a session is idle: it does not say so itself, but the newest event of its history that tells of it does.

use serde_json::Value;

use super::kinds::MANAGED_AGENTS;
use crate::api;
use crate::handler::Context;

/// The most empty pages that are read for it.
const EMPTY_PAGES_MAX: usize = 1000;

/// Asks for the reason why the session at this path is idle; none, if its history does not tell.
///
/// # Errors
/// Those of [`api::Client::get_json`].
pub(super) async fn of_session(cx: &Context<'_>, path: &[&str]) -> Result<Option<String>, api::Error> {
    let events = [path, &["events"]].concat();
    let mut limit = "1";
    let mut cursor = None::<String>;
    for _ in 0..EMPTY_PAGES_MAX {
        let mut query = vec![("types[]", "session.status_idle"), ("order", "desc"), ("limit", limit)];
        query.extend(cursor.as_deref().map(|page| ("page", page)));
        let page = match cx.api.get_json(&events, &query, &[MANAGED_AGENTS]).await {
            Ok(page) => serde_json::from_str(page.get()).unwrap_or_default(),
            // The session is there, as we have just seen.
            Err(api::Error::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        cx.progress();
        match read(&page) {
            Page::Told(reason) => return Ok(reason),
            Page::Empty { next } if next.is_none() || next == cursor => return Ok(None),
            // The API makes pages before it chooses the types. Of pages of one event each there may be very many, so these are larger;
            // and a cursor may be good only for the limit that it came with.
            Page::Empty { .. } if limit == "1" => limit = "100",
            Page::Empty { next } => cursor = next,
        }
    }
    Ok(None)
}

/// A page of the events that tell why a session is idle, newest first.
#[derive(Debug, PartialEq, Eq)]
enum Page {
    /// The newest of them, and the reason that it gives.
    Told(Option<String>),
    /// None of them is on it.
    Empty { next: Option<String> },
}

fn read(page: &Value) -> Page {
    match page["data"].get(0) {
        // Postgres knows no NUL.
        Some(event) => {
            Page::Told(event["stop_reason"]["type"].as_str().map(|text| text.replace('\0', "\u{fffd}")))
        }
        None => Page::Empty { next: page["next_page"].as_str().map(str::to_owned) },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_idle_event_says_why() {
        let event = json!({ "type": "session.status_idle", "stop_reason": { "type": "requires_action" } });
        assert_eq!(read(&json!({ "data": [event] })), Page::Told(Some("requires_action".into())));
        assert_eq!(read(&json!({ "data": [{}], "next_page": "p2" })), Page::Told(None));
        assert_eq!(read(&json!({ "data": [] })), Page::Empty { next: None });
        assert_eq!(read(&json!({ "data": [], "next_page": "p2" })), Page::Empty { next: Some("p2".into()) });
    }
}
