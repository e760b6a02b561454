//! The replay: stores the events of the journal in the outbox, in their order, as soon as the database takes them.
//!
//! Deliveries go to the journal meanwhile. The last events are stored while nobody may write to the journal, and after them
//! deliveries go to the database again, so that none goes past an older one. A segment is removed only after its last commit.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Limits;
use super::commit::{Batch, Kept, Lane, NotStored, Of, Store, Waiting};
use super::journal::{Delivered, Journal, NotWritten, Segment, Turn};
use crate::database;

/// How long a batch of the replay may take, all tries included. Short, because deliveries may have to wait for it.
const REPLAY_WAIT: Duration = Duration::from_secs(4);

/// The pause after a try in vain.
const PAUSE: Duration = Duration::from_millis(250);

/// How often the age of the oldest event is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Replays `journal` into `store` whenever it is on. Never ends; it may be dropped at any point.
pub(super) async fn run<S: Store>(store: S, journal: Journal, limits: Limits) {
    let lane = Lane::new(store, REPLAY_WAIT, Of::Replay);
    let replay = Replay { lane, journal: journal.clone(), limits, front: None };
    tokio::join!(replay.whenever_on(), measure(journal));
}

async fn measure(journal: Journal) {
    let mut ticks = interval(MEASURE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        journal.measure();
    }
}

struct Replay<S> {
    lane: Lane<S>,
    journal: Journal,
    limits: Limits,
    /// What is left of the oldest segment.
    front: Option<Front>,
}

struct Front {
    events: VecDeque<Delivered>,
    is_damaged: bool,
}

/// Why the replay cannot go on for the moment.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error("the database takes no events yet")]
    Database,
    #[error("another session has locked an event, which is now behind the others")]
    Locked,
    #[error("the journal cannot be read")]
    Unread(#[from] io::Error),
    #[error("an event cannot be moved behind the others")]
    NotMoved(#[from] NotWritten),
}

impl<S: Store> Replay<S> {
    async fn whenever_on(mut self) {
        loop {
            self.journal.turned_on().await;
            match self.until_empty().await {
                Ok(()) => {}
                Err(Halt::Database | Halt::Locked) => sleep(PAUSE).await,
                Err(halt) => {
                    let error = database::told(&halt);
                    tracing::error!(error, "the replay of the journal pauses; it is tried again");
                    // The segment is read again. What of it is in the outbox is not stored twice.
                    self.front = None;
                    sleep(PAUSE * 20).await;
                }
            }
        }
    }

    /// Stores every event. Nobody may write while the last ones are stored, but only if the database has just taken the ones before:
    /// deliveries do not wait for a database that is away.
    async fn until_empty(&mut self) -> Result<(), Halt> {
        let mut answers = false;
        // Ingest may have started without its database, and without a delivery since.
        if self.front.is_none() && self.journal.backlog().events == 0 {
            answers = self.lane.store_answers().await;
            if !answers {
                return Err(Halt::Database);
            }
        }
        let mut turn = self.journal.turn().await;
        loop {
            match self.look(turn).await? {
                None => return Ok(()),
                Some(found) => turn = found,
            }
            let is_rest = turn.events() <= self.limits.batch_events_max as u64;
            let held = (answers && is_rest).then_some(turn);
            turn = self.advance(held).await?;
            answers = true;
        }
    }

    /// Finds the oldest segment. Returns nothing if the journal is empty, and off by that.
    async fn look(&mut self, turn: Turn) -> Result<Option<Turn>, Halt> {
        if self.front.is_some() {
            return Ok(Some(turn));
        }
        let (oldest, turn) = turn.oldest().await?;
        let Some(Segment { events, is_damaged }) = oldest else { return Ok(None) };
        self.front = Some(Front { events: events.into(), is_damaged });
        Ok(Some(turn))
    }

    /// Stores one batch of the oldest segment. Takes its turn of the journal after that, unless it is given one.
    async fn advance(&mut self, held: Option<Turn>) -> Result<Turn, Halt> {
        let batch = self.next_batch();
        let outcomes = self.commit(&batch).await;
        let mut turn = match held {
            Some(turn) => turn,
            None => self.journal.turn().await,
        };
        let (mut locked, mut refused, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for (delivered, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => {}
                Err(NotStored::Locked) => locked.push(delivered),
                Err(NotStored::Refused) => refused.push(delivered),
                Err(NotStored::Unavailable | NotStored::Full) => waiting.push(delivered),
            }
        }
        if !locked.is_empty() {
            turn = turn.append_again(&locked).await?;
        }
        if !refused.is_empty() {
            let events = refused.len();
            let (file, next) = turn.set_aside(refused).await?;
            tracing::error!(events, file = %file.display(), "events that the database refuses are kept in a file");
            turn = next;
        }
        let is_away = !waiting.is_empty();
        turn = self.note(turn, waiting).await?;
        match (is_away, locked.is_empty()) {
            (true, _) => Err(Halt::Database),
            (false, false) => Err(Halt::Locked),
            (false, true) => Ok(turn),
        }
    }

    /// Notes what is left of the oldest segment, and removes it if that is nothing.
    async fn note(&mut self, mut turn: Turn, waiting: Vec<Delivered>) -> Result<Turn, Halt> {
        let Some(front) = &mut self.front else { return Ok(turn) };
        for delivered in waiting.into_iter().rev() {
            front.events.push_front(delivered);
        }
        turn.left(front.events.len() as u64, front.events.front().map(|delivered| delivered.received_at));
        if front.events.is_empty() {
            let is_damaged = front.is_damaged;
            self.front = None;
            turn = turn.remove_oldest(is_damaged).await?;
        }
        Ok(turn)
    }

    fn next_batch(&mut self) -> Vec<Delivered> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let Some(front) = &mut self.front else { return batch };
        while batch.len() < self.limits.batch_events_max && bytes < self.limits.batch_bytes_max {
            let Some(delivered) = front.events.pop_front() else { break };
            bytes += delivered.event.body.as_bytes().len();
            batch.push(delivered);
        }
        batch
    }

    /// Commits events, and returns the outcome of each.
    async fn commit(&self, delivered: &[Delivered]) -> Vec<Result<Kept, NotStored>> {
        let (mut batch, mut answers) = (Batch::default(), Vec::new());
        for Delivered { event, received_at } in delivered.iter().cloned() {
            let (answer, answered) = oneshot::channel();
            batch.push(Waiting { event, received_at, answer });
            answers.push(answered);
        }
        self.lane.settle(batch).await;
        // Every event of a batch is answered.
        let answered = answers.into_iter().map(|mut answered| answered.try_recv());
        answered.map(|answer| answer.unwrap_or(Err(NotStored::Unavailable))).collect()
    }
}
