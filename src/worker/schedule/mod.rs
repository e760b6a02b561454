//! The schedule of a worker: a state machine that decides what the worker does next.
//!
//! Inputs say what happened ([`Schedule::on`]), actions say what to do ([`Schedule::next`]). The time is an argument of
//! both. The schedule has no clock, no database, no channel and no task, so a test can run a thousand histories of two
//! workers in a second (`simulation`). The dispatcher carries the actions out.
//!
//! The parts, one file each:
//!
//! * `waiting`: what was claimed and has not started, and when it is handed back;
//! * `claim_cursor`: where in the order of events the next claim begins to look;
//! * `read_ahead`: how many events are claimed beyond the free places;
//! * `turn`: which successors are leased together with a completion;
//! * `held_keys`: when to look again at keys that another session has locked;
//! * `strays`: when to hand back events whose lease came in a lost answer.

mod claim_cursor;
mod decide;
mod held_keys;
mod interface;
mod read_ahead;
#[cfg(test)]
mod simulation;
mod strays;
#[cfg(test)]
mod tests;
mod turn;
mod waiting;

use std::time::Instant;

use claim_cursor::{ClaimCursor, Scan};
use held_keys::HeldKeys;
pub(super) use interface::{Action, Ask, Claimed, Input, Item, Outside};
use read_ahead::ReadAhead;
pub(super) use strays::STRAY_AGE;
use strays::Strays;
pub(super) use turn::Turn;
use waiting::Waiting;

/// The state of one worker.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    concurrency: usize,
    /// How many attempts are under way.
    running: usize,
    /// Is the only one of them a suspect?
    is_alone: bool,
    waiting: Waiting<T>,
    /// Since when a claim is due.
    claim_due: Option<Instant>,
    /// Is a claim under way? At most one is.
    is_claiming: bool,
    /// How many statements that hand something back are under way.
    handing_back: usize,
    cursor: ClaimCursor,
    read_ahead: ReadAhead,
    held_keys: HeldKeys,
    strays: Strays,
    turn: Turn,
    is_stopping: bool,
}

impl<T: Item> Schedule<T> {
    /// For a worker that starts at `now` and runs up to `concurrency` attempts. Its first claim is due at once.
    pub(super) fn new(concurrency: usize, now: Instant) -> Self {
        Self {
            concurrency,
            running: 0,
            is_alone: false,
            waiting: Waiting::new(),
            claim_due: Some(now),
            is_claiming: false,
            handing_back: 0,
            cursor: ClaimCursor::new(now),
            read_ahead: ReadAhead::default(),
            held_keys: HeldKeys::default(),
            strays: Strays::default(),
            turn: Turn::Nobody,
            is_stopping: false,
        }
    }

    /// Takes in what happened.
    pub(super) fn on(&mut self, now: Instant, input: Input<T>) {
        match input {
            Input::Look => self.make_claim_due(now),
            Input::LookEverywhere => {
                self.cursor.forget();
                self.make_claim_due(now);
            }
            Input::Claimed(claimed) => self.take_in(now, claimed),
            Input::ClaimFailed => {
                self.is_claiming = false;
                self.strays.note_lost_answer(now);
            }
            Input::Leased(item) => self.waiting.push(item),
            Input::Ended { took } => {
                self.running = self.running.saturating_sub(1);
                if let Some(took) = took {
                    self.read_ahead.note(took);
                }
            }
            Input::AnswerLost => self.strays.note_lost_answer(now),
            Input::HandedBack { events } => {
                self.handing_back = self.handing_back.saturating_sub(1);
                // If this worker has a free place, nothing else would make it claim these events again.
                if events > 0 && self.running < self.concurrency {
                    self.make_claim_due(now);
                }
            }
            Input::StraysHandedBack(events) => {
                self.handing_back = self.handing_back.saturating_sub(1);
                match events {
                    None => self.strays.note_lost_answer(now),
                    Some(0) => {}
                    Some(_) => self.make_claim_due(now),
                }
            }
            Input::Stop => self.is_stopping = true,
        }
    }

    fn take_in(&mut self, now: Instant, claimed: Claimed<T>) {
        self.is_claiming = false;
        let Claimed { ask, items, keys_settled, keys_left, left_out_at, began, ended } = claimed;
        if ask.settles {
            self.held_keys.note(ended, keys_settled, keys_left);
        }
        // If the claim returned as many as it asked for, there may be more.
        let is_full = items.len() >= ask.limit;
        if is_full {
            self.make_claim_due(now);
        }
        let youngest = items.iter().map(Item::created_at).max();
        self.cursor.note(Scan { from: ask.cursor, began, ended, youngest, is_full, left_out_at });
        items.into_iter().for_each(|item| self.waiting.push(item));
    }

    fn make_claim_due(&mut self, now: Instant) {
        self.claim_due.get_or_insert(now);
    }

    /// Should the worker take hints and polls? While a claim is due or under way they can wait until it has ended.
    pub(super) fn listens(&self) -> bool {
        self.claim_due.is_none() && !self.is_claiming
    }

    /// Is a statement under way whose answer has to be waited for?
    pub(super) fn is_asking(&self) -> bool {
        self.is_claiming || self.handing_back > 0
    }

    /// Is nothing under way, and nothing to be expected soon? Keys that a session has held for long are not waited for:
    /// it has left its transaction open.
    pub(super) fn is_idle(&self, outside: Outside) -> bool {
        let is_at_rest =
            self.running == 0 && outside.settling == 0 && !self.is_asking() && self.waiting.is_empty();
        let expects_work = self.claim_due.is_some() || self.held_keys.may_be_free_soon();
        is_at_rest && (self.is_stopping || !expects_work)
    }

    /// What was claimed and has not started.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter()
    }
}
