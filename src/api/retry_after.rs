//! How long the API asks to wait.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The longest wait that is obeyed, in seconds. Asking again after an hour costs one request.
const SECONDS_MAX: f64 = 3600.0;

/// The wait: `retry-after-ms`, else `retry-after` in seconds (fractions too), else `retry-after` as an HTTP date, in
/// the order of the official SDKs. `None` if no header asks for a wait above zero.
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str| text.parse().ok();
    let positive = |seconds: &f64| seconds.is_finite() && *seconds > 0.0;
    let milliseconds: Option<f64> = text("retry-after-ms").and_then(number);
    milliseconds
        .map(|milliseconds| milliseconds / 1000.0)
        .filter(positive)
        .or_else(|| {
            let asked = text(RETRY_AFTER.as_str())?;
            number(asked).or_else(|| seconds_until(asked, now)).filter(positive)
        })
        .map(|seconds| Duration::from_secs_f64(seconds.min(SECONDS_MAX)))
}

fn seconds_until(http_date: &str, now: DateTime<Utc>) -> Option<f64> {
    let then = DateTime::parse_from_rfc2822(http_date).ok()?;
    Some((then.with_timezone(&Utc) - now).as_seconds_f64())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    fn wait(headers: &[(&'static str, &'static str)]) -> Option<Duration> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        retry_after(&headers, "2026-11-22T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_wait_is_read_in_each_of_its_forms_and_capped() {
        let cases = [
            ("5", Some(5.0)),
            ("0.25", Some(0.25)),
            (" 61 ", Some(61.0)),
            ("86400", Some(3600.0)),
            ("1e300", Some(3600.0)),
            ("Sun, 22 Nov 2026 10:01:30 GMT", Some(90.0)),
            ("Mon, 23 Nov 2026 10:01:30 GMT", Some(3600.0)),
            ("Sun, 22 Nov 2026 09:59:59 GMT", None),
            ("0", None),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("abc", None),
            ("", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(wait(&[("retry-after", value)]), seconds.map(Duration::from_secs_f64), "{value}");
        }
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn milliseconds_come_first_unless_they_are_nonsense() {
        let both = |milliseconds| wait(&[("retry-after", "7"), ("retry-after-ms", milliseconds)]);

        assert_eq!(both("1500.5"), Some(Duration::from_micros(1_500_500)));
        for nonsense in ["0", "-3", "NaN", "soon"] {
            assert_eq!(both(nonsense), Some(Duration::from_secs(7)), "{nonsense}");
        }
    }
}
