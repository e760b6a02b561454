//! How the page looks: a heading for each step, a line for each row, and the SQL below.

use restante::internals::outbox::life::{Row, Step};
use sqlx::postgres::PgRow;
use sqlx::{Column, Row as _};

/// The first line of an event.
pub(super) fn title(event: &Row) -> String {
    let of = event.key.as_ref().map(|key| format!(" of {}", clean(key))).unwrap_or_default();
    format!("{}: {}{of}, from {}\n", clean(&event.event_id), clean(&event.event_type), clean(&event.sender))
}

/// The line above the steps of one row.
pub(super) fn subtitle(row: &Row) -> String {
    match row.subscriber.as_str() {
        "" => format!("\nFor the handler of its type (id {})\n", row.id),
        subscriber => format!("\nFor the subscriber {} (id {})\n", clean(subscriber), row.id),
    }
}

/// A step with its rows; nothing, if there are none.
///
/// # Errors
/// If a value is no text.
pub(super) fn step(step: &Step, rows: &[PgRow]) -> sqlx::Result<String> {
    if rows.is_empty() {
        return Ok(String::new());
    }
    let mut text = format!("\n{}\n", step.title);
    for row in rows {
        text += &format!("    {}\n", line(row)?);
    }
    Ok(text + &format!("  {};\n", clean(&step.sql)))
}

/// The values of a row, each behind its name. A null is left out.
fn line(row: &PgRow) -> sqlx::Result<String> {
    let mut values = Vec::new();
    for (index, column) in row.columns().iter().enumerate() {
        let value = row.try_get_raw(index)?;
        // An error here means that there is no value.
        if let Ok(value) = value.as_str() {
            values.push(format!("{} {}", column.name(), clean(value)));
        }
    }
    Ok(values.join(", "))
}

/// What is said of an event that is not there.
pub(super) fn not_found(event: &str, seen: Option<&str>) -> String {
    let event = clean(event);
    match seen {
        Some(seen) => format!(
            "{event} was stored at {seen} UTC, and is no longer in the outbox: its week of the history was dropped, or somebody deleted it\n"
        ),
        None => format!(
            "there is no event {event}: it never arrived, or arrived under another identifier (restante.received(since, until) shows what came)\n"
        ),
    }
}

/// Text for a terminal: what would control it is replaced.
fn clean(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}
