//! A part of the API, by the beginning of its paths, and when it may be asked.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use crate::api::Error;

/// After so many failures in a row a part of the API counts as being in trouble.
pub(super) const FAILURES_MIN: u32 = 10;

/// While a part is in trouble, nobody who was not answered comes back sooner.
pub(super) const SOONEST: Duration = Duration::from_secs(5);

/// While a part is in trouble, one that comes back follows another by this.
pub(super) const APART: Duration = Duration::from_millis(100);

/// No wait of ours is longer.
pub(super) const LATEST: Duration = Duration::from_secs(10 * 60);

/// While a part is in trouble, so many requests are under way at once, where each takes its time to fail.
const AT_ONCE: usize = 4;

/// The longest wait that the API can ask for on behalf of a whole part.
const ASKED_MAX: Duration = Duration::from_secs(5 * 60);

/// A part of the API whose requests tend to fail together.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// How many requests have failed since one was answered.
    pub(super) failures: u32,
    /// The first of them.
    pub(super) since: Option<Instant>,
    /// What was said last.
    pub(super) said: String,
    /// The kind of that.
    pub(super) kind: &'static str,
    /// The next request may be made then.
    next: Option<Instant>,
    last: Option<Instant>,
    /// The latest time at which somebody was told to come back.
    told: Option<Instant>,
    pub(super) under_way: usize,
    /// How many requests were answered.
    pub(super) answers: u64,
    /// The breaker that workers share is open for it.
    pub(super) held: Option<Held>,
}

/// Why a part is held.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The kind of the last error.
    pub(super) kind: &'static str,
    /// What the API said.
    pub(super) said: String,
    /// This worker tries whether it answers, so it asks.
    pub(super) is_probed: bool,
}

impl Part {
    pub(super) fn is_in_trouble(&self) -> bool {
        self.has_failed() || self.held.is_some()
    }

    /// Has it answered this process so often in a row with a failure that it is in trouble?
    pub(super) fn has_failed(&self) -> bool {
        self.failures >= FAILURES_MIN
    }

    /// Notes that a request begins at `now`, unless it must not begin.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Error> {
        if let Some(held) = self.held.as_ref().filter(|held| !held.is_probed) {
            // It is released when the part answers, so it need not come back before.
            let wait = LATEST.mul_f64(rand::rng().random_range(0.5..1.0));
            return Err(Error::NotAsked { wait, kind: held.kind, said: held.said.clone(), is_first: false });
        }
        if self.is_in_trouble() {
            let is_full = self.under_way >= AT_ONCE && self.last.is_some_and(|last| now < last + SOONEST);
            if is_full || self.next.is_some_and(|next| now < next) {
                return Err(self.not_asked(now));
            }
            self.next = Some(now + APART);
        }
        self.under_way += 1;
        self.last = Some(now);
        Ok(())
    }

    /// Notes that a request failed at `now`. Returns since when requests have been failing.
    pub(super) fn failed(&mut self, now: Instant, said: String, error: &Error) -> Instant {
        self.failures = self.failures.saturating_add(1);
        self.said = said;
        self.kind = error.kind();
        if let Some(wait) = error.retry_after() {
            self.next = self.next.max(Some(now + wait.min(ASKED_MAX)));
        }
        *self.since.get_or_insert(now)
    }

    /// Notes that a request was answered, which ends any trouble but one that workers share.
    pub(super) fn answered(&mut self) {
        let (held, answers) = (self.held.take(), self.answers + 1);
        *self = Self { under_way: self.under_way, kind: self.kind, answers, held, ..Self::default() };
    }

    /// Forgets all failures.
    pub(super) fn begin_anew(&mut self) {
        *self = Self { under_way: self.under_way, answers: self.answers, ..Self::default() };
    }

    fn not_asked(&mut self, now: Instant) -> Error {
        let is_first = self.told.is_none();
        Error::NotAsked { wait: self.come_back(now), kind: self.kind, said: self.said.clone(), is_first }
    }

    /// How long the next one waits that is not to ask now: in a row behind the others, unless the row is very long.
    fn come_back(&mut self, now: Instant) -> Duration {
        let soonest = (now + SOONEST).max(self.next.unwrap_or(now));
        let turn = self.told.map_or(soonest, |told| soonest.max(told + APART));
        if turn > soonest + LATEST {
            return soonest - now + LATEST.mul_f64(rand::rng().random_range(0.0..1.0));
        }
        self.told = Some(turn);
        turn - now
    }
}

/// The part of the API that a path belongs to. Batches are one of their own: they may answer while no message is taken.
pub(super) fn name_of(path: &str) -> &str {
    let (_, rest) = path.split_once("/v1/").unwrap_or(("", path));
    let mut segments = rest.trim_start_matches('/').split(['/', '?']);
    match (segments.next().unwrap_or_default(), segments.next()) {
        ("messages", Some(batches @ "batches")) => batches,
        (first, _) => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_what_follows_the_version_and_batches_are_one() {
        for (path, expected) in [
            ("/v1/messages", "messages"),
            ("/v1/messages/batches?limit=1", "batches"),
            ("/gateway/v1/messages/batches/a/results", "batches"),
            ("/gateway/v1/sessions/a/events", "sessions"),
            ("/elsewhere", "elsewhere"),
            ("/v1/organizations/external_keys/a", "organizations"),
        ] {
            assert_eq!(name_of(path), expected, "{path}");
        }
    }
}
