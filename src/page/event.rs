//! The life of one event, as `restante explain` tells it, and its body for whoever asks for it.

use maud::{Markup, html};
use sqlx::postgres::PgRow;
use sqlx::{Column, Row as _, TypeInfo as _};

use super::panel::{nothing, sql_of, table};
use super::reader::{Problem, Query, Reader};
use super::words;
use crate::outbox::life::{self, Row, Step};

/// How much of a body is shown, as it is written: the page stays small whatever somebody sent.
const SHOWN_BYTES: usize = 60_000;

/// From how many bytes on a text in a table takes several lines.
const LONG: usize = 40;

/// The status of an event, in its word; nothing, if there is no such event.
pub(super) async fn status(reader: &Reader, id: i64) -> Result<Markup, Problem> {
    const STATUS: &str = "select status::text from restante.outbox_events where id = $1::bigint";
    let found = reader.rows(&Query::with(STATUS, [id.to_string()])).await?;
    Ok(html! { (found.first().and_then(|row| row.try_get::<String, _>(0).ok()).unwrap_or_default()) })
}

/// Each step that has something to show, all of one moment.
pub(super) async fn timeline(reader: &Reader, id: i64) -> Result<Markup, Problem> {
    let rows = reader.event(id).await?;
    let Some(event) = rows.first() else { return Ok(nothing("There is no event of this number.")) };
    let mut parts = vec![(html! { (title(event)) h3 { "How it came" } }, life::of_event(event))];
    parts.extend(rows.iter().map(|row| (subtitle(row, id), life::of_row(row))));
    parts.push((html! { h3 { "What came of it" } }, life::of_object(event)));
    let statements: Vec<String> =
        parts.iter().flat_map(|(_, steps)| steps).map(|step| step.sql.clone()).collect();
    let mut found = reader.texts(&statements).await?.into_iter();
    Ok(html! {
        @for (head, steps) in parts { (head) (shown(steps.into_iter().zip(found.by_ref()))) }
    })
}

fn title(event: &Row) -> Markup {
    html! {
        p.lead {
            strong.id { (event.event_id) } ": " (event.event_type)
            @if event.key.is_some() { " of " (words::key(event.key.as_deref())) }
            ", from " (event.sender)
        }
    }
}

fn subtitle(row: &Row, id: i64) -> Markup {
    let of = if row.subscriber.is_empty() {
        "the handler of its type".to_owned()
    } else {
        format!("the subscriber {}", row.subscriber)
    };
    html! {
        h3 {
            "For " (of) " "
            @if row.id == id { span.faint { "(id " (row.id) ")" } } @else { a href={ "/events/" (row.id) } { "(id " (row.id) ")" } }
        }
    }
}

/// The steps that have rows.
fn shown(steps: impl Iterator<Item = (Step, Vec<PgRow>)>) -> Markup {
    let told: Vec<_> = steps.filter(|(_, rows)| !rows.is_empty()).collect();
    html! {
        @if told.is_empty() {
            (nothing("Nothing is known of this."))
        } @else {
            ol.timeline { @for (step, rows) in told { li { h4 { (step.title) } (facts(&rows)) (sql_of(&[step.sql])) } } }
        }
    }
}

/// The values of a row, each behind its name; of several rows, a table. What is null in all of them is left out.
pub(super) fn facts(rows: &[PgRow]) -> Markup {
    let Some(first) = rows.first() else { return html! {} };
    let told = |index: &usize| rows.iter().any(|row| text(row, *index).is_some());
    let columns: Vec<usize> = (0..first.columns().len()).filter(told).collect();
    let name = |index: usize| first.column(index).name();
    if rows.len() > 1 {
        let body = html! {
            @for row in rows {
                tr {
                    @for index in &columns {
                        @match text(row, *index) {
                            Some(text) => td data-name=(name(*index).replace('_', " ")) class=[(text.len() > LONG).then_some("long")] {
                                (valued(row, name(*index), &text))
                            },
                            None => td.none { (words::dash()) },
                        }
                    }
                }
            }
        };
        let heads: Vec<String> = columns.iter().map(|index| name(*index).replace('_', " ")).collect();
        return table("Rows", &heads.iter().map(String::as_str).collect::<Vec<_>>(), &body);
    }
    html! {
        dl.facts {
            @for index in columns {
                @if let Some(text) = text(first, index) {
                    div { dt { (name(index).replace('_', " ")) } dd { (valued(first, name(index), &text)) } }
                }
            }
        }
    }
}

/// A value as its column wants it: a state in its colour, and the number of another event as a link to it.
fn valued(row: &PgRow, column: &str, value: &str) -> Markup {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    match column {
        "status" | "state" | "progress" | "outcome" if !is_number => words::state(value),
        "id" if is_number && row.try_get_raw("event_id").is_ok() => {
            html! { a href={ "/events/" (value) } { (value) } }
        }
        _ => html! { (value) },
    }
}

fn text(row: &PgRow, index: usize) -> Option<String> {
    // An error here means that there is no value.
    let text = row.try_get_raw(index).ok()?.as_str().ok().map(to_milliseconds)?;
    Some(match (row.column(index).type_info().name(), text.as_str()) {
        ("BOOL", "t") => "yes".to_owned(),
        ("BOOL", "f") => "no".to_owned(),
        _ => text,
    })
}

/// A time as our sessions write it, without what nobody reads: microseconds, and that it is UTC.
fn to_milliseconds(text: &str) -> String {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let is_time = shape.starts_with("0000-00-00 00:00:00") && shape.ends_with("+00");
    if is_time && text.is_ascii() {
        text[..text.len() - 3].chars().take(23).collect()
    } else {
        text.to_owned()
    }
}

/// The body of an event, as it came. Nothing: there is no such event.
pub(super) async fn payload(reader: &Reader, id: i64) -> Result<Option<Markup>, Problem> {
    const PAYLOAD: &str = "select payload, raw from restante.page_payload($1::bigint)";
    let found = reader.rows(&Query::with(PAYLOAD, [id.to_string()])).await?;
    Ok(found.first().map(|row| {
        let json: Option<String> = row.try_get("payload").ok().flatten();
        let raw: Option<Vec<u8>> = row.try_get("raw").ok().flatten();
        let whole = json
            .or_else(|| raw.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
            .unwrap_or_default();
        body(&whole)
    }))
}

/// A text of any length, cut where it is too long for a page.
pub(super) fn body(whole: &str) -> Markup {
    let shown = words::beginning(whole, SHOWN_BYTES);
    let characters = |text: &str| words::number(i64::try_from(text.chars().count()).unwrap_or(i64::MAX));
    html! {
        pre.body tabindex="0" role="group" aria-label="The text" { (shown) }
        @if shown.len() < whole.len() {
            p.nothing { "The first " (characters(shown)) " characters of " (characters(whole)) "." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ends_with_its_milliseconds_and_all_else_stays_as_it_is() {
        assert_eq!(to_milliseconds("2026-11-28 02:47:20.038658+00"), "2026-11-28 02:47:20.038");
        assert_eq!(to_milliseconds("2026-11-28 02:47:20+00"), "2026-11-28 02:47:20");
        for other in ["sesn_1", "{\"rows\": 1}", "00:00:20.038658", "2026-11-28 02:47:20 ü+00"] {
            assert_eq!(to_milliseconds(other), other);
        }
    }
}
