//! Charts of the last day, drawn here as SVG: a bar for each hour. Colours come from the style sheet.

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use maud::{Markup, html};

use super::words;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 160.0;

/// Room for the words below and above the bars.
const BELOW: f64 = 24.0;
const ABOVE: f64 = 22.0;

/// A part of a bar.
pub(super) struct Part {
    /// Its class in the style sheet.
    pub(super) class: &'static str,
    pub(super) value: f64,
}

/// An hour: the parts of its bar from below, and what is said of it in words.
pub(super) struct Hour {
    pub(super) hour: DateTime<Utc>,
    pub(super) parts: Vec<Part>,
    pub(super) said: String,
}

/// Bars for the 25 hours up to the newest one. `top` says a value in words, and `said` the whole chart.
pub(super) fn bars(hours: &[Hour], until: DateTime<Utc>, top: impl Fn(f64) -> String, said: &str) -> Markup {
    let total = |hour: &Hour| hour.parts.iter().map(|part| part.value).sum::<f64>();
    let most = hours.iter().map(total).fold(0.0, f64::max);
    let first = beginning_of_hour(until) - TimeDelta::hours(24);
    let step = WIDTH / 25.0;
    let scale = if most > 0.0 { (HEIGHT - BELOW - ABOVE) / most } else { 0.0 };
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(said) {
            line.axis x1="0" x2=(WIDTH) y1=(HEIGHT - BELOW) y2=(HEIGHT - BELOW) {}
            line.grid x1="0" x2=(WIDTH) y1=(ABOVE) y2=(ABOVE) {}
            text.tick x="0" y=(ABOVE - 5.0) { (top(most)) }
            @for place in 0..25_i32 {
                @let hour = first + TimeDelta::hours(i64::from(place));
                @let left = f64::from(place) * step;
                @if hour.hour().is_multiple_of(6) {
                    // The word of the last hour ends where the chart does.
                    @let is_last = place == 24;
                    text.tick x=(if is_last { rounded(WIDTH) } else { rounded(left) }) y=(HEIGHT - 4.0) text-anchor=[is_last.then_some("end")] { (hour.format("%H:%M")) }
                }
                @for found in hours.iter().filter(|found| found.hour == hour) {
                    g {
                        title { (hour.format("%H:%M")) " UTC: " (found.said) }
                        rect.hit x=(rounded(left)) y="0" width=(rounded(step)) height=(HEIGHT - BELOW) {}
                        (stacked(found, left + 2.0, step - 4.0, scale))
                    }
                }
            }
        }
    }
}

/// The parts of a bar, one on top of the other. What is not nothing can be seen.
fn stacked(hour: &Hour, left: f64, width: f64, scale: f64) -> Markup {
    let mut below = HEIGHT - BELOW;
    html! {
        @for part in hour.parts.iter().filter(|part| part.value > 0.0) {
            @let height = (part.value * scale).max(1.5);
            @let () = below -= height;
            rect class=(part.class) x=(rounded(left)) y=(rounded(below)) width=(rounded(width)) height=(rounded(height)) rx="1" {}
        }
    }
}

fn beginning_of_hour(time: DateTime<Utc>) -> DateTime<Utc> {
    time - TimeDelta::seconds(i64::from(time.minute() * 60 + time.second()))
        - TimeDelta::nanoseconds(i64::from(time.nanosecond()))
}

fn rounded(value: f64) -> String {
    format!("{value:.1}")
}

/// A number of events, as the top of a chart.
pub(super) fn events(value: f64) -> String {
    let count = value as i64;
    format!("{} events in an hour", words::number(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tallest_bar_reaches_the_top_and_parts_stand_on_each_other() {
        let until = "2026-11-28T12:34:56Z".parse().unwrap();
        let hour = |hour: &str, done, failed| Hour {
            hour: hour.parse().unwrap(),
            parts: vec![Part { class: "done", value: done }, Part { class: "failed", value: failed }],
            said: format!("{done} done"),
        };
        let hours = [hour("2026-11-28T12:00:00Z", 90.0, 10.0), hour("2026-11-28T11:00:00Z", 50.0, 0.0)];

        let svg = bars(&hours, until, events, "a chart").into_string();

        assert!(svg.contains("100 events in an hour"), "{svg}");
        // 114 of 160 units are for bars: 90 of 100 are 102.6, and the rest ends at the top.
        assert!(svg.contains(r#"class="done" x="693.2" y="33.4""#), "{svg}");
        assert!(svg.contains(r#"class="failed" x="693.2" y="22.0""#), "{svg}");
        assert_eq!(svg.matches("class=\"failed\"").count(), 1, "{svg}");
    }

    #[test]
    fn the_last_hour_is_named_within_the_chart() {
        let svg = bars(&[], "2026-11-28T12:34:56Z".parse().unwrap(), events, "a chart").into_string();

        assert!(svg.contains(r#"x="720.0" y="156" text-anchor="end">12:00<"#), "{svg}");
        assert!(svg.contains(r#"x="0.0" y="156">12:00<"#), "{svg}");
    }
}
