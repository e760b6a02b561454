//! Splits a byte stream into lines while it arrives.
//!
//! Chunks of any size go in, whole lines come out. As in the API's own SDK, `\n`, `\r\n` and `\r` end a line. Unicode's
//! separators (U+2028, U+0085) do not, because JSON strings may hold them. The lines do not depend on how the stream is
//! cut into chunks. The splitter holds at most one unfinished line, up to the cap. It leaves out blank lines.

use std::mem;

use bytes::{Buf, Bytes};
use memchr::memchr2;

/// The cap for a line of results: 64 MiB, far above any message that the API can produce.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The splitter. After each [`Lines::push`], call [`Lines::next`] until it returns `None`; at the end of the stream
/// call [`Lines::finish`] likewise.
#[derive(Debug)]
pub(super) struct Lines {
    line_bytes_max: usize,
    /// Bytes that have arrived and are not split yet.
    chunk: Bytes,
    /// The beginning of the current line, if it came in an earlier chunk.
    begun: Vec<u8>,
    /// Is the current line over the cap? Then the rest of it is dropped.
    too_long: bool,
    /// Did the last line end with `\r`? Then its `\n` may still come.
    after_return: bool,
    number: u64,
}

/// A line is over the cap and was skipped. The lines after it can still be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number} is longer than {line_bytes_max} bytes")]
pub(super) struct TooLong {
    /// The number of the line; the first is 1. Blank lines count, as in an editor.
    pub number: u64,
    /// The cap.
    pub line_bytes_max: usize,
}

impl Lines {
    /// A splitter that refuses lines longer than `line_bytes_max`, not counting their ending.
    pub(super) fn new(line_bytes_max: usize) -> Lines {
        Lines {
            line_bytes_max,
            chunk: Bytes::new(),
            begun: Vec::new(),
            too_long: false,
            after_return: false,
            number: 0,
        }
    }

    /// Takes the bytes that arrived.
    pub(super) fn push(&mut self, chunk: Bytes) {
        // The chunks are joined only if the caller has not taken all lines of the last one.
        self.chunk = if self.chunk.is_empty() { chunk } else { [&self.chunk[..], &chunk].concat().into() };
    }

    /// The next whole line, without its ending; `None` if more bytes are needed. A line within one chunk is not copied,
    /// so it keeps that chunk alive.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        loop {
            if self.after_return && !self.chunk.is_empty() {
                self.after_return = false;
                if self.chunk[0] == b'\n' {
                    self.chunk.advance(1);
                }
            }
            let Some(end) = memchr2(b'\n', b'\r', &self.chunk) else {
                self.begin()?;
                return Ok(None);
            };
            let piece = self.chunk.split_to(end);
            self.after_return = self.chunk[0] == b'\r';
            self.chunk.advance(1);
            if let Some(line) = self.end(piece)? {
                return Ok(Some(line));
            }
        }
    }

    /// The lines that are left at the end of the stream, including a last one without an ending. Call it until it
    /// returns `None`.
    pub(super) fn finish(&mut self) -> Result<Option<Bytes>, TooLong> {
        if let Some(line) = self.next()? {
            return Ok(Some(line));
        }
        if self.begun.is_empty() && !self.too_long {
            return Ok(None);
        }
        self.end(Bytes::new())
    }

    /// The number of the last line; the first is 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Adds the whole chunk to the unfinished line.
    fn begin(&mut self) -> Result<(), TooLong> {
        let piece = mem::take(&mut self.chunk);
        if self.too_long {
            return Ok(());
        }
        if self.begun.len() + piece.len() > self.line_bytes_max {
            self.too_long = true;
            self.begun = Vec::new();
            return Err(self.error(self.number + 1));
        }
        self.begun.extend_from_slice(&piece);
        Ok(())
    }

    /// Ends the current line with this piece. `None` if the line is blank, or was reported as too long.
    fn end(&mut self, piece: Bytes) -> Result<Option<Bytes>, TooLong> {
        self.number += 1;
        if mem::take(&mut self.too_long) {
            return Ok(None);
        }
        let mut begun = mem::take(&mut self.begun);
        if begun.len() + piece.len() > self.line_bytes_max {
            return Err(self.error(self.number));
        }
        let line = if begun.is_empty() {
            piece
        } else {
            begun.extend_from_slice(&piece);
            begun.into()
        };
        Ok((!line.trim_ascii().is_empty()).then_some(line))
    }

    fn error(&self, number: u64) -> TooLong {
        TooLong { number, line_bytes_max: self.line_bytes_max }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// Each line, or the number of the one that is too long.
    type Outcome = Vec<Result<Vec<u8>, u64>>;

    fn split(chunks: &[&[u8]], line_bytes_max: usize) -> Outcome {
        let mut lines = Lines::new(line_bytes_max);
        let mut outcome = Outcome::new();
        for chunk in chunks {
            lines.push(Bytes::copy_from_slice(chunk));
            drain(&mut outcome, || lines.next());
        }
        drain(&mut outcome, || lines.finish());
        outcome
    }

    fn drain(outcome: &mut Outcome, mut next: impl FnMut() -> Result<Option<Bytes>, TooLong>) {
        while let Some(line) = next().transpose() {
            outcome.push(line.map(Vec::from).map_err(|error| error.number));
        }
    }

    /// The same in the plainest way, with all bytes at once.
    fn naive(bytes: &[u8], line_bytes_max: usize) -> Outcome {
        let mut text = Vec::new();
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                b'\r' => text.push(b'\n'),
                b'\n' if at > 0 && bytes[at - 1] == b'\r' => {}
                other => text.push(other),
            }
        }
        text.split(|&byte| byte == b'\n')
            .zip(1..)
            .filter_map(|(line, number)| match line {
                line if line.len() > line_bytes_max => Some(Err(number)),
                line if line.iter().all(u8::is_ascii_whitespace) => None,
                line => Some(Ok(line.to_vec())),
            })
            .collect()
    }

    fn lines(expected: &[&str]) -> Outcome {
        expected.iter().map(|line| Ok(line.as_bytes().to_vec())).collect()
    }

    #[test]
    fn every_ending_ends_a_line_and_the_last_needs_none() {
        assert_eq!(split(&[b"a\nb\r\nc\rd"], 9), lines(&["a", "b", "c", "d"]));
    }

    #[test]
    fn a_chunk_may_end_between_return_and_newline() {
        assert_eq!(split(&[b"a\r", b"\nb"], 9), lines(&["a", "b"]));
        assert_eq!(split(&[b"a\r", b"b"], 9), lines(&["a", "b"]));
    }

    #[test]
    fn blank_lines_are_left_out_but_counted() {
        let mut splitter = Lines::new(9);
        splitter.push(Bytes::from_static(b"\n \t\r\na\n"));

        assert_eq!(splitter.next(), Ok(Some(Bytes::from_static(b"a"))));
        assert_eq!(splitter.number(), 3);
    }

    #[test]
    fn unicode_separators_are_data() {
        let line = "a\u{2028}b\u{85}c\u{2029}d";

        assert_eq!(split(&[line.as_bytes()], 20), lines(&[line]));
    }

    #[test]
    fn a_line_within_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"abc\ndef\n");
        let mut splitter = Lines::new(9);
        splitter.push(chunk.clone());

        let line = splitter.next().unwrap().unwrap();

        assert_eq!(line.as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn a_line_over_the_cap_is_named_once_held_never_and_passed_over() {
        let mut splitter = Lines::new(1000);
        splitter.push(Bytes::from_static(b"first\n"));
        assert!(splitter.next().unwrap().is_some());

        let mut errors = Vec::new();
        for _ in 0..1000 {
            splitter.push(Bytes::from(vec![b'x'; 300]));
            errors.extend(splitter.next().err());
            assert!(splitter.begun.capacity() <= 2000);
        }
        splitter.push(Bytes::from_static(b"x\nlast\n"));

        assert_eq!(errors, [TooLong { number: 2, line_bytes_max: 1000 }]);
        assert_eq!(splitter.next(), Ok(Some(Bytes::from_static(b"last"))));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn the_cuts_between_chunks_change_nothing(
            chunks in vec(vec(select(&b"ab \xe2\r\r\n\n"[..]), 0..7), 0..12),
            line_bytes_max in 0..12_usize,
        ) {
            let pieces: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();

            prop_assert_eq!(split(&pieces, line_bytes_max), naive(&chunks.concat(), line_bytes_max));
        }
    }
}
