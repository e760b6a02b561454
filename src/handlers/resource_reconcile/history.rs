//! The history that a session keeps of itself: each change of its status, with its own identifier and time.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::Value;

use super::again;
use super::changes::Change;
use crate::api;
use crate::handler::Context;
use crate::handlers::resources::kinds::MANAGED_AGENTS;

/// The session's own events, and the webhooks that tell of them.
const TOLD: [(&str, &str); 5] = [
    ("session.status_running", "session.status_run_started"),
    ("session.status_idle", "session.status_idled"),
    ("session.status_rescheduled", "session.status_rescheduled"),
    ("session.status_terminated", "session.status_terminated"),
    ("span.outcome_evaluation_end", "session.outcome_evaluation_ended"),
];

/// Read again before what is explained: events of one moment may come to be seen one after the other.
const OVERLAP: TimeDelta = TimeDelta::seconds(60);

/// The most pages with something on them that one look reads of one session.
const PAGES_MAX: usize = 20;

/// The most without: the API may choose the types after it has made the pages, and other events may be very many.
const EMPTY_PAGES_MAX: usize = 1000;

/// What the history of a session says.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) changes: Vec<Change>,
    /// Why it is idle, by the newest event that says so.
    pub(super) stop_reason: Option<String>,
    pub(super) until: Option<DateTime<Utc>>,
    /// The API does not show it, though it shows the session.
    pub(super) is_refused: bool,
    /// It was read to its end. Otherwise more may have happened than this.
    pub(super) is_whole: bool,
}

/// Reads the history of a session from a little before `explained_until` on.
///
/// # Errors
/// Those of [`api::Client::get_json`], but for a session that is no more or whose history is refused: it must not hold up the others.
pub(super) async fn of_session(
    cx: &Context<'_>,
    id: &str,
    explained_until: Option<DateTime<Utc>>,
) -> Result<History, api::Error> {
    let since = explained_until.map(|until| (until - OVERLAP).to_rfc3339_opts(SecondsFormat::Micros, true));
    let path = ["v1", "sessions", id, "events"];
    let (mut history, mut cursor) = (History::default(), None::<String>);
    let (mut pages, mut empty_pages) = (0, 0);
    while pages < PAGES_MAX && empty_pages < EMPTY_PAGES_MAX {
        let mut query = vec![("order", "asc"), ("limit", "100")];
        query.extend(TOLD.map(|(own, _)| ("types[]", own)));
        query.extend(since.as_deref().map(|since| ("created_at[gte]", since)));
        query.extend(cursor.as_deref().map(|page| ("page", page)));
        let mut page = cx.api.get_json(&path, &query, &[MANAGED_AGENTS]).await;
        // What was read before would have to be read again.
        if cursor.is_some() && again::pauses(cx, &page).await {
            page = cx.api.get_json(&path, &query, &[MANAGED_AGENTS]).await;
        }
        let page: Value = match page {
            Ok(page) => serde_json::from_str(page.get()).unwrap_or_default(),
            // It is the cursor that is refused. The next look goes on after what was read.
            Err(api::Error::NotFound(_) | api::Error::Refused(_)) if cursor.is_some() => return Ok(history),
            // It is gone, or nothing can be asked about it.
            Err(api::Error::NotFound(_) | api::Error::BadId) => {
                return Ok(History { is_whole: true, ..history });
            }
            Err(api::Error::Refused(_)) => {
                return Ok(History { is_refused: true, is_whole: true, ..history });
            }
            Err(error) => return Err(error),
        };
        match history.read(&page) {
            0 => empty_pages += 1,
            _ => pages += 1,
        }
        cx.progress();
        let next = page["next_page"].as_str().map(str::to_owned);
        if next.is_none() || next == cursor {
            return Ok(History { is_whole: true, ..history });
        }
        cursor = next;
    }
    Ok(history)
}

impl History {
    /// Takes in a page. Returns how many events are on it.
    fn read(&mut self, page: &Value) -> usize {
        for event in page["data"].as_array().into_iter().flatten() {
            let text = |field: &str| event[field].as_str();
            let told = TOLD.iter().find(|(own, _)| text("type") == Some(own));
            let happened_at = text("processed_at").and_then(|time| time.parse::<DateTime<Utc>>().ok());
            // What is queued has not happened yet.
            let (Some((own, told)), Some(id), Some(happened_at)) = (told, text("id"), happened_at) else {
                continue;
            };
            if *own == "session.status_idle" {
                self.stop_reason =
                    event["stop_reason"]["type"].as_str().map(|text| text.replace('\0', "\u{fffd}"));
            }
            let which = (*own != "session.status_terminated").then(|| id.replace('\0', "\u{fffd}"));
            self.changes.push(Change { which, ..Change::once(*told, happened_at) });
            self.until = self.until.max(Some(happened_at));
        }
        page["data"].as_array().map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_change_of_status_is_one_change_with_its_own_identifier() {
        let mut history = History::default();
        history.read(&json!({ "data": [
            { "id": "sevt_1", "type": "session.status_running", "processed_at": "2026-11-01T12:00:00Z" },
            { "id": "sevt_2", "type": "agent.message", "processed_at": "2026-11-01T12:00:01Z" },
            { "id": "sevt_3", "type": "session.status_idle", "processed_at": "2026-11-01T12:00:02Z",
              "stop_reason": { "type": "requires_action" } },
            { "id": "sevt_4", "type": "session.status_running", "processed_at": null },
        ] }));

        let told: Vec<_> =
            history.changes.iter().map(|change| (&*change.event_type, change.which.as_deref())).collect();
        assert_eq!(
            told,
            [("session.status_run_started", Some("sevt_1")), ("session.status_idled", Some("sevt_3"))]
        );
        assert_eq!(history.stop_reason.as_deref(), Some("requires_action"));
        assert_eq!(history.until, "2026-11-01T12:00:02Z".parse().ok());
    }
}
