//! What this process learns of the limit from answers, and the pace that follows from it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Known, LOWEST, Pace};
use crate::api::governor::limits::Limits;

/// The pace stays so far below the limit, because the clocks of the API and of the database differ a little.
const SHARE_OF_LIMIT: f64 = 0.97;

/// The pace grows by this share of the limit each second after a 429.
const GROWTH: f64 = 0.05;

/// So many 429s within a second say that the API has a limit that it does not name.
const REFUSED_TOGETHER: usize = 4;

/// After trouble the pace begins with a quarter of the limit, and doubles each second. Where no limit is known, it begins with this.
const AFTER_TROUBLE: f64 = 25.0;
/// So long after trouble the pace is what it was, or unlimited.
const RAMP: Duration = Duration::from_secs(2);
const RAMP_WITHOUT_LIMIT: Duration = Duration::from_secs(6);

impl Pace {
    /// The pace of this process at `now`.
    pub(super) fn per_second(&mut self, now: Instant) -> f64 {
        let growth = self.limit.unwrap_or(self.pace) * GROWTH * (now - self.paced_at).as_secs_f64().min(60.0);
        let most = self.limit.map_or(f64::INFINITY, |limit| limit * SHARE_OF_LIMIT);
        (self.pace, self.paced_at) = ((self.pace + growth).min(most), now);
        let tokens = self.tokens.map_or(1.0, |(limit, left)| left as f64 / (limit as f64 * 0.1));
        let pace = self.pace * tokens.clamp(0.05, 1.0);
        match self.recovered_at {
            Some(at) if self.is_ramping(now) => {
                let begin = if pace.is_finite() { pace * 0.25 } else { AFTER_TROUBLE };
                pace.min(begin * 2_f64.powf((now - at).as_secs_f64()))
            }
            _ => pace,
        }
    }

    pub(super) fn is_ramping(&self, now: Instant) -> bool {
        let lasts = if self.known == Known::Limit { RAMP } else { RAMP_WITHOUT_LIMIT };
        self.recovered_at.is_some_and(|at| now < at + lasts)
    }

    /// Takes note of an answer. Returns whether the other workers should know of it.
    pub(in crate::api::governor) fn learn(&mut self, limits: Limits, is_success: bool, now: Instant) -> bool {
        let mut news = false;
        match limits.per_second {
            Some(limit) if self.limit != Some(limit) => {
                (self.known, self.limit, self.is_limit_news) = (Known::Limit, Some(limit), true);
                (self.pace, self.paced_at) = (self.pace.min(limit * SHARE_OF_LIMIT), now);
                self.limit_at = now;
                news = true;
            }
            None if is_success && self.is_unknown() => self.known = Known::NoLimit,
            _ => {}
        }
        if let Some((limit, left)) = limits.tokens {
            let was_scarce = self.tokens.is_some_and(|(limit, left)| left < limit / 5);
            let is_due = self.tokens_noted_at.is_none_or(|at| at + Duration::from_secs(1) <= now);
            self.tokens = Some((limit, left));
            if is_due && (was_scarce || left < limit / 5) {
                self.tokens_noted_at = Some(now);
                news = true;
            }
        }
        news
    }

    /// The pace of the limit, or of now if that is higher or no limit is known.
    pub(super) fn pace_at_most(&self) -> f64 {
        self.limit.map_or(self.pace, |limit| self.pace.max(limit * SHARE_OF_LIMIT))
    }

    /// Takes note of a 429 of an API that names no limit. Returns whether there is one all the same: several 429s within a second are
    /// not about one object.
    pub(in crate::api::governor) fn is_limited_unnamed(&mut self, now: Instant) -> bool {
        self.refused.retain(|at| *at + Duration::from_secs(1) > now);
        self.refused.push_back(now);
        if self.refused.len() < REFUSED_TOGETHER {
            return false;
        }
        self.refused.clear();
        self.known = Known::Limit;
        true
    }

    /// Takes note of a 429. Returns whether it is the first within a second.
    pub(in crate::api::governor) fn limited(&mut self, wait: Option<Duration>, now: Instant) -> bool {
        let is_first = self.limited_at.is_none_or(|at| at + Duration::from_secs(1) <= now);
        if is_first {
            let before = self.per_second(now);
            let before = if before.is_finite() { before } else { self.seen_per_second(now).max(1.0) };
            (self.pace, self.paced_at) = ((before / 2.0).max(LOWEST), now);
        }
        self.limited_at = Some(now);
        self.places.clear();
        self.not_before = self.not_before.max(wait.map(|wait| now + wait));
        is_first
    }

    pub(in crate::api::governor) fn recovered(&mut self, now: Instant) {
        (self.recovered_at, self.is_recovery_news) = (Some(now), true);
        self.places.clear();
        (self.told, self.full_until) = (None, None);
        // Whatever the wait that was asked for, the API answers.
        self.not_before = None;
    }

    pub(in crate::api::governor) fn take_news_of_limit(&mut self) -> Option<f64> {
        std::mem::take(&mut self.is_limit_news).then_some(self.limit).flatten()
    }

    pub(in crate::api::governor) fn take_news_of_recovery(&mut self) -> bool {
        std::mem::take(&mut self.is_recovery_news)
    }
}
