//! What to do next.

use std::time::{Duration, Instant};

use super::{Action, Ask, Item, Outside, Schedule, Turn};

/// While a claim is due and the worker's sign of life has run out, it looks this often whether a new one is written.
const SIGN_PAUSE: Duration = Duration::from_millis(250);

/// A claim that is due gets the next free places after this time. Until then, successors may take them.
const PLACE_WAIT: Duration = Duration::from_secs(1);

impl<T: Item> Schedule<T> {
    /// Decides what to do at `now`. The caller repeats it until it returns [`Action::Wait`].
    pub(in crate::worker) fn next(&mut self, now: Instant, outside: Outside) -> Action<T> {
        if [self.cursor.look_again_at(), self.held_keys.look_at()].into_iter().flatten().any(|at| at <= now) {
            self.make_claim_due(now);
        }
        // Before anything starts, because it may end at once and its completion reads the turn.
        let turn = self.turn_at(now);
        if turn != self.turn {
            self.turn = turn;
            return Action::SetTurn(turn);
        }
        let step = if self.is_stopping { None } else { self.start(now, outside) };
        step.or_else(|| self.hand_back(now))
            .or_else(|| self.claim(now, outside))
            .unwrap_or_else(|| Action::Wait { until: self.wait_until(now, outside) })
    }

    /// Which successors may be leased: all while no claim is due or under way, otherwise those up to the cursor, and none
    /// once a due claim has waited for a place for [`PLACE_WAIT`].
    fn turn_at(&self, now: Instant) -> Turn {
        match self.claim_due {
            _ if self.is_stopping => Turn::Nobody,
            Some(since) if now >= since + PLACE_WAIT && !self.is_claiming => Turn::Nobody,
            None if !self.is_claiming => Turn::Everybody,
            _ => Turn::until(self.cursor.reached()),
        }
    }

    /// Starts an event if one may start: a suspect once nothing else runs, others only while there is no suspect.
    fn start(&mut self, now: Instant, outside: Outside) -> Option<Action<T>> {
        if self.is_for_a_suspect() {
            if self.running > 0 || outside.settling > 0 {
                return None;
            }
            self.is_alone = false;
            if let Some(suspect) = self.waiting.next_suspect(now) {
                self.is_alone = true;
                self.running += 1;
                return Some(Action::StartAlone(suspect));
            }
        }
        if self.running >= self.concurrency {
            return None;
        }
        let item = self.waiting.next_ready(now)?;
        self.running += 1;
        Some(Action::Start(item))
    }

    /// Is the worker reserved for a suspect, which runs or waits?
    fn is_for_a_suspect(&self) -> bool {
        self.is_alone || self.waiting.has_suspect()
    }

    /// Hands back the events that could not start in time, or at the stop all events that have not started.
    fn hand_back(&mut self, now: Instant) -> Option<Action<T>> {
        let back = if self.is_stopping { self.waiting.take_all() } else { self.waiting.take_overdue(now) };
        let action = if !back.is_empty() {
            Action::HandBack(back)
        } else if !self.is_stopping && self.strays.take_due(now) {
            Action::HandBackStrays
        } else {
            return None;
        };
        self.handing_back += 1;
        Some(action)
    }

    /// Claims if a claim is due, there is room, and the sign of life counts.
    fn claim(&mut self, now: Instant, outside: Outside) -> Option<Action<T>> {
        let may_claim = self.claim_due.is_some()
            && !self.is_claiming
            && !self.is_stopping
            && !self.is_for_a_suspect()
            && outside.gives_sign(now);
        let room = if may_claim { self.room(outside) } else { 0 };
        if room == 0 {
            return None;
        }
        self.claim_due = None;
        self.is_claiming = true;
        let (cursor, settles) = (self.cursor.begin(now), self.held_keys.begin(now));
        Some(Action::Claim(Ask { limit: room, cursor, settles }))
    }

    /// How many events may be claimed. An event that is being settled keeps its place, because its successor may come
    /// with the answer. The read-ahead is refilled when half of it has started.
    fn room(&self, outside: Outside) -> usize {
        let ahead = self.read_ahead.events(self.concurrency);
        if self.waiting.ready() > ahead / 2 {
            return 0;
        }
        let taken = self.running + self.waiting.ready() + outside.settling;
        (self.concurrency + ahead).saturating_sub(taken)
    }

    /// When to decide again if nothing happens before.
    fn wait_until(&self, now: Instant, outside: Outside) -> Option<Instant> {
        if self.is_stopping {
            return None;
        }
        let for_claim = match self.claim_due {
            Some(_) if self.is_claiming => None,
            Some(_) if !outside.gives_sign(now) => Some(now + SIGN_PAUSE),
            Some(since) => Some(since + PLACE_WAIT).filter(|at| *at > now),
            None => [self.cursor.look_again_at(), self.held_keys.look_at()].into_iter().flatten().min(),
        };
        [for_claim, self.waiting.overdue_at(), self.strays.due_at()].into_iter().flatten().min()
    }
}
