//! Partial text: one task writes what all streams of the worker say, in one insert every [`WRITE_EVERY`].
//!
//! It never costs an answer. While the database is slow, streams wait for room in the buffer, and with them the API. One that
//! has waited for [`PATIENCE`] goes on without partial text: whoever reads along then gets the final message at the end.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::events::Events;
use crate::database;
use crate::message::{NewChunk, write_chunks};

/// How long events are collected. A person reads no faster, and each insert costs a commit.
const WRITE_EVERY: Duration = Duration::from_millis(75);

/// What all streams hold of events that are not written yet, in bytes.
const BUFFER_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// How long a stream waits for the database. It is less than the lease, so that an outage which the lease survives costs no answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait after a write that failed.
const AGAIN: Duration = Duration::from_millis(250);

/// What the streams of a worker say. It is made once, and its task starts with the first stream.
#[derive(Debug)]
pub(super) struct PartialText {
    shared: Arc<Shared>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    /// By message and attempt.
    waiting: Mutex<HashMap<(i64, i32), Waiting>>,
    /// Notified when something waits.
    more: Notify,
    room: Arc<Semaphore>,
}

/// What one stream has said since the last write.
#[derive(Debug)]
struct Waiting {
    events: Events,
    /// The number of the last of them.
    seq: i64,
    written: Arc<watch::Sender<Written>>,
    room: Option<OwnedSemaphorePermit>,
}

/// Up to which event a stream is in the database.
#[derive(Clone, Copy, Debug)]
enum Written {
    UpTo(i64),
    /// The database refuses what it says.
    Refused,
}

impl PartialText {
    pub(super) fn new() -> Self {
        let shared = Shared {
            waiting: Mutex::default(),
            more: Notify::new(),
            room: Arc::new(Semaphore::new(BUFFER_BYTES_MAX as usize)),
        };
        Self { shared: Arc::new(shared), task: Mutex::default() }
    }

    /// A stream whose events will be shown.
    pub(super) fn open(&self, pool: &PgPool, message: i64, attempt: i32) -> Stream {
        let mut task = lock(&self.task);
        if task.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let writing = write_for_ever(pool.clone(), Arc::clone(&self.shared));
            *task = Some(AbortOnDropHandle::new(tokio::spawn(writing)));
        }
        let written = Arc::new(watch::Sender::new(Written::UpTo(0)));
        Stream { shared: Arc::clone(&self.shared), message, attempt, seq: 0, written, is_given_up: false }
    }
}

/// The events of one attempt, on their way into the database.
#[derive(Debug)]
pub(super) struct Stream {
    shared: Arc<Shared>,
    message: i64,
    attempt: i32,
    seq: i64,
    written: Arc<watch::Sender<Written>>,
    is_given_up: bool,
}

impl Stream {
    /// Adds an event. Waits while there is no room.
    pub(super) async fn push(&mut self, data: &str) {
        if self.is_given_up {
            return;
        }
        let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX).clamp(1, BUFFER_BYTES_MAX);
        let room = Arc::clone(&self.shared.room).acquire_many_owned(bytes);
        match timeout(PATIENCE, room).await {
            Ok(Ok(room)) => self.add(data, room),
            Ok(Err(_)) | Err(_) => self.give_up("the database has taken none for too long"),
        }
    }

    fn add(&mut self, data: &str, room: OwnedSemaphorePermit) {
        if matches!(*self.written.borrow(), Written::Refused) {
            return self.give_up("the database refuses it");
        }
        self.seq += 1;
        {
            let mut waiting = lock(&self.shared.waiting);
            let waiting = waiting.entry((self.message, self.attempt)).or_insert_with(|| Waiting {
                events: Events::default(),
                seq: 0,
                written: Arc::clone(&self.written),
                room: None,
            });
            waiting.events.push(data);
            waiting.seq = self.seq;
            match &mut waiting.room {
                Some(held) => held.merge(room),
                held => *held = Some(room),
            }
        }
        self.shared.more.notify_one();
    }

    /// Waits until all of it is in the database, or until nobody need wait for it any longer.
    pub(super) async fn flush(mut self) {
        if self.is_given_up {
            return;
        }
        let mut written = self.written.subscribe();
        let all = written.wait_for(|written| match written {
            Written::UpTo(seq) => *seq >= self.seq,
            Written::Refused => true,
        });
        if timeout(PATIENCE, all).await.is_err() {
            self.give_up("the database has taken none for too long");
        }
    }

    fn give_up(&mut self, why: &'static str) {
        self.is_given_up = true;
        tracing::warn!(
            message = self.message,
            attempt = self.attempt,
            "the text of a message is not shown any further while it is being written, because {why}; the answer is not touched"
        );
    }
}

/// Never ends.
async fn write_for_ever(pool: PgPool, shared: Arc<Shared>) {
    loop {
        shared.more.notified().await;
        sleep(WRITE_EVERY).await;
        let taken = mem::take(&mut *lock(&shared.waiting));
        let rows = taken.into_iter().map(|((message, attempt), waiting)| {
            let (events, text) = waiting.events.finish();
            let chunk = NewChunk { message, attempt, seq: waiting.seq, events, text };
            (chunk, Told { written: waiting.written, _room: waiting.room })
        });
        let (chunks, told): (Vec<_>, Vec<_>) = rows.unzip();
        write(&pool, chunks, told).await;
    }
}

/// Whom to tell that a row is written. Its room becomes free when this is dropped.
struct Told {
    written: Arc<watch::Sender<Written>>,
    _room: Option<OwnedSemaphorePermit>,
}

/// Writes these rows, however long the database is away. The rows stay the same meanwhile, because an answer may have been lost.
async fn write(pool: &PgPool, chunks: Vec<NewChunk>, told: Vec<Told>) {
    let mut is_first = true;
    loop {
        match database::answered(write_chunks(pool, &chunks)).await {
            Ok(()) => {
                for (chunk, told) in chunks.iter().zip(&told) {
                    told.written.send_replace(Written::UpTo(chunk.seq));
                }
                return;
            }
            Err(error) if database::is_unavailable(&error) => {
                if mem::take(&mut is_first) {
                    let error = database::told(&error);
                    tracing::warn!(error, "partial text waits for the database");
                }
                sleep(AGAIN).await;
            }
            Err(error) => return write_each(pool, &chunks, &told, &error).await,
        }
    }
}

/// Writes row by row what the database refuses together, so that one stream does not take the others with it.
async fn write_each(pool: &PgPool, chunks: &[NewChunk], told: &[Told], error: &sqlx::Error) {
    let error = database::told(error);
    tracing::error!(error, "the database refuses partial text; the streams are written one by one");
    for (chunk, told) in chunks.iter().zip(told) {
        let written = database::answered(write_chunks(pool, std::slice::from_ref(chunk))).await;
        told.written.send_replace(if written.is_ok() { Written::UpTo(chunk.seq) } else { Written::Refused });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// A pool whose database refuses every connection.
    fn nowhere() -> PgPool {
        database::pool(&"postgres://nobody@127.0.0.1:9/none".into(), "test", 1).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_waits_for_the_database_for_a_while_and_then_goes_on_without_partial_text() {
        let partial = PartialText::new();
        let mut stream = partial.open(&nowhere(), 1, 1);
        let event = "x".repeat(1024 * 1024);
        let begun = Instant::now();

        // Seven fit into the buffer beside what is being written; the others do not, and are dropped once one has waited in vain.
        for _ in 0..20 {
            stream.push(&event).await;
        }
        assert!(stream.is_given_up);
        assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
        let room = partial.shared.room.available_permits();
        assert!(room < BUFFER_BYTES_MAX as usize, "what waits to be written is kept: {room}");
        stream.flush().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_stream_waits_for_the_database_for_a_while() {
        let partial = PartialText::new();
        let mut stream = partial.open(&nowhere(), 1, 1);
        stream.push("{}").await;
        let begun = Instant::now();

        stream.flush().await;

        assert!(begun.elapsed() >= PATIENCE, "{:?}", begun.elapsed());
    }
}
