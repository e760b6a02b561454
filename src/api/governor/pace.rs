//! The pace of one class of calls, by what this process knows: when the next call may begin. What it learns: `learned`.

mod learned;

use std::collections::VecDeque;
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

/// The pace never falls lower, so that it is noticed when the API takes calls again.
const LOWEST: f64 = 0.05;

/// While the budget does not answer, each process takes this share of the limit.
const SHARE_ALONE: f64 = 0.25;

/// A place is kept so long for a call that comes late. So no second has more than a quarter more calls than the pace.
const LATE: Duration = Duration::from_millis(250);

/// Where places are scarce, leases are so far apart.
const LEASES_APART: Duration = Duration::from_millis(150);

/// Calls are leased ahead for the demand of so long.
const BLOCK: Duration = Duration::from_millis(400);

/// What was learned is in the shared budget within this time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// No event is sent away for longer.
const LATEST: Duration = Duration::from_secs(10 * 60);

/// What a call finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// It may begin at once.
    Free,
    /// It is one of the first, which find out whether there is a limit.
    First,
    /// It may begin then.
    At(Instant),
    /// Places have to be leased first.
    ToLease,
    /// It comes back after this wait.
    Later(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    /// No answer has come yet. It is asked once whether the other workers know more.
    Nothing { is_asked: bool },
    /// The answers name no limit.
    NoLimit,
    /// Calls a second, at which places are leased.
    Limit,
}

#[derive(Debug)]
pub(super) struct Pace {
    /// How many calls wait for a place.
    pub(super) waiting: u32,
    known: Known,
    limit: Option<f64>,
    limit_at: Instant,
    is_limit_news: bool,
    /// Calls a second without the shared budget, and when that was true.
    pace: f64,
    paced_at: Instant,
    limited_at: Option<Instant>,
    /// The last 429s of an API that names no limit.
    refused: VecDeque<Instant>,
    recovered_at: Option<Instant>,
    is_recovery_news: bool,
    not_before: Option<Instant>,
    tokens: Option<(i64, i64)>,
    tokens_noted_at: Option<Instant>,
    /// The moment of the next place that is leased here.
    next: Instant,
    places: VecDeque<Instant>,
    /// Until then no lease is tried, because all places ahead are taken.
    full_until: Option<Instant>,
    /// The latest moment at which somebody was told to come back.
    told: Option<Instant>,
    /// The calls of the last second.
    seen: VecDeque<Instant>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waiting: 0,
            known: Known::Nothing { is_asked: false },
            limit: None,
            limit_at: now,
            is_limit_news: false,
            pace: f64::INFINITY,
            paced_at: now,
            limited_at: None,
            refused: VecDeque::new(),
            recovered_at: None,
            is_recovery_news: false,
            not_before: None,
            tokens: None,
            tokens_noted_at: None,
            next: now,
            places: VecDeque::new(),
            full_until: None,
            told: None,
            seen: VecDeque::new(),
        }
    }

    /// Neither an answer nor another worker has named the limit of this class.
    pub(super) fn names_no_limit(&self) -> bool {
        !matches!(self.known, Known::Limit)
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.known, Known::Nothing { .. })
    }

    /// Where a call may begin. A place is taken by that.
    pub(super) fn place(&mut self, now: Instant) -> Place {
        if let Some(until) = self.not_before.filter(|until| *until > now + super::AHEAD) {
            return self.later(until, now);
        }
        while self.places.front().is_some_and(|place| *place + LATE < now) {
            self.places.pop_front();
        }
        match self.known {
            Known::Nothing { is_asked: true } if !self.is_ramping(now) => Place::First,
            Known::NoLimit if !self.is_ramping(now) && self.not_before.is_none_or(|until| until <= now) => {
                self.note_call(now);
                Place::Free
            }
            _ => match (self.places.pop_front(), self.full_until) {
                (Some(place), _) => Place::At(place.max(now)),
                (None, Some(until)) if until > now => self.later(until + super::AHEAD, now),
                (None, _) => Place::ToLease,
            },
        }
    }

    /// A call begins at its place, unless the API has asked for a wait meanwhile.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let begins = self.not_before.is_none_or(|until| until <= now);
        if begins {
            self.note_call(now);
        }
        begins
    }

    /// Is there still no place, now that it is this call's turn to lease some?
    pub(super) fn must_lease(&self, now: Instant) -> bool {
        self.places.iter().all(|place| *place + LATE < now)
            && self.full_until.is_none_or(|until| until <= now)
            && (self.known != Known::Nothing { is_asked: true } || self.is_ramping(now))
    }

    /// How many places to lease: for all who wait, and for those who are likely to come soon.
    pub(super) fn wanted(&mut self, now: Instant) -> u32 {
        let soon = self.seen_per_second(now) * BLOCK.as_secs_f64();
        self.waiting.max(soon as u32).max(1)
    }

    /// Takes places from the shared budget.
    pub(super) fn take(
        &mut self,
        (granted, wanted): (u32, u32),
        starts_at: Instant,
        per_second: f64,
        now: Instant,
    ) {
        self.known = Known::Limit;
        self.add(granted, starts_at, per_second, now);
        if (1..wanted).contains(&granted) {
            // All room ahead is taken. A little later there is room for several again, which is one lease then.
            self.full_until = Some(now + LEASES_APART);
        }
        (self.pace, self.paced_at) = (per_second, now);
    }

    /// The shared budget knows of no limit. If this process has known one for a while, an operator has deleted it, and the next
    /// answer tells it anew.
    pub(super) fn forget_limit(&mut self, now: Instant) {
        if self.limit_at + FORGOTTEN_AFTER < now {
            self.limit = None;
        }
    }

    /// Leases places from what this process knows itself: all of the limit, or a share if other workers take theirs.
    pub(super) fn lease_here(&mut self, wanted: u32, is_shared: bool, ahead: Duration, now: Instant) {
        if let Known::Nothing { is_asked } = &mut self.known {
            *is_asked = true;
        }
        let per_second = self.per_second(now) * if is_shared { SHARE_ALONE } else { 1.0 };
        if !per_second.is_finite() {
            return;
        }
        let start = self.next.max(self.not_before.unwrap_or(now)).max(now);
        let room = (now + ahead).checked_duration_since(start);
        let granted = room.map_or(0, |room| wanted.min((room.as_secs_f64() * per_second) as u32 + 1));
        self.next = start + Duration::from_secs_f64(f64::from(granted) / per_second);
        self.add(granted, start, per_second, now);
    }

    fn add(&mut self, granted: u32, start: Instant, per_second: f64, now: Instant) {
        let apart = Duration::from_secs_f64(1.0 / per_second.max(LOWEST));
        self.places.extend((0..granted).map(|nth| start + apart * nth));
        if granted == 0 {
            // Room is there once the next place is near enough.
            let near = start.checked_duration_since(now + super::AHEAD).unwrap_or_default();
            self.full_until = Some(now + near.max(apart).min(LATEST));
        }
    }

    /// How many calls began in the last second.
    pub(super) fn seen_per_second(&mut self, now: Instant) -> f64 {
        while self.seen.front().is_some_and(|at| *at + Duration::from_secs(1) < now) {
            self.seen.pop_front();
        }
        self.seen.len() as f64
    }

    fn note_call(&mut self, now: Instant) {
        self.seen.push_back(now);
        self.seen_per_second(now);
    }

    /// Sends a call away until its turn: one comes back after the other, at the pace of the limit. While the pace is lower, after trouble
    /// or a 429, some of them are sent away again; but once it has risen, there are enough of them.
    fn later(&mut self, soonest: Instant, now: Instant) -> Place {
        let pace = self.pace_at_most().clamp(LOWEST, 1000.0);
        let next = self.told.map(|told| told + Duration::from_secs_f64(1.0 / pace));
        let turn = next.map_or(soonest, |next| next.max(soonest));
        if turn > now + LATEST {
            return Place::Later(LATEST.mul_f64(rand::rng().random_range(0.5..1.0)));
        }
        self.told = Some(turn);
        Place::Later(turn - now)
    }
}
