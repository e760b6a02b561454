//! The limit on requests that the fault `limit_per_second` enforces, and the headers that tell of it.
//!
//! The real API counts messages, batches and the rest apart, so there is a bucket for each. A bucket holds what one second
//! brings, and fills again without steps, as the API's documents say of its own.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::time::{Duration, Instant};

/// What is left of the limit, by the kind of call.
#[derive(Debug, Default)]
pub(super) struct Buckets(HashMap<&'static str, Bucket>);

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// What the headers of an answer say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Standing {
    per_second: u32,
    left: f64,
    /// May this request pass?
    pub(super) is_within: bool,
}

impl Buckets {
    /// Takes one request to this path out of its bucket at `now`, if it is not empty.
    pub(super) fn take(&mut self, path: &str, per_second: u32, now: Instant) -> Standing {
        let most = f64::from(per_second);
        let bucket = self.0.entry(kind(path)).or_insert(Bucket { left: most, at: now });
        let filled = bucket.left + now.duration_since(bucket.at).as_secs_f64() * most;
        (bucket.left, bucket.at) = (filled.min(most), now);
        let is_within = bucket.left >= 1.0;
        if is_within {
            bucket.left -= 1.0;
        }
        Standing { per_second, left: bucket.left, is_within }
    }
}

impl Standing {
    /// The headers, of which the limit is for a minute.
    pub(super) fn headers(&self, now: DateTime<Utc>) -> [(&'static str, String); 3] {
        let missing = f64::from(self.per_second) - self.left;
        let full_after = Duration::from_secs_f64(missing / f64::from(self.per_second.max(1)));
        [
            ("anthropic-ratelimit-requests-limit", (u64::from(self.per_second) * 60).to_string()),
            ("anthropic-ratelimit-requests-remaining", self.left.floor().to_string()),
            (
                "anthropic-ratelimit-requests-reset",
                (now + full_after).to_rfc3339_opts(SecondsFormat::Secs, true),
            ),
        ]
    }
}

fn kind(path: &str) -> &'static str {
    match path.strip_prefix("/v1/messages") {
        Some(rest) if rest.starts_with("/batches") => "batches",
        Some(_) => "messages",
        None => "objects",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCHES: &str = "/v1/messages/batches";

    #[test]
    fn a_bucket_holds_what_a_second_brings_and_fills_without_steps() {
        let (mut buckets, start) = (Buckets::default(), Instant::now());
        let mut passed = |after: u64| {
            let at = start + Duration::from_millis(after);
            (0..100).filter(|_| buckets.take(BATCHES, 10, at).is_within).count()
        };

        assert_eq!([0, 0, 300, 5000].map(&mut passed), [10, 0, 3, 10]);
    }

    #[test]
    fn messages_and_batches_are_counted_apart() {
        let (mut buckets, now) = (Buckets::default(), Instant::now());
        assert!(buckets.take(BATCHES, 1, now).is_within);
        assert!(!buckets.take("/v1/messages/batches/b", 1, now).is_within);
        assert!(buckets.take("/v1/messages", 1, now).is_within);
        assert!(buckets.take("/v1/sessions/s", 1, now).is_within);
    }
}
