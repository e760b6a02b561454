//! What the headers of an answer say of limits.

use reqwest::header::HeaderMap;

/// The limits that an answer names.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Limits {
    /// Requests a second. The API names them for a minute.
    pub(super) per_second: Option<f64>,
    /// The limit on the scarcest kind of token, and how many are left of it.
    pub(super) tokens: Option<(i64, i64)>,
}

impl Limits {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let number = |name: &str| -> Option<i64> {
            let text = headers.get(format!("anthropic-ratelimit-{name}"))?.to_str().ok()?;
            text.trim().parse().ok().filter(|number| *number >= 0)
        };
        let limit = number("requests-limit").filter(|limit| *limit > 0);
        let tokens = ["tokens", "input-tokens", "output-tokens"].into_iter().filter_map(|kind| {
            let limit = number(&format!("{kind}-limit")).filter(|limit| *limit > 0)?;
            Some((limit, number(&format!("{kind}-remaining"))?.min(limit)))
        });
        let left = |(limit, left): &(i64, i64)| *left as f64 / *limit as f64;
        Self {
            per_second: limit.map(|limit| limit as f64 / 60.0),
            tokens: tokens.min_by(|one, other| left(one).total_cmp(&left(other))),
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn limits(headers: &[(&'static str, &'static str)]) -> Limits {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        Limits::of(&headers.iter().map(header).collect())
    }

    #[test]
    fn a_limit_of_a_minute_becomes_that_of_a_second_and_the_scarcest_token_counts() {
        let seen = limits(&[
            ("anthropic-ratelimit-requests-limit", "4000"),
            ("anthropic-ratelimit-input-tokens-limit", "1000000"),
            ("anthropic-ratelimit-input-tokens-remaining", "900000"),
            ("anthropic-ratelimit-output-tokens-limit", "200000"),
            ("anthropic-ratelimit-output-tokens-remaining", "4000"),
        ]);
        assert_eq!(seen, Limits { per_second: Some(4000.0 / 60.0), tokens: Some((200_000, 4000)) });
    }

    #[test]
    fn what_is_no_limit_is_left_out() {
        for value in ["0", "-5", "many", "1e3"] {
            assert_eq!(
                limits(&[("anthropic-ratelimit-requests-limit", value)]),
                Limits::default(),
                "{value}"
            );
        }
        assert_eq!(limits(&[("anthropic-ratelimit-tokens-limit", "100")]), Limits::default());
    }
}
