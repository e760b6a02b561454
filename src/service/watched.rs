//! The files that a configuration was read from, and whether one of them has changed.
//!
//! Contents are compared, and not times or inodes: a file may be written in place, moved over, or be behind a link that
//! is moved, as Kubernetes does it. Of a content only its hash is kept, for it may be a secret.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};

/// What was found at each path: the hash of a text, or why there was none.
pub(super) type Seen = BTreeMap<PathBuf, Result<[u8; 32], io::ErrorKind>>;

/// Reads files for a configuration, and remembers what it found.
#[derive(Debug, Default)]
pub(super) struct Reader {
    seen: RefCell<Seen>,
    /// What can be read only once, such as a pipe of the shell: who asks again gets what was in it.
    kept: RefCell<BTreeMap<PathBuf, Kept>>,
}

/// A text that may be a secret.
struct Kept(Zeroizing<String>);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl Reader {
    /// The text of a file.
    pub(super) fn read(&self, path: &Path) -> io::Result<String> {
        if let Some(Kept(text)) = self.kept.borrow().get(path) {
            return Ok(text.as_str().to_owned());
        }
        let is_read_once = std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
        let read = std::fs::read_to_string(path);
        match &read {
            Ok(text) if is_read_once => {
                self.kept.borrow_mut().insert(path.to_owned(), Kept(text.clone().into()));
            }
            _ => {
                self.seen.borrow_mut().insert(path.to_owned(), found(&read));
            }
        }
        read
    }

    /// What was found since the last call.
    pub(super) fn take(&mut self) -> Seen {
        self.seen.take()
    }
}

/// What is there now at the same paths.
pub(super) fn look(seen: &Seen) -> Seen {
    seen.keys().map(|path| (path.clone(), found(&std::fs::read_to_string(path)))).collect()
}

fn found(read: &io::Result<String>) -> Result<[u8; 32], io::ErrorKind> {
    match read {
        Ok(text) => Ok(Sha256::digest(text.as_bytes()).into()),
        Err(error) => Err(error.kind()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_change_is_another_content_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("one"), "1").unwrap();
        let mut reader = Reader::default();
        assert_eq!(reader.read(&path("one")).unwrap(), "1");
        reader.read(&path("none")).unwrap_err();
        let seen = reader.take();
        assert_eq!(look(&seen), seen);

        std::fs::write(path("beside"), "1").unwrap();
        std::fs::rename(path("beside"), path("one")).unwrap();
        assert_eq!(look(&seen), seen, "the same once more");

        std::fs::write(path("one"), "2").unwrap();
        assert_ne!(look(&seen), seen, "another content");
        std::fs::write(path("one"), "1").unwrap();
        std::fs::write(path("none"), "").unwrap();
        assert_ne!(look(&seen), seen, "a file where there was none");
        std::fs::remove_file(path("none")).unwrap();
        assert_eq!(look(&seen), seen);
        std::fs::remove_file(path("one")).unwrap();
        assert_ne!(look(&seen), seen, "no file any more");
    }

    #[test]
    fn a_pipe_is_read_once_and_its_text_is_there_for_later() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "hush")
        });
        let mut reader = Reader::default();

        assert_eq!(reader.read(&pipe).unwrap(), "hush");
        writer.join().unwrap().unwrap();

        assert_eq!(reader.read(&pipe).unwrap(), "hush");
        assert!(reader.take().is_empty(), "nobody looks at it again");
        assert!(!format!("{reader:?}").contains("hush"));
    }
}
