//! Where answers are written to: the standard output, or a file that is there only once it is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The place that answers are written to. Without [`Out::finish`] no file is left.
pub(super) struct Out {
    writer: BufWriter<Box<dyn Write + Send>>,
    /// The file that is written, and the name that it gets.
    file: Option<(PathBuf, PathBuf)>,
}

const BUFFER_BYTES: usize = 256 << 10;

impl Out {
    /// The standard output, or a file.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Out> {
        let (writer, file): (Box<dyn Write + Send>, _) = match path {
            None => (Box::new(io::stdout()), None),
            // Such as /dev/stdout, which nothing may take the place of.
            Some(path) if fs::metadata(path).is_ok_and(|there| !there.is_file()) => {
                (Box::new(File::options().write(true).open(path)?), None)
            }
            Some(path) => {
                // What a link leads to is replaced, and not the link.
                let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                let mut name = path.file_name().unwrap_or_default().to_owned();
                name.push(".part");
                let part = path.with_file_name(name);
                (Box::new(File::create(&part)?), Some((part, path)))
            }
        };
        Ok(Out { writer: BufWriter::with_capacity(BUFFER_BYTES, writer), file })
    }

    pub(super) fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.writer.write_all(line)?;
        self.writer.write_all(b"\n")
    }

    /// Everything was written.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.writer.flush()?;
        if let Some((part, path)) = &self.file {
            File::open(part)?.sync_all()?;
            fs::rename(part, path)?;
        }
        self.file = None;
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some((part, _)) = &self.file {
            // It is only a part, and whoever reads the error will not look for it.
            let _ = fs::remove_file(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answers.jsonl");
        let names = || -> Vec<_> {
            let entries = fs::read_dir(directory.path()).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };

        let mut given_up = Out::open(Some(&path)).unwrap();
        given_up.line(b"{}").unwrap();
        assert_eq!(names(), ["answers.jsonl.part"]);
        drop(given_up);
        assert!(names().is_empty());

        let mut whole = Out::open(Some(&path)).unwrap();
        whole.line(b"{}").unwrap();
        whole.finish().unwrap();
        assert_eq!((names(), fs::read(&path).unwrap()), (vec!["answers.jsonl".to_owned()], b"{}\n".to_vec()));
        Out::open(Some(Path::new("/dev/null"))).unwrap().finish().unwrap();
    }
}
