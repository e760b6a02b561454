//! The folder of the journal: its lock, and its segments as files.
//!
//! | file | what it is |
//! |---|---|
//! | `lock` | locked by the ingest that uses the folder; the system lets go of the lock however that ingest ends |
//! | `identity` | the identifier of the journal, under which the database knows it wherever the folder is moved |
//! | `0000000001.journal` | a segment; a higher number is younger |
//! | `0000000001.bad` | a segment that was damaged, or events that the database refuses: kept for a person, never read |

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::Delivered;
use super::segment::{self, Found, Mark};

const SEGMENT: &str = "journal";
const ASIDE: &str = "bad";
const IDENTITY_DIGITS: usize = 32;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Another process uses it.
    #[error(
        "RESTANTE_JOURNAL_DIR: another ingest uses the folder {}. Give each ingest a folder of its own",
        .0.display()
    )]
    Taken(PathBuf),
    /// It cannot be read or written.
    #[error("RESTANTE_JOURNAL_DIR: the folder {} cannot be used", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// A folder that no other process uses.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    identity: String,
    /// Holds the lock until it is dropped.
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is missing, and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self, Unusable> {
        let unusable = |error| Unusable::Io(path.to_owned(), error);
        // Bodies are for nobody else's eyes.
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), identity: identity(path), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Unusable::Taken(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// The identifier of the journal.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Reads a segment, and cuts off a torn tail.
    pub(super) fn read(&self, number: u64) -> io::Result<Found> {
        let path = self.path.join(file_name(number, SEGMENT));
        let bytes = fs::read(&path)?;
        let found = segment::read(&bytes);
        if found.whole_bytes < bytes.len() {
            let torn_bytes = bytes.len() - found.whole_bytes;
            tracing::warn!(
                file = %path.display(),
                torn_bytes,
                "the last write to the journal did not reach its end, and nobody got a 2xx for it: its bytes are cut off"
            );
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(found.whole_bytes as u64)?;
            file.sync_all()?;
        }
        if found.damaged_bytes > 0 {
            tracing::error!(
                file = %path.display(),
                damaged_bytes = found.damaged_bytes,
                whole_events = found.events.len(),
                "a file of the journal is damaged: its whole events are replayed, and the file is kept with the ending .bad"
            );
        }
        Ok(found)
    }

    /// Removes a segment whose events are all in the database, or keeps it aside if it was damaged.
    pub(super) fn remove(&self, number: u64, is_damaged: bool) -> io::Result<()> {
        let path = self.path.join(file_name(number, SEGMENT));
        if is_damaged {
            return fs::rename(path, self.path.join(file_name(number, ASIDE)));
        }
        fs::remove_file(path)
    }

    /// Writes events that the database refuses to a file that is never read, before their segment is removed.
    pub(super) fn set_aside(&self, number: u64, events: &[Delivered]) -> io::Result<PathBuf> {
        let mark = Mark::new();
        let mut bytes = mark.head();
        for delivered in events {
            mark.frame(&delivered.event, delivered.received_at, &mut bytes);
        }
        let names = (1..).map(|nth: u32| self.path.join(format!("{number:010}-refused-{nth}.{ASIDE}")));
        for path in names {
            match OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => {
                    let mut file = opened?;
                    file.write_all(&bytes)?;
                    file.sync_all()?;
                    self.sync()?;
                    return Ok(path);
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Makes the file of a new segment. It is found again after a power cut, too.
    pub(super) fn create(&self, number: u64, head: &[u8]) -> io::Result<File> {
        let path = self.path.join(file_name(number, SEGMENT));
        let created = (|| {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
            file.write_all(head)?;
            file.sync_all()?;
            self.sync()?;
            Ok(file)
        })();
        if created.is_err() {
            // Half a head would be told as a torn tail at the next start. It is empty in any case.
            let _left = fs::remove_file(&path);
        }
        created
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// The identifier that is in the folder, or a new one. A disk that takes no file must not keep ingest from starting: then the next start
/// makes another one.
fn identity(path: &Path) -> String {
    let file = path.join("identity");
    let is_whole =
        |text: &str| text.len() == IDENTITY_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Ok(known) = fs::read_to_string(&file)
        && is_whole(known.trim_end())
    {
        return known.trim_end().to_owned();
    }
    let identity = format!("{:032x}", rand::random::<u128>());
    let written =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&file).and_then(
            |mut file| file.write_all(format!("{identity}\n").as_bytes()).and_then(|()| file.sync_all()),
        );
    if let Err(error) = written {
        tracing::warn!(file = %file.display(), %error, "the journal has no lasting identifier, because it cannot be written");
    }
    identity
}

/// Whether a process uses the folder. Whoever asks takes the lock for a moment if nobody has it, so it is asked only of a folder that holds
/// events.
pub(super) fn is_in_use(path: &Path) -> io::Result<bool> {
    let lock = match File::open(path.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The numbers of the segments in a folder, oldest first, and how many files were kept aside.
pub(super) fn list(path: &Path) -> io::Result<(Vec<u64>, usize)> {
    let (mut numbers, mut aside) = (Vec::new(), 0);
    for entry in fs::read_dir(path)? {
        let name = PathBuf::from(entry?.file_name());
        let ending = name.extension().and_then(|ending| ending.to_str());
        if ending == Some(ASIDE) {
            aside += 1;
        } else if ending == Some(SEGMENT) {
            numbers.extend(name.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
        }
    }
    numbers.sort_unstable();
    Ok((numbers, aside))
}

/// The name of the file of a segment.
pub(super) fn file_of(number: u64) -> String {
    file_name(number, SEGMENT)
}

fn file_name(number: u64, ending: &str) -> String {
    format!("{number:010}.{ending}")
}
