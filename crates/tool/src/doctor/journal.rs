//! The doctor looks into the folder of the journal.

use std::io;
use std::path::Path;

use chrono::Utc;
use restante::internals::ingest::Backlog;

use super::finding::Finding;
use crate::journal;

/// Examines the folder that RESTANTE_JOURNAL_DIR names.
pub(super) fn examine(folder: &Path) -> Finding {
    judge(folder, journal::look(folder))
}

fn judge(folder: &Path, looked: io::Result<Option<Backlog>>) -> Finding {
    let place = folder.display();
    match looked {
        Err(error) => Finding::wrong(
            "journal",
            format!("{place} cannot be read: {error}"),
            "ingest cannot keep deliveries there while the database is away",
            "let the account of ingest own the folder, and run the doctor as that account",
        ),
        Ok(None) => {
            Finding::fine("journal", format!("{place} is not there yet: ingest makes it at its start"))
        }
        Ok(Some(backlog)) if backlog.aside > 0 => Finding::wrong(
            "journal",
            format!("{place} holds {} files that could not be replayed", backlog.aside),
            "the events in them were answered with 2xx, and are not in the database",
            "look for their names in the log of ingest, keep them for the search, and move them away",
        ),
        Ok(Some(backlog)) => match backlog.told(Utc::now()) {
            Some(told) => Finding::warn(
                "journal",
                format!("{place}: {told}"),
                "these events are on the disk of this machine only, and no worker sees them",
                "bring the database back: ingest stores them by itself then, also after a restart",
            ),
            None => {
                Finding::fine("journal", format!("{place} holds no event: deliveries go to the database"))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_journal_is_told_by_what_waits_in_it() {
        let folder = Path::new("/journal");
        let waiting = Backlog { events: 3, bytes: 900, oldest: Some(Utc::now()), ..Backlog::default() };

        let of = |looked| judge(folder, looked);
        assert_eq!(of(Ok(None)).verdict, Verdict::Fine);
        assert_eq!(of(Ok(Some(Backlog::default()))).verdict, Verdict::Fine);
        let told = of(Ok(Some(waiting.clone())));
        assert_eq!(told.verdict, Verdict::Warn);
        assert!(told.says.contains("3 events (900 bytes) wait in the journal"), "{}", told.says);
        assert_eq!(of(Ok(Some(Backlog { aside: 1, ..waiting }))).verdict, Verdict::Wrong);
        assert_eq!(of(Err(io::ErrorKind::PermissionDenied.into())).verdict, Verdict::Wrong);
    }
}
