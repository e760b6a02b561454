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
pub(super) fn progress(label: &str, whose: &Markup, done: i64, of: i64) -> Markup {
    let share = if of > 0 { done.clamp(0, of) * 100 / of } else { 0 };
    html! {
        span.progress {
            progress max="100" value=(share) aria-label={ (label) (whose) } { (share) " %" }
            " " (number(done)) " of " (number(of))
        }
    }
}

/// An identifier that is a key: a link to what happened to it.
pub(super) fn key(key: Option<&str>) -> Markup {
    ROOMS[0].key(key)
}

/// How many bytes of a page the words of a list may take up, each as it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// A word itself. What is longer is cut.
    word: usize,
    /// The whole of a word, which shows when it is pointed at. What is longer is left out: the page of the event has it.
    whole: usize,
    /// A link with a word in it. What is longer is no link.
    link: usize,
}

/// From all that there is to what is left of the longest words that the database lets in.
pub(super) const ROOMS: [Room; 4] = [
    Room { word: usize::MAX, whole: usize::MAX, link: usize::MAX },
    Room { word: 200, whole: 400, link: 600 },
    Room { word: 100, whole: 150, link: 200 },
    Room { word: 40, whole: 0, link: 100 },
];

impl Room {
    /// A word.
    pub(super) fn word(self, word: &str) -> Markup {
        let beginning = beginning(word, self.word);
        html! { (beginning) @if beginning.len() < word.len() { "…" } }
    }

    pub(super) fn word_or_dash(self, word: Option<&str>) -> Markup {
        word.filter(|word| !word.is_empty()).map_or_else(dash, |word| self.word(word))
    }

    /// An event that has a page of its own.
    pub(super) fn event(self, id: i64, event_id: &str) -> Markup {
        html! { a.id href={ "/events/" (id) } title=[self.whole(event_id)] { (self.word(event_id)) } }
    }

    /// An identifier that is a key: a link to what happened to it.
    pub(super) fn key(self, key: Option<&str>) -> Markup {
        let Some(key) = key else { return dash() };
        let query: String =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("find", key).finish();
        html! {
            @if query.len() <= self.link {
                a.id href={ "/events?" (query) } title=[self.whole(key)] { (self.word(key)) }
            } @else {
                span.id title=[self.whole(key)] { (self.word(key)) }
            }
        }
    }

    /// A long text in one line, whole when pointed at.
    pub(super) fn cut(self, text: Option<&str>) -> Markup {
        let Some(text) = text else { return dash() };
        html! { span.cut title=[self.whole(text)] { (self.word(text)) } }
    }

    fn whole(self, text: &str) -> Option<&str> {
        (beginning(text, self.whole).len() == text.len()).then_some(text)
    }
}

/// As much of a text as takes up so many bytes at most when it is written: a quote takes up six.
pub(super) fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut bytes = 0;
    let end = text.char_indices().find(|(_, c)| {
        bytes += match c {
            '&' => 5,
            '<' | '>' => 4,
            '"' => 6,
            c => c.len_utf8(),
        };
        bytes > bytes_max
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
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
    fn a_text_is_cut_by_what_is_written_of_it_and_between_two_characters() {
        for (text, bytes, expected) in [
            ("a\"b", 6, "a"),
            ("a\"b", 7, "a\""),
            ("a\"b", 8, "a\"b"),
            ("é€", 4, "é"),
            ("<&>", 9, "<&"),
            ("", 0, ""),
        ] {
            assert_eq!(beginning(text, bytes), expected, "{text} {bytes}");
            assert!(html! { (beginning(text, bytes)) }.into_string().len() <= bytes);
        }
    }

    #[test]
    fn what_others_wrote_is_never_markup() {
        let hostile = "<img src=x onerror=alert(1)>\"'&";
        let drawn = ROOMS.map(|room| {
            let drawn =
                [room.key(Some(hostile)), room.cut(Some(hostile)), state(hostile), room.event(1, hostile)];
            drawn.map(Markup::into_string).concat()
        });
        for markup in drawn {
            assert!(!markup.contains("<img") && !markup.contains("\"'&"), "{markup}");
        }
    }
}
