//! How far the reading of a file has come, on a terminal: one line that is written anew.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::columns::grouped;

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(200);

/// What has been read so far.
#[derive(Debug)]
pub(super) struct Progress {
    begun: Instant,
    shown: Option<Instant>,
    is_shown: bool,
    requests: u64,
    bytes: u64,
}

impl Progress {
    pub(super) fn new() -> Self {
        let is_shown = io::stderr().is_terminal();
        Self { begun: Instant::now(), shown: None, is_shown, requests: 0, bytes: 0 }
    }

    /// Adds what was read, and shows it if the last look is some time ago.
    pub(super) fn add(&mut self, requests: u64, bytes: u64) {
        self.requests += requests;
        self.bytes += bytes;
        if self.is_shown && self.shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
            self.shown = Some(Instant::now());
            let said = self.said(self.begun.elapsed());
            // A terminal that is gone needs no progress.
            let _ = write!(io::stderr(), "\r{said}\x1b[K");
        }
    }

    /// Removes the line.
    pub(super) fn clear(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// What was read in all: `1,000 requests, 0.2 MB`.
    pub(super) fn total(&self) -> String {
        let requests = grouped(i64::try_from(self.requests).unwrap_or(i64::MAX));
        format!("{requests} requests, {:.1} MB", self.bytes as f64 / 1e6)
    }

    fn said(&self, elapsed: Duration) -> String {
        let per_second = self.requests as f64 / elapsed.as_secs_f64().max(0.001);
        format!("{}, {} per second", self.total(), grouped(per_second as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_much_and_how_fast() {
        let mut progress = Progress { is_shown: false, ..Progress::new() };
        progress.add(12_000, 3_000_000);

        assert_eq!(progress.said(Duration::from_secs(4)), "12,000 requests, 3.0 MB, 3,000 per second");
    }
}
