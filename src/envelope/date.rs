//! When an event happened: the ways in which senders write it, and the years in which every client can read it.

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

use super::members::scalar;

/// A number above this is in milliseconds, any other in seconds: as seconds, this one is the year 5138.
const SECONDS_MAX: f64 = 1e11;

/// Forms without an offset, read as UTC.
const WITHOUT_OFFSET: [&str; 2] = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];

/// The time in a member; `None` if the member holds no time.
pub(super) fn read(value: &RawValue) -> Option<DateTime<Utc>> {
    let text = scalar(value)?;
    let text = text.trim();
    // A number in quotes counts as a number too, unless it is short: that may be a year.
    let is_number = !value.get().starts_with('"') || (text.len() >= 9 && text.bytes().all(is_of_number));
    if is_number { text.parse().ok().map(from_number) } else { from_text(text).map(clamped) }
}

/// The time of the delivery. The signature check leaves only times that Postgres can hold; any other is clamped.
pub(super) fn of_attempt(timestamp: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(timestamp, 0)
        .filter(|date| *date >= DateTime::UNIX_EPOCH)
        .map_or_else(DateTime::default, clamped)
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'.'
}

fn from_text(text: &str) -> Option<DateTime<Utc>> {
    let with_offset = DateTime::parse_from_rfc3339(text)
        .or_else(|_| text.parse())
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z"))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"));
    let without = || WITHOUT_OFFSET.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let date = with_offset.map(Into::into).ok().or_else(|| without().map(|date| date.and_utc()));
    date.or_else(|| beyond(text))
}

/// Turns a date whose year has too many digits for chrono into the earliest or latest date that chrono knows.
fn beyond(text: &str) -> Option<DateTime<Utc>> {
    let (unsigned, is_negative) = match text.strip_prefix('-') {
        Some(unsigned) => (unsigned, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    let (year, rest) = unsigned.split_once('-')?;
    let is_date = year.len() > 4 && year.bytes().all(|digit| digit.is_ascii_digit());
    let month_and_day = NaiveDate::parse_from_str(&format!("2024-{}", rest.get(..5)?), "%Y-%m-%d");
    (is_date && month_and_day.is_ok()).then_some(if is_negative {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    })
}

/// Seconds or milliseconds since 1970, to the microsecond, the precision of Postgres.
fn from_number(number: f64) -> DateTime<Utc> {
    let seconds = if number.abs() > SECONDS_MAX { number / 1e3 } else { number };
    // The cast saturates, so a number beyond every year stays beyond the last year.
    let microseconds = (seconds * 1e6).round() as i64;
    let date = DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::microseconds(microseconds));
    clamped(date.unwrap_or(if microseconds < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    }))
}

/// A date becomes the nearest one that is inside the years 1 to 9999 in every time zone: with any other, clients in many
/// languages could not read a single row of the table any more.
fn clamped(date: DateTime<Utc>) -> DateTime<Utc> {
    let noon = |year, month, day| {
        let day = NaiveDate::from_ymd_opt(year, month, day).unwrap_or_default();
        day.and_hms_opt(12, 0, 0).unwrap_or_default().and_utc()
    };
    date.clamp(noon(1, 1, 2), noon(9999, 12, 30))
}
