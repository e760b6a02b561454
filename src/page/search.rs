//! Events, found by identifier or key, by type and time, or by the text of an error.
//!
//! Each search walks an index, or a window of at most 20,000 rows: it takes as long beside ten million events as beside ten. So it asks
//! the table itself, whose weeks Postgres reads side by side in their order, which it does not for the view of all events.

use chrono::{DateTime, NaiveDateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use super::forms::Fields;
use super::panel::{nothing, rows, table};
use super::reader::Query;
use super::words::{self, Room};

/// How many events or attempts one page of a search lists.
const LISTED: usize = 50;

/// How much of the page the list takes up at most.
pub(super) const BYTES_MAX: usize = 70_000;

/// By an identifier of the sender, by our number, or by a key. What is finished has an index of each; what is not is read through
/// once.
const BY_IDENTIFIER: &str = "\
select * from (
    select id, event_id, type, subscriber, key, status::text as status, attempt, received_at, last_error from restante.outbox
     where finished_at = 'infinity' and (event_id = $1 or key = $1 or id = $2::bigint)
    union
    select id, event_id, type, subscriber, key, status::text as status, attempt, received_at, last_error from restante.outbox
     where finished_at < 'infinity' and event_id = $1
    union
    select id, event_id, type, subscriber, key, status::text as status, attempt, received_at, last_error from restante.outbox
     where finished_at < 'infinity' and id = $2::bigint
    union
    (select id, event_id, type, subscriber, key, status::text as status, attempt, received_at, last_error from restante.outbox
      where finished_at < 'infinity' and key = $1 order by created_at desc limit 50)) as found
 order by id desc limit 50";

/// The newest of a type that were received since a time, of the newest 20,000 before a number.
const BEFORE_NUMBER: &str = "\
select * from (
    select id, event_id, type, subscriber, key, status::text as status, attempt, received_at, last_error from restante.outbox
     where id < $3::bigint order by id desc limit 20000) as newest
 where (type = $1 or (right($1, 1) = '*' and starts_with(type, rtrim($1, '*')))) and received_at >= $2::timestamptz
   and type <> 'restante.paused_key'
 order by id desc limit 50";

/// The same, of the newest 20,000 before a time.
const BEFORE_TIME: &str = "\
select * from (
    select id, event_id, type, subscriber, key, status::text as status, attempt, received_at, last_error from restante.outbox
     where id < (select restante.id_at($3::timestamptz)) order by id desc limit 20000) as newest
 where (type = $1 or (right($1, 1) = '*' and starts_with(type, rtrim($1, '*')))) and received_at >= $2::timestamptz
   and type <> 'restante.paused_key'
 order by id desc limit 50";

/// By the text of an error: of the newest 20,000 failed attempts before a time, and of what is not finished. An attempt that does not
/// count leaves no failure, so of what waits for the end of some trouble only its row says why. Each event is listed once, with what it
/// said last.
const BY_ERROR: &str = "\
select * from (
    select distinct on (outbox_id) * from (
        (select outbox_id, event_id, type, subscriber, attempt, failed_at, kind, error from restante.failure
          where failed_at >= $3::timestamptz and failed_at < $4::timestamptz order by failed_at desc limit 20000)
        union all
        select id, event_id, type, subscriber, attempt, coalesce(started_at, received_at), kind, last_error from restante.outbox
         where finished_at = 'infinity' and last_error is not null
           and coalesce(started_at, received_at) >= $3::timestamptz and coalesce(started_at, received_at) < $4::timestamptz) as told
     where strpos(lower(error), lower($1)) > 0 and (type = $2 or (right($2, 1) = '*' and starts_with(type, rtrim($2, '*'))))
     order by outbox_id, failed_at desc) as found
 order by failed_at desc limit 50";

/// How what was found is drawn.
type Draw = fn(&[PgRow], Room) -> sqlx::Result<Markup>;

/// What somebody searches for.
pub(super) struct Search<'a> {
    fields: &'a Fields,
}

impl<'a> Search<'a> {
    pub(super) fn new(fields: &'a Fields) -> Self {
        Self { fields }
    }

    fn get(&self, name: &str) -> &'a str {
        self.fields.get(name)
    }

    /// The query, and how its rows are drawn; or what is wrong with what was typed.
    pub(super) fn query(&self) -> Result<(Query, Draw), String> {
        let since = time(self.get("since"), "Since")?.unwrap_or_else(|| "-infinity".to_owned());
        let until = time(self.get("until"), "Until")?;
        let event_type = Some(self.get("type")).filter(|given| !given.is_empty()).unwrap_or("*").to_owned();
        let (find, error, before) = (self.get("find"), self.get("error"), self.get("before"));
        if !find.is_empty() {
            // No event has the number 0.
            let number = find.parse::<i64>().unwrap_or_default().to_string();
            return Ok((Query::with(BY_IDENTIFIER, [find.to_owned(), number]), draw_events));
        }
        if !error.is_empty() {
            let until = until.unwrap_or_else(|| "infinity".to_owned());
            return Ok((Query::with(BY_ERROR, [error.to_owned(), event_type, since, until]), draw_failures));
        }
        match until.filter(|_| before.is_empty()) {
            Some(until) => Ok((Query::with(BEFORE_TIME, [event_type, since, until]), draw_events)),
            None => {
                let before = Some(before).filter(|given| !given.is_empty()).map_or(Ok(i64::MAX), str::parse);
                let before = before.map_err(|_| "“Before” is no number of an event.".to_owned())?;
                Ok((Query::with(BEFORE_NUMBER, [event_type, since, before.to_string()]), draw_events))
            }
        }
    }

    pub(super) fn form(&self) -> Markup {
        let field = |name: &'static str, label: &str, hint: &str, kind: &str| {
            html! {
                label for=(name) { (label) }
                input id=(name) name=(name) type=(kind) value=(self.get(name)) placeholder=[(!hint.is_empty()).then_some(hint)] autocomplete="off";
            }
        };
        html! {
            form.search role="search" method="get" action="/events" {
                div.field.long { (field("find", "Identifier or key", "whe_…, msgbatch_…, 4711", "search")) }
                div.field { (field("type", "Type", "batch.completed, session.*", "text")) }
                div.field { (field("error", "Text of an error", "not_found", "text")) }
                div.field { (field("since", "Since (UTC)", "", "datetime-local")) }
                div.field { (field("until", "Until (UTC)", "", "datetime-local")) }
                div.field.act { button type="submit" { "Search" } a href="/events" { "Clear" } }
            }
        }
    }

    /// The link to the events before the last one that is listed, without its number at the end.
    pub(super) fn older(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for name in ["type", "since"] {
            if !self.get(name).is_empty() {
                query.append_pair(name, self.get(name));
            }
        }
        format!("/events?{}", query.append_pair("before", "").finish())
    }

    /// Whether it lists by time, so that there is something older.
    pub(super) fn goes_on(&self) -> bool {
        self.get("find").is_empty() && self.get("error").is_empty()
    }
}

/// A time as a form gives it, for Postgres.
fn time(typed: &str, label: &str) -> Result<Option<String>, String> {
    if typed.is_empty() {
        return Ok(None);
    }
    let formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"];
    let read = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(typed, format).ok());
    read.map(|time| Some(time.and_utc().to_rfc3339()))
        .ok_or_else(|| format!("“{label}” is no time. Write it like 2026-11-28T12:00."))
}

#[derive(FromRow)]
struct Found {
    id: i64,
    event_id: String,
    r#type: String,
    subscriber: String,
    key: Option<String>,
    status: String,
    attempt: i32,
    received_at: DateTime<Utc>,
    last_error: Option<String>,
}

fn draw_events(found: &[PgRow], room: Room) -> sqlx::Result<Markup> {
    let events: Vec<Found> = rows(found)?;
    if events.is_empty() {
        return Ok(nothing("No event is found."));
    }
    let body = html! {
        @for row in &events {
            tr data-event=(row.id) {
                td { (words::state(&row.status)) }
                td { (room.event(row.id, &row.event_id)) }
                td { (room.word(&row.r#type)) @if !row.subscriber.is_empty() { span.faint { " for " (room.word(&row.subscriber)) } } }
                td { (room.key(row.key.as_deref())) }
                td.n.wide { (row.attempt) }
                td.n { (words::ago(row.received_at)) }
                td.wide { (room.cut(row.last_error.as_deref())) }
            }
        }
    };
    Ok(table("Events", &["status", "event", "type", "key", "~>attempts", ">received", "~last error"], &body))
}

#[derive(FromRow)]
struct Failed {
    outbox_id: i64,
    event_id: String,
    r#type: String,
    subscriber: String,
    attempt: i32,
    failed_at: DateTime<Utc>,
    kind: Option<String>,
    error: String,
}

fn draw_failures(found: &[PgRow], room: Room) -> sqlx::Result<Markup> {
    let failures: Vec<Failed> = rows(found)?;
    if failures.is_empty() {
        return Ok(nothing(
            "No event is found among what is not finished and the newest 20,000 failed attempts before that time.",
        ));
    }
    let body = html! {
        @for row in &failures {
            tr {
                td { (room.event(row.outbox_id, &row.event_id)) }
                td { (room.word(&row.r#type)) @if !row.subscriber.is_empty() { span.faint { " for " (room.word(&row.subscriber)) } } }
                td.n.wide { (row.attempt) }
                td.n { (words::ago(row.failed_at)) }
                td { (room.word_or_dash(row.kind.as_deref())) }
                td { (room.cut(Some(&row.error))) }
            }
        }
    };
    Ok(table("Events with that error", &["event", "type", "~>attempts", ">failed", "kind", "error"], &body))
}

/// The number of the last event of a full list; none if nothing is older.
pub(super) fn last_of(found: &[PgRow]) -> Option<i64> {
    use sqlx::Row;
    found.get(LISTED - 1).and_then(|row| row.try_get("id").ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(query: &str) -> Result<Vec<String>, String> {
        let fields = Fields::read(query);
        Search::new(&fields).query().map(|(query, _)| query.values)
    }

    #[test]
    fn what_was_typed_decides_which_index_is_walked() {
        assert_eq!(values("find=whe_1&error=x").unwrap(), ["whe_1", "0"]);
        assert_eq!(values("find=4711").unwrap(), ["4711", "4711"]);
        assert_eq!(
            values("error=not+found&type=batch.*").unwrap(),
            ["not found", "batch.*", "-infinity", "infinity"]
        );
        let newest = values("type=order.placed&since=2026-11-28T12:00").unwrap();
        assert_eq!(newest, ["order.placed", "2026-11-28T12:00:00+00:00", "9223372036854775807"]);
        assert_eq!(
            values("until=2026-11-28+12:00").unwrap(),
            ["*", "-infinity", "2026-11-28T12:00:00+00:00"]
        );
        assert_eq!(values("until=2026-11-28+12:00&before=7").unwrap(), ["*", "-infinity", "7"]);
        assert_eq!(
            values("since=yesterday").unwrap_err(),
            "“Since” is no time. Write it like 2026-11-28T12:00."
        );
        assert!(values("before=x").is_err());
    }

    #[test]
    fn the_link_to_older_events_ends_where_their_number_goes() {
        let fields = Fields::read("type=a%26b&since=2026-11-28T12%3A00&until=2026-11-29T12%3A00");
        assert_eq!(Search::new(&fields).older(), "/events?type=a%26b&since=2026-11-28T12%3A00&before=");
    }
}
