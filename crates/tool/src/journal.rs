//! What waits in the journal of an ingest on this machine, for the commands that tell it.

use std::io;
use std::path::Path;

use chrono::Utc;
use restante::internals::ingest::{self, Backlog};

/// What waits in the folder that RESTANTE_JOURNAL_DIR names. `Ok(None)` if there is no such folder.
///
/// # Errors
/// Where it cannot be read.
pub(crate) fn look(folder: &Path) -> io::Result<Option<Backlog>> {
    ingest::inspect(folder)
}

/// What waits there, in a line for people; `None` if nothing does.
pub(crate) fn told(folder: &Path) -> Option<String> {
    match look(folder) {
        Ok(backlog) => backlog?.told(Utc::now()),
        Err(error) => Some(format!("{} cannot be read: {error}", folder.display())),
    }
}
