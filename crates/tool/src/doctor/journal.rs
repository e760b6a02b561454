//! The doctor looks into the folder of the journal.

use std::io;
use std::path::Path;

use chrono::Utc;
use restante::internals::ingest::{self, Backlog};
use rustix::fs::{Access, access, statvfs};

use super::finding::Finding;
use crate::journal;

/// Why a folder has to be in order.
const CANNOT_KEEP: &str = "ingest cannot keep deliveries there while the database is away";

/// What is known of a folder that is there.
#[derive(Clone, Debug)]
struct Looked {
    backlog: Backlog,
    /// Does an ingest use it? Only asked if events wait in it.
    is_in_use: bool,
    is_writable: bool,
    /// The room that the disk has for this account, in bytes.
    free_bytes: u64,
}

/// Examines the folder that RESTANTE_JOURNAL_DIR names, in which `bytes_max` bytes may be.
pub(super) fn examine(folder: &Path, bytes_max: u64) -> Finding {
    judge(folder, bytes_max, look(folder))
}

fn look(folder: &Path) -> io::Result<Option<Looked>> {
    let Some(backlog) = journal::look(folder)? else { return Ok(None) };
    let is_in_use = backlog.events > 0 && ingest::is_in_use(folder)?;
    let is_writable = access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let disk = statvfs(folder)?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(Some(Looked { backlog, is_in_use, is_writable, free_bytes }))
}

fn judge(folder: &Path, bytes_max: u64, looked: io::Result<Option<Looked>>) -> Finding {
    let place = folder.display();
    let owner = "let the account of ingest own the folder, and run the doctor as that account";
    let wrong = |says: String, why: &str, remedy: &str| {
        Finding::wrong("journal", format!("{place} {says}"), why, remedy)
    };
    let Looked { backlog, is_in_use, is_writable, free_bytes } = match looked {
        Err(error) => return wrong(format!("cannot be read: {error}"), CANNOT_KEEP, owner),
        Ok(None) => {
            let says = format!("{place} is not there yet: ingest makes it at its start");
            return Finding::fine("journal", says);
        }
        Ok(Some(looked)) => looked,
    };
    let room = bytes_max.saturating_sub(backlog.bytes);
    if !is_writable {
        return wrong("cannot be written by this account".to_owned(), CANNOT_KEEP, owner);
    }
    if backlog.aside > 0 {
        return wrong(
            format!("holds {} files that could not be replayed", backlog.aside),
            "the events in them were answered with 2xx, and are not in the database",
            "look for their names in the log of ingest, keep them for the search, and move them away",
        );
    }
    if backlog.events > 0 && !is_in_use {
        return wrong(
            format!(
                "holds {} events, the oldest from {} s ago, and no ingest uses it: nobody replays them",
                backlog.events,
                backlog.oldest_seconds(Utc::now())
            ),
            "these events were answered with 2xx, and no worker sees them",
            "start ingest with this RESTANTE_JOURNAL_DIR and the DATABASE_URL of these events: it replays them first",
        );
    }
    if free_bytes < room {
        return wrong(
            format!("is on a disk with room for {free_bytes} bytes, but the journal may take {room} more"),
            CANNOT_KEEP,
            "make room on the disk, or lower RESTANTE_JOURNAL_BYTES_MAX",
        );
    }
    match backlog.told(Utc::now()) {
        Some(told) => Finding::warn(
            "journal",
            format!("{place}: {told}"),
            "these events are on the disk of this machine only, and no worker sees them",
            "bring the database back: ingest stores them by itself then, also after a restart",
        ),
        None => Finding::fine("journal", format!("{place} holds no event: deliveries go to the database")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    const BYTES_MAX: u64 = 1000;

    fn empty() -> Looked {
        Looked { backlog: Backlog::default(), is_in_use: false, is_writable: true, free_bytes: BYTES_MAX }
    }

    fn of(looked: io::Result<Option<Looked>>) -> Finding {
        judge(Path::new("/journal"), BYTES_MAX, looked)
    }

    #[test]
    fn a_journal_is_told_by_what_waits_in_it() {
        let backlog = Backlog { events: 3, bytes: 900, oldest: Some(Utc::now()), ..Backlog::default() };
        let waiting = Looked { backlog: backlog.clone(), is_in_use: true, ..empty() };

        assert_eq!(of(Ok(None)).verdict, Verdict::Fine);
        assert_eq!(of(Ok(Some(empty()))).verdict, Verdict::Fine);
        let told = of(Ok(Some(waiting.clone())));
        assert_eq!(told.verdict, Verdict::Warn);
        assert!(told.says.contains("3 events (900 bytes) wait in the journal"), "{}", told.says);
        let aside = Looked { backlog: Backlog { aside: 1, ..backlog }, ..waiting };
        assert_eq!(of(Ok(Some(aside))).verdict, Verdict::Wrong);
        assert_eq!(of(Err(io::ErrorKind::PermissionDenied.into())).verdict, Verdict::Wrong);
    }

    #[test]
    fn a_journal_that_nobody_replays_that_cannot_be_written_or_has_no_room_is_wrong() {
        let yesterday = Utc::now() - chrono::Duration::days(1);
        let backlog = Backlog { events: 3, bytes: 900, oldest: Some(yesterday), ..Backlog::default() };
        for (looked, says) in [
            (
                Looked { backlog: backlog.clone(), ..empty() },
                "s ago, and no ingest uses it: nobody replays them",
            ),
            (Looked { is_writable: false, ..empty() }, "cannot be written"),
            (
                Looked { free_bytes: BYTES_MAX - 1, ..empty() },
                "room for 999 bytes, but the journal may take 1000 more",
            ),
            (Looked { backlog, is_in_use: true, free_bytes: 99, ..empty() }, "may take 100 more"),
        ] {
            let finding = of(Ok(Some(looked)));
            assert!(finding.verdict == Verdict::Wrong && finding.says.contains(says), "{finding:?}");
        }
    }
}
