//! How single values look: states, times, numbers, identifiers. Every text goes through the template, which escapes it.

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use sqlx::postgres::types::PgInterval;

/// How a state is shown: its colour, and a sign for those who see none.
fn tone(state: &str) -> (&'static str, &'static str) {
    match state {
        "ok" | "done" | "complete" | "enabled" | "answered" | "replayed" => ("ok", "✓"),
        "act"
        | "dead"
        | "failed"
        | "refused by the API"
        | "given up"
        | "disabled"
        | "lost"
        | "uncertain: a person decides" => ("act", "✕"),
        "look" | "retry" | "paused" | "will be sent again" | "cut" => ("look", "!"),
        "running"
        | "is being answered"
        | "downloading"
        | "is being downloaded"
        | "the API works on it"
        | "is being sent"
        | "under way" => ("busy", "▸"),
        _ => ("still", "·"),
    }
}

/// A state, in its word.
pub(super) fn state(state: &str) -> Markup {
    let (tone, sign) = tone(state);
    html! { span class={ "state " (tone) } { span aria-hidden="true" { (sign) } " " (state) } }
}

/// A time as people say it, from its largest unit, and exactly when pointed at.
pub(super) fn ago(at: DateTime<Utc>) -> Markup {
    let since = Utc::now() - at;
    let text = if since < TimeDelta::zero() {
        format!("in {}", lasting(-since))
    } else {
        format!("{} ago", lasting(since))
    };
    html! { time datetime=(at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)) title=(exactly(at)) { (text) } }
}

pub(super) fn ago_or_dash(at: Option<DateTime<Utc>>) -> Markup {
    at.map_or_else(dash, ago)
}

/// A time to the second, in UTC.
pub(super) fn exactly(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn lasting(time: TimeDelta) -> String {
    let seconds = time.num_seconds();
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long something lasts, as Postgres says it.
pub(super) fn interval(interval: &PgInterval) -> String {
    let days = i64::from(interval.months) * 30 + i64::from(interval.days);
    let all = TimeDelta::microseconds(interval.microseconds) + TimeDelta::days(days);
    if all < TimeDelta::zero() {
        return "over".to_owned();
    }
    match all.num_milliseconds() {
        milliseconds @ ..1_000 => format!("{milliseconds} ms"),
        _ => lasting(all),
    }
}

pub(super) fn interval_or_dash(time: Option<&PgInterval>) -> Markup {
    time.map_or_else(dash, |time| html! { (interval(time)) })
}

/// A number with its thousands apart.
pub(super) fn number(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// A number; a zero is not worth a look.
pub(super) fn count(count: i64) -> Markup {
    html! { span class=[(count == 0).then_some("faint")] { (number(count)) } }
}

/// Dollars, to four places where they are few.
pub(super) fn dollars(dollars: Option<f64>) -> Markup {
    match dollars {
        None => dash(),
        Some(0.0) => html! { span.faint { "$0" } },
        Some(dollars) if dollars < 1.0 => html! { (format!("${dollars:.4}")) },
        Some(dollars) => html! { (format!("${dollars:.2}")) },
    }
}

/// How much of something is done, as a bar and in figures.
pub(super) fn progress(label: &str, done: i64, of: i64) -> Markup {
    let share = if of > 0 { done.clamp(0, of) * 100 / of } else { 0 };
    html! {
        span.progress {
            progress max="100" value=(share) aria-label=(label) { (share) " %" }
            " " (number(done)) " of " (number(of))
        }
    }
}

/// An event that has a page of its own.
pub(super) fn event(id: i64, event_id: &str) -> Markup {
    html! { a.id href={ "/events/" (id) } title=(event_id) { (event_id) } }
}

/// An identifier that is a key: a link to what happened to it.
pub(super) fn key(key: Option<&str>) -> Markup {
    match key {
        None => dash(),
        Some(key) => {
            let query: String =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("find", key).finish();
            html! { a.id href={ "/events?" (query) } title=(key) { (key) } }
        }
    }
}

/// A long text in one line, whole when pointed at.
pub(super) fn cut(text: Option<&str>) -> Markup {
    match text {
        None => dash(),
        Some(text) => html! { span.cut title=(text) { (text) } },
    }
}

pub(super) fn text_or_dash(text: Option<&str>) -> Markup {
    text.filter(|text| !text.is_empty()).map_or_else(dash, |text| html! { (text) })
}

pub(super) fn dash() -> Markup {
    html! { span.faint { "–" } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_as_people_write_them() {
        let of = |numbers: &[i64]| numbers.iter().map(|n| number(*n)).collect::<Vec<_>>().join(" ");
        assert_eq!(of(&[0, 999, 1_000, 1_234_567, -12_345]), "0 999 1,000 1,234,567 -12,345");
        let of = |microseconds| interval(&PgInterval { months: 0, days: 0, microseconds });
        assert_eq!(
            (of(3_000), of(90_000_000), of(7_200_000_000), of(-1)),
            ("3 ms".into(), "90 s".into(), "2 h".into(), "over".into())
        );
    }

    #[test]
    fn what_others_wrote_is_never_markup() {
        let hostile = "<img src=x onerror=alert(1)>\"'&";
        let drawn = [key(Some(hostile)), cut(Some(hostile)), state(hostile), event(1, hostile)];
        for markup in drawn.map(Markup::into_string) {
            assert!(!markup.contains("<img") && !markup.contains("\"'&"), "{markup}");
        }
    }
}
