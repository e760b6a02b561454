//! When an event happened: the ways in which senders write it, and the years in which every client can read it.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

use super::members::scalar;

/// A number above this counts milliseconds, any other one seconds: as seconds it would be the year 5138.
const SECONDS_MAX: f64 = 1e11;

/// What has no offset is UTC.
const WITHOUT_OFFSET: [&str; 2] = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];

/// The time that a member says; none, where it says none.
pub(super) fn read(value: &RawValue) -> Option<DateTime<Utc>> {
    let text = scalar(value)?;
    let text = text.trim();
    // A number in quotes is one too, but a mere year is none.
    let is_number = !value.get().starts_with('"') || (text.len() >= 9 && text.bytes().all(is_of_number));
    if is_number { text.parse().ok().map(from_number) } else { from_text(text).map(clamped) }
}

/// The time of the attempt, which no verified delivery has outside the years that Postgres can hold.
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

/// A date whose year has so many digits that the calendar here has no room for it, as far away as it goes.
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

/// Seconds or milliseconds since 1970, to the microsecond: more the database does not keep.
fn from_number(number: f64) -> DateTime<Utc> {
    let seconds = if number.abs() > SECONDS_MAX { number / 1e3 } else { number };
    // A cast saturates, so that what is beyond every year is beyond the last one here.
    let microseconds = (seconds * 1e6).round() as i64;
    let date = DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::microseconds(microseconds));
    clamped(date.unwrap_or(if microseconds < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    }))
}

/// A date outside the years 1 to 9999 becomes the nearest one that lies within them in every time zone: with any other,
/// clients in many languages could not read a single row of the table any more.
fn clamped(date: DateTime<Utc>) -> DateTime<Utc> {
    let noon = |year, month, day| {
        let day = NaiveDate::from_ymd_opt(year, month, day).unwrap_or_default();
        day.and_hms_opt(12, 0, 0).unwrap_or_default().and_utc()
    };
    match date.year() {
        ..1 => noon(1, 1, 2),
        1..=9999 => date,
        _ => noon(9999, 12, 30),
    }
}
