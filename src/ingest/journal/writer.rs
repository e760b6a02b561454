//! Appends to the youngest segment, and knows what waits in each. Everything here blocks.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::folder::{self, Folder};
use super::record::Delivered;
use super::segment::{self, Found, HEAD_BYTES, Mark};
use super::{Backlog, NotWritten, Segment, Unusable};
use crate::event::NewEvent;

/// A segment that has so many bytes gets no more. It is read whole, so this bounds the memory of a replay.
const SEGMENT_BYTES: u64 = 8 << 20;

#[derive(Debug)]
pub(super) struct Writer {
    folder: Folder,
    bytes_max: u64,
    /// Oldest first.
    segments: VecDeque<Known>,
    /// The file of the last of `segments`, while it is written to.
    open: Option<(File, Mark)>,
    next_number: u64,
    aside: usize,
}

/// What is known of a segment.
#[derive(Debug, Default)]
struct Known {
    number: u64,
    bytes: u64,
    events: u64,
    oldest: Option<DateTime<Utc>>,
}

/// Events as bytes for the open segment.
pub(super) struct Frames {
    bytes: Vec<u8>,
    events: u64,
    oldest: Option<DateTime<Utc>>,
}

impl Frames {
    /// The frames of events, for a segment with this mark.
    pub(super) fn of(mark: Mark, events: &[NewEvent], received_ats: &[DateTime<Utc>]) -> Self {
        let mut bytes = Vec::new();
        for (event, received_at) in events.iter().zip(received_ats) {
            mark.frame(event, *received_at, &mut bytes);
        }
        Self { bytes, events: events.len() as u64, oldest: received_ats.iter().min().copied() }
    }
}

impl Writer {
    pub(super) fn open(path: &Path, bytes_max: u64) -> Result<Self, Unusable> {
        let folder = Folder::lock(path)?;
        let unusable = |error| Unusable::Io(path.to_owned(), error);
        let (numbers, mut aside) = folder::list(path).map_err(unusable)?;
        let next_number = numbers.last().map_or(1, |last| last + 1);
        let mut segments = VecDeque::new();
        for number in numbers {
            let found = folder.read(number).map_err(unusable)?;
            if found.events.is_empty() {
                let is_damaged = found.damaged_bytes > 0;
                folder.remove(number, is_damaged).map_err(unusable)?;
                aside += usize::from(is_damaged);
                continue;
            }
            segments.push_back(known(number, found.whole_bytes as u64, &found.events));
        }
        Ok(Self { folder, bytes_max, segments, open: None, next_number, aside })
    }

    /// The identifier of the journal.
    pub(super) fn identity(&self) -> &str {
        self.folder.identity()
    }

    pub(super) fn events(&self) -> u64 {
        self.segments.iter().map(|segment| segment.events).sum()
    }

    pub(super) fn backlog(&self, since: Option<DateTime<Utc>>) -> Backlog {
        sum(&self.segments, self.aside, since)
    }

    /// The mark of the segment that is open, if one is.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.open.as_ref().map(|(_, mark)| *mark)
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Opens a new segment.
    pub(super) fn begin(&mut self) -> io::Result<Mark> {
        let (number, mark) = (self.next_number, Mark::new());
        let file = self.folder.create(number, &mark.head())?;
        self.next_number += 1;
        self.segments.push_back(Known { number, bytes: HEAD_BYTES as u64, ..Known::default() });
        self.open = Some((file, mark));
        Ok(mark)
    }

    /// Appends frames. They are on the disk when it returns, or do not count.
    pub(super) fn write(&mut self, frames: &Frames) -> Result<(), NotWritten> {
        if self.bytes() + frames.bytes.len() as u64 > self.bytes_max {
            return Err(NotWritten::Full);
        }
        let (Some((file, _)), Some(segment)) = (&mut self.open, self.segments.back_mut()) else {
            return Err(io::Error::other("no segment is open").into());
        };
        if let Err(error) = file.write_all(&frames.bytes).and_then(|()| file.sync_data()) {
            // Of a file whose flush has failed nobody knows what the disk has. What was flushed before is there, so this segment
            // ends with it.
            let _torn_otherwise = file.set_len(segment.bytes).and_then(|()| file.sync_data());
            self.open = None;
            return Err(error.into());
        }
        segment.bytes += frames.bytes.len() as u64;
        segment.events += frames.events;
        segment.oldest = segment.oldest.or(frames.oldest);
        if segment.bytes >= SEGMENT_BYTES {
            self.open = None;
        }
        Ok(())
    }

    /// The oldest segment, to which nothing is written from now on. Segments without events are removed.
    pub(super) fn oldest(&mut self) -> io::Result<Option<Segment>> {
        while let Some(number) = self.segments.front().map(|segment| segment.number) {
            if self.segments.len() == 1 {
                self.open = None;
            }
            let found = match self.folder.read(number) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::error!(
                        number,
                        "a file of the journal was removed by somebody else, with its events"
                    );
                    Found::default()
                }
                read => read?,
            };
            let is_damaged = found.damaged_bytes > 0;
            if !found.events.is_empty() {
                return Ok(Some(Segment { events: found.events, is_damaged }));
            }
            self.remove_oldest(is_damaged)?;
        }
        Ok(None)
    }

    pub(super) fn left(&mut self, events: u64, oldest: Option<DateTime<Utc>>) {
        if let Some(segment) = self.segments.front_mut() {
            (segment.events, segment.oldest) = (events, oldest);
        }
    }

    pub(super) fn remove_oldest(&mut self, is_damaged: bool) -> io::Result<()> {
        let Some(segment) = self.segments.front() else { return Ok(()) };
        match self.folder.remove(segment.number, is_damaged) {
            // Somebody has removed it by hand.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        self.aside += usize::from(is_damaged);
        self.segments.pop_front();
        Ok(())
    }

    /// Exchanges the open file for one that takes no writes.
    #[cfg(test)]
    pub(super) fn break_off(&mut self, file: File) {
        self.open = self.open.take().map(|(_, mark)| (file, mark));
    }

    pub(super) fn set_aside(&mut self, refused: &[Delivered]) -> io::Result<PathBuf> {
        let number = self.segments.front().map_or(0, |segment| segment.number);
        let path = self.folder.set_aside(number, refused)?;
        self.aside += 1;
        Ok(path)
    }
}

fn known(number: u64, bytes: u64, events: &[Delivered]) -> Known {
    let oldest = events.first().map(|delivered| delivered.received_at);
    Known { number, bytes, events: events.len() as u64, oldest }
}

fn sum<'s>(
    segments: impl IntoIterator<Item = &'s Known>,
    aside: usize,
    since: Option<DateTime<Utc>>,
) -> Backlog {
    let mut backlog = Backlog { since, aside, ..Backlog::default() };
    for segment in segments {
        backlog.events += segment.events;
        backlog.bytes += segment.bytes;
        backlog.oldest = backlog.oldest.or(segment.oldest);
    }
    backlog
}

/// Reads the segments of a folder that another process may use meanwhile.
pub(super) fn inspect(path: &Path, (numbers, aside): (Vec<u64>, usize)) -> io::Result<Backlog> {
    let mut segments = Vec::new();
    for number in numbers {
        match fs::read(path.join(folder::file_of(number))) {
            Ok(bytes) => segments.push(known(number, bytes.len() as u64, &segment::read(&bytes).events)),
            // It was replayed since its name was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum(&segments, aside, None))
}
