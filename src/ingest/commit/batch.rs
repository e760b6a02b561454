//! Events that share a commit, and the request that waits for each.

use std::collections::HashMap;
use std::mem;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{Kept, NotStored};
use crate::event::{Body, NewEvent};
use crate::outbox::insert::Duplicate;

/// An event that waits for a commit.
#[derive(Debug)]
pub(in crate::ingest) struct Waiting {
    pub(in crate::ingest) event: NewEvent,
    /// When it was delivered.
    pub(in crate::ingest) received_at: DateTime<Utc>,
    pub(in crate::ingest) answer: oneshot::Sender<Result<Kept, NotStored>>,
}

/// Events, and the request that waits for each.
#[derive(Default)]
pub(in crate::ingest) struct Batch {
    pub(super) events: Vec<NewEvent>,
    pub(super) received_ats: Vec<DateTime<Utc>>,
    answers: Vec<oneshot::Sender<Result<Kept, NotStored>>>,
}

impl Batch {
    pub(in crate::ingest) fn push(&mut self, waiting: Waiting) {
        self.events.push(waiting.event);
        self.received_ats.push(waiting.received_at);
        self.answers.push(waiting.answer);
    }

    /// How many events there are.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Splits off the second half.
    pub(super) fn split(&mut self) -> Batch {
        let half = self.events.len() / 2;
        Batch {
            events: self.events.split_off(half),
            received_ats: self.received_ats.split_off(half),
            answers: self.answers.split_off(half),
        }
    }

    /// Splits off the events that repeat an identifier with another body. The store compares only the first event of
    /// each identifier, and a body that differs must leave a trace.
    pub(super) fn split_differing(&mut self) -> Batch {
        let mut first: HashMap<(&str, &str), &Body> = HashMap::with_capacity(self.events.len());
        let differs = |event| {
            let NewEvent { sender, event_id, body, .. }: &NewEvent = event;
            *first.entry((sender, event_id)).or_insert(body) != body
        };
        let differing: Vec<bool> = self.events.iter().map(differs).collect();
        let mut split = Batch::default();
        if differing.contains(&true) {
            for (waiting, differs) in mem::take(self).into_waiting().zip(differing) {
                let batch = if differs { &mut split } else { &mut *self };
                batch.push(waiting);
            }
        }
        split
    }

    fn into_waiting(self) -> impl Iterator<Item = Waiting> {
        let Batch { events, received_ats, answers } = self;
        let all = events.into_iter().zip(received_ats).zip(answers);
        all.map(|((event, received_at), answer)| Waiting { event, received_at, answer })
    }

    pub(super) fn answer(self, outcome: Result<&[Duplicate], NotStored>) {
        let mut again: HashMap<(&str, &str), (usize, bool)> = HashMap::new();
        for duplicate in outcome.unwrap_or_default() {
            let (times, differs) = again.entry((&duplicate.sender, &duplicate.event_id)).or_default();
            *times += 1;
            *differs |= duplicate.differs;
        }
        // Backwards, because of equal events only the first may be new.
        for (event, answer) in self.events.iter().zip(self.answers).rev() {
            let kept = match again.get_mut(&(event.sender.as_str(), event.event_id.as_str())) {
                Some((times @ 1.., differs)) => {
                    *times -= 1;
                    Kept::Again { differs: *differs }
                }
                _ => Kept::New,
            };
            // The receiver is gone if the sender hung up or its time was over.
            let _ = answer.send(outcome.map(|_| kept));
        }
    }

    /// Answers that all of its events are in the journal.
    pub(super) fn answer_journaled(self) {
        for answer in self.answers {
            let _ = answer.send(Ok(Kept::Journaled));
        }
    }
}
