//! Reads a file of requests, and makes of it rows for `COPY`, a piece at a time.
//!
//! It is a thread of its own, because reading a pipe blocks. It is never more than some pieces ahead of the database, so memory
//! does not grow with the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::request::Request;

/// Rows are handed over in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;
/// How many pieces may wait for the database.
const PIECES_AHEAD: usize = 2;
/// The longest line that is read. What is longer is larger than a batch.
const LINE_BYTES_MAX: u64 = 256_000_000;
/// How many mistakes are told at once.
const MISTAKES_MAX: usize = 20;

/// What comes of a file, in order.
#[derive(Debug)]
pub(super) enum Piece {
    /// Rows in the binary format of `COPY`, without its header.
    Rows { copy: Vec<u8>, requests: u64, bytes: u64 },
    /// The whole file has been read. Without this a file counts as broken off.
    End,
    /// Nothing of the file may be submitted. A line for each mistake.
    Mistakes(String),
}

/// The begin of each row in the binary format of `COPY`: that it has three fields, and the first one.
fn row_head(submission: &str) -> Vec<u8> {
    let mut head = 3_i16.to_be_bytes().to_vec();
    field(&mut head, submission);
    head
}

/// Begins to read a file, or the standard input for `-`.
///
/// # Errors
/// If there can be no further thread.
pub(super) fn begin(file: &Path, submission: &str) -> io::Result<Receiver<Piece>> {
    let (pieces, received) = channel(PIECES_AHEAD);
    let (file, head) = (file.to_owned(), row_head(submission));
    // Not one of the runtime's threads: the program must end even while this one waits for a pipe, which it does already when it
    // opens it.
    thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let source: io::Result<Box<dyn Read + Send>> = match file.to_str() {
            Some("-") => Ok(Box::new(io::stdin())),
            _ => File::open(file).map(|file| Box::new(file) as _),
        };
        // Nobody receives any more if the database has refused the rows.
        let _ = match source {
            Ok(source) => read_all(BufReader::with_capacity(PIECE_BYTES, source), &head, &pieces),
            Err(error) => {
                let mistake = Piece::Mistakes(format!("it cannot be opened: {error}"));
                pieces.blocking_send(mistake).map_err(|_| Gone)
            }
        };
    })?;
    Ok(received)
}

/// Nobody receives the pieces any more.
struct Gone;

fn read_all(mut source: impl BufRead, head: &[u8], pieces: &Sender<Piece>) -> Result<(), Gone> {
    let send = |piece| pieces.blocking_send(piece).map_err(|_| Gone);
    let mut mistakes: Vec<String> = Vec::new();
    let mut line = Vec::new();
    let mut number = 0_u64;
    let mut first_empty = None;
    let (mut copy, mut requests, mut bytes) = (Vec::new(), 0, 0);
    while mistakes.len() < MISTAKES_MAX {
        line.clear();
        number += 1;
        match source.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(read) => bytes += read as u64,
            Err(error) => {
                mistakes.push(format!("line {number} cannot be read: {error}"));
                break;
            }
        }
        if line.len() as u64 > LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            mistakes.push(format!("line {number}: it alone is larger than a batch may be (256 MB)"));
            break;
        }
        // Some editors of Windows begin a file with a byte order mark.
        let text = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(&line);
        if text.trim_ascii().is_empty() {
            first_empty.get_or_insert(number);
            continue;
        }
        // Empty lines at the end are no mistake. Before another request they are: the database numbers the rows.
        if let Some(empty) = first_empty.take() {
            mistakes.push(format!("line {empty}: it is empty"));
        }
        match Request::read(text) {
            Ok(request) if mistakes.is_empty() => {
                copy.extend_from_slice(head);
                field(&mut copy, request.custom_id);
                field(&mut copy, request.params);
                requests += 1;
            }
            Ok(_) => {}
            Err(rule) => mistakes.push(format!("line {number}: {rule}")),
        }
        if copy.len() >= PIECE_BYTES && mistakes.is_empty() {
            let full = std::mem::replace(&mut copy, Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8));
            send(Piece::Rows { copy: full, requests, bytes })?;
            (requests, bytes) = (0, 0);
        }
    }
    if !mistakes.is_empty() {
        return send(Piece::Mistakes(mistakes.join("\n")));
    }
    send(Piece::Rows { copy, requests, bytes })?;
    send(Piece::End)
}

/// Adds a field with its length. A line has no more than 256 MB.
fn field(copy: &mut Vec<u8>, text: &str) {
    copy.extend_from_slice(&(text.len() as u32).to_be_bytes());
    copy.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests of a file, or its mistakes.
    fn read(file: &[u8]) -> Result<u64, String> {
        let (pieces, mut received) = channel(10);
        assert!(read_all(file, &row_head("s"), &pieces).is_ok());
        let mut all = 0;
        loop {
            match received.blocking_recv().unwrap() {
                Piece::Rows { requests, .. } => all += requests,
                Piece::End => return Ok(all),
                Piece::Mistakes(mistakes) => return Err(mistakes),
            }
        }
    }

    #[test]
    fn a_last_line_needs_no_end_and_empty_lines_may_follow() {
        let (a, b) = (r#"{"custom_id":"a","params":{}}"#, r#"{"custom_id":"b","params":{}}"#);

        assert_eq!(read(format!("{a}\r\n{b}").as_bytes()), Ok(2));
        assert_eq!(read(format!("\u{feff}{a}\n\n  \n").as_bytes()), Ok(1));
        assert_eq!(read(b""), Ok(0));
        assert_eq!(read(format!("{a}\n\n{b}\n").as_bytes()), Err("line 2: it is empty".to_owned()));
    }

    #[test]
    fn every_mistake_is_told_up_to_a_number() {
        let file = "{}\n{\"custom_id\":\"a\",\"params\":{}}\n7\n";
        let told =
            "line 1: custom_id is missing\nline 3: it is no object with custom_id and params".to_owned();
        assert_eq!(read(file.as_bytes()), Err(told));

        let many = read("{}\n".repeat(1000).as_bytes()).unwrap_err();
        assert_eq!(many.lines().count(), MISTAKES_MAX);
    }

    #[test]
    fn a_large_file_comes_in_pieces() {
        let line = format!(r#"{{"custom_id":"a","params":{{"x":"{}"}}}}"#, "x".repeat(1000));
        let file = format!("{line}\n").repeat(3000);
        let (pieces, mut received) = channel(10);
        assert!(read_all(file.as_bytes(), &row_head("s"), &pieces).is_ok());
        drop(pieces);

        let sizes: Vec<usize> = std::iter::from_fn(|| received.blocking_recv())
            .filter_map(|piece| match piece {
                Piece::Rows { copy, .. } => Some(copy.len()),
                _ => None,
            })
            .collect();

        assert!(sizes.len() == 3 && sizes.iter().all(|size| *size < PIECE_BYTES + 2000), "{sizes:?}");
    }
}
