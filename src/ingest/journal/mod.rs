//! The journal: where events are kept while the database does not take them.
//!
//! It is off until a commit has waited for the database in vain. From then on events are appended to a file, and their senders get
//! a 2xx once the disk has them. `replay` stores them in the outbox, in their order, as soon as the database is back. The journal stays
//! on until it is empty, so that no event goes past an older one that still waits in it. Whatever was written and not yet
//! removed is replayed again after a crash: the outbox stores each identifier once.
//!
//! What is in the folder: `folder`. What is in a file: `segment`, and `record` for one event.

mod folder;
mod record;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use metrics::{counter, gauge};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::task;

pub use self::folder::Unusable;
pub(super) use self::record::Delivered;
use self::writer::{Frames, Writer};
use crate::event::NewEvent;
use crate::outbox::JournalReport;
use crate::telemetry::metric;

/// Why events were not written to the journal. None of them counts as written.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotWritten {
    /// It has as many bytes as it may have.
    #[error("the journal is full: RESTANTE_JOURNAL_BYTES_MAX")]
    Full,
    /// The disk did not take them.
    #[error("the disk does not take the journal")]
    Io(#[from] io::Error),
    /// The thread that wrote them has panicked.
    #[error("the write to the journal ended without an answer")]
    Lost(#[from] task::JoinError),
}

/// What waits in a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Since when deliveries go to the journal; `None` while they go to the database.
    pub since: Option<DateTime<Utc>>,
    /// How many events are not in the outbox yet. The same event may be there twice.
    pub events: u64,
    /// How many bytes the files take up.
    pub bytes: u64,
    /// When the oldest of the events was delivered.
    pub oldest: Option<DateTime<Utc>>,
    /// How many files were kept aside, because they are damaged or the database refuses their events.
    pub aside: usize,
    /// Whether the last write failed, or there was no room for it.
    pub is_full: bool,
}

impl Backlog {
    /// How long the oldest event has waited at `now`, in seconds; 0 if none waits.
    pub fn oldest_seconds(&self, now: DateTime<Utc>) -> u64 {
        self.oldest.map_or(0, |oldest| u64::try_from((now - oldest).num_seconds()).unwrap_or(0))
    }

    /// In a sentence; `None` if nothing waits and deliveries go to the database.
    pub fn told(&self, now: DateTime<Utc>) -> Option<String> {
        let Backlog { since, events, bytes, is_full, .. } = self;
        if since.is_none() && *events == 0 {
            return None;
        }
        let since = since.map_or_else(String::new, |since| {
            format!("journaling since {}: ", since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        });
        let full = if *is_full { "; it takes no more" } else { "" };
        Some(format!(
            "{since}{events} events ({bytes} bytes) wait in the journal for the database, the oldest for {} s{full}",
            self.oldest_seconds(now)
        ))
    }
}

/// A journal in a folder of its own. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    writer: Arc<Mutex<Writer>>,
    backlog: Arc<watch::Sender<Backlog>>,
    path: Arc<Path>,
    identity: Arc<str>,
    bytes_max: u64,
}

impl Journal {
    /// Opens the journal in `path`, whose files may take up `bytes_max` bytes. If there are events in it, it is on. Blocks while it
    /// reads them.
    ///
    /// # Errors
    /// [`Unusable`]: another process uses the folder, or it cannot be read or written.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, Unusable> {
        let writer = Writer::open(path, bytes_max)?;
        let since = (writer.events() > 0).then(Utc::now);
        let identity = writer.identity().into();
        let backlog = writer.backlog(since);
        if let Some(told) = backlog.told(Utc::now()) {
            tracing::warn!(folder = %path.display(), "the journal of an earlier run is replayed first: {told}");
        }
        let journal = Self {
            writer: Arc::new(Mutex::new(writer)),
            backlog: Arc::new(watch::Sender::new(backlog)),
            path: path.into(),
            identity,
            bytes_max,
        };
        journal.measure();
        Ok(journal)
    }

    /// What waits in it now.
    pub fn backlog(&self) -> Backlog {
        self.backlog.borrow().clone()
    }

    /// What the database is told of it.
    pub(super) fn report(&self, machine: &str, is_last: bool) -> JournalReport {
        let Backlog { since, events, bytes, oldest, aside, is_full } = self.backlog();
        JournalReport {
            journal: self.identity.to_string(),
            place: format!("{machine}:{}", self.path.display()),
            since,
            events,
            bytes,
            bytes_max: self.bytes_max,
            oldest_at: oldest,
            aside,
            is_full,
            is_last,
        }
    }

    /// Whether deliveries go to the journal.
    pub(super) fn is_on(&self) -> bool {
        self.backlog.borrow().since.is_some()
    }

    /// Returns once deliveries go to the journal.
    pub(super) async fn turned_on(&self) {
        let mut backlog = self.backlog.subscribe();
        // The sender lives as long as `self`.
        let _on = backlog.wait_for(|backlog| backlog.since.is_some()).await;
    }

    /// From now on deliveries go to the journal, because the database does not take them.
    pub async fn turn_on(&self) {
        let writer = self.writer.lock().await;
        self.note_on(&writer);
    }

    fn note_on(&self, writer: &Writer) {
        if !self.is_on() {
            self.backlog.send_replace(writer.backlog(Some(Utc::now())));
            tracing::warn!(
                folder = %self.path.display(),
                "the database does not take events: deliveries are kept in the journal until it does"
            );
        }
    }

    /// Appends events, which are on the disk when it returns, and turns the journal on.
    ///
    /// # Errors
    /// [`NotWritten`]: none of the events counts as written.
    pub(super) async fn append(
        &self,
        events: &[NewEvent],
        received_ats: &[DateTime<Utc>],
    ) -> Result<(), NotWritten> {
        let writer = Arc::clone(&self.writer).lock_owned().await;
        self.note_on(&writer);
        self.write(writer, events, received_ats).await.map(drop)
    }

    /// The same if the journal is on. Returns false if it is off: then the database takes events again.
    ///
    /// # Errors
    /// [`NotWritten`]: none of the events counts as written.
    pub(super) async fn append_if_on(
        &self,
        events: &[NewEvent],
        received_ats: &[DateTime<Utc>],
    ) -> Result<bool, NotWritten> {
        if !self.is_on() {
            return Ok(false);
        }
        let writer = Arc::clone(&self.writer).lock_owned().await;
        // Its last event may have been replayed meanwhile.
        if !self.is_on() {
            return Ok(false);
        }
        self.write(writer, events, received_ats).await.map(|_| true)
    }

    async fn write(
        &self,
        writer: OwnedMutexGuard<Writer>,
        events: &[NewEvent],
        received_ats: &[DateTime<Utc>],
    ) -> Result<OwnedMutexGuard<Writer>, NotWritten> {
        let written = self.try_write(writer, events, received_ats).await;
        if let Err(error) = &written {
            let was_full = self.backlog.borrow().is_full;
            self.backlog.send_modify(|backlog| backlog.is_full = true);
            if !was_full {
                tracing::error!(
                    folder = %self.path.display(),
                    error = crate::database::told(error),
                    "the journal takes no more events: until it does, deliveries wait for the database or get a 503"
                );
            }
        }
        written
    }

    /// A write runs to its end even if the caller is dropped, and only then another may begin.
    async fn try_write(
        &self,
        mut writer: OwnedMutexGuard<Writer>,
        events: &[NewEvent],
        received_ats: &[DateTime<Utc>],
    ) -> Result<OwnedMutexGuard<Writer>, NotWritten> {
        let (mark, mut writer) = match writer.mark() {
            Some(mark) => (mark, writer),
            None => task::spawn_blocking(move || Ok::<_, NotWritten>((writer.begin()?, writer))).await??,
        };
        let frames = Frames::of(mark, events, received_ats);
        let journal = self.clone();
        task::spawn_blocking(move || {
            writer.write(&frames)?;
            journal.note(&writer);
            counter!(metric::JOURNAL_WRITES_TOTAL).increment(1);
            Ok(writer)
        })
        .await?
    }

    fn note(&self, writer: &Writer) {
        self.backlog.send_modify(|backlog| *backlog = writer.backlog(backlog.since));
        self.measure();
    }

    /// Sets the metrics. The age of the oldest event grows by itself, so whoever replays calls this now and then.
    pub(super) fn measure(&self) {
        let backlog = self.backlog();
        gauge!(metric::JOURNAL_BYTES).set(backlog.bytes as f64);
        gauge!(metric::JOURNAL_EVENTS).set(backlog.events as f64);
        gauge!(metric::JOURNAL_OLDEST_SECONDS).set(backlog.oldest_seconds(Utc::now()) as f64);
        // From zero, so that its first increase is seen.
        counter!(metric::JOURNAL_WRITES_TOTAL).increment(0);
    }

    /// A turn in which nobody else writes.
    pub(super) async fn turn(&self) -> Turn {
        Turn { writer: Arc::clone(&self.writer).lock_owned().await, journal: self.clone() }
    }
}

/// The journal while nobody else writes to it.
pub(super) struct Turn {
    writer: OwnedMutexGuard<Writer>,
    journal: Journal,
}

impl Turn {
    /// The oldest segment with its events. Nothing is appended to it any more. If there is none, deliveries go to the database from
    /// now on.
    pub(super) async fn oldest(self) -> io::Result<(Option<Segment>, Turn)> {
        let Turn { mut writer, journal } = self;
        let (found, writer) = task::spawn_blocking(move || (writer.oldest(), writer)).await?;
        let found = found?;
        if found.is_none() {
            journal.backlog.send_modify(|backlog| *backlog = writer.backlog(None));
            journal.measure();
            tracing::info!(
                folder = %journal.path.display(),
                "every event of the journal is in the outbox: deliveries go to the database again"
            );
        }
        Ok((found, Turn { writer, journal }))
    }

    /// Notes that so many of the oldest segment's events are left, of which the first was delivered at `oldest`.
    pub(super) fn left(&mut self, events: u64, oldest: Option<DateTime<Utc>>) {
        self.writer.left(events, oldest);
        self.journal.note(&self.writer);
    }

    /// Removes the oldest segment, because all its events are in the database or stand elsewhere in the journal.
    pub(super) async fn remove_oldest(self, is_damaged: bool) -> io::Result<Turn> {
        let Turn { mut writer, journal } = self;
        let (removed, writer) =
            task::spawn_blocking(move || (writer.remove_oldest(is_damaged), writer)).await?;
        journal.note(&writer);
        removed.map(|()| Turn { writer, journal })
    }

    /// Appends events again, behind all others.
    pub(super) async fn append_again(self, again: &[Delivered]) -> Result<Turn, NotWritten> {
        let (events, received_ats): (Vec<_>, Vec<_>) =
            again.iter().map(|delivered| (delivered.event.clone(), delivered.received_at)).unzip();
        let Turn { writer, journal } = self;
        let writer = journal.write(writer, &events, &received_ats).await?;
        Ok(Turn { writer, journal })
    }

    /// Keeps events that the database refuses in a file beside the segments.
    pub(super) async fn set_aside(self, refused: Vec<Delivered>) -> io::Result<(PathBuf, Turn)> {
        let Turn { mut writer, journal } = self;
        let (path, writer) = task::spawn_blocking(move || (writer.set_aside(&refused), writer)).await?;
        journal.note(&writer);
        Ok((path?, Turn { writer, journal }))
    }

    /// How many events wait in the whole journal.
    pub(super) fn events(&self) -> u64 {
        self.writer.events()
    }
}

/// A segment that is replayed.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its whole events, in their order.
    pub(super) events: Vec<Delivered>,
    /// Whether other events of it cannot be read.
    pub(super) is_damaged: bool,
}

/// Whether a process uses the journal in a folder. Whoever asks keeps an ingest from using it for a moment if none does: ask only of a
/// journal that holds events.
///
/// # Errors
/// Where the lock in the folder cannot be opened.
pub fn is_in_use(path: &Path) -> io::Result<bool> {
    folder::is_in_use(path)
}

/// What waits in the journal of a folder, without its lock: for whoever looks from outside. Blocks. `Ok(None)` if there is no folder.
///
/// # Errors
/// Where the folder or a file in it cannot be read.
pub fn inspect(path: &Path) -> io::Result<Option<Backlog>> {
    match folder::list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        listed => writer::inspect(path, listed?).map(Some),
    }
}
