//! A terminal on which one picture is drawn over the other, by the control sequences that every terminal has.
//!
//! It is the terminal's other screen, so what stood there before is there again afterwards, with the last picture below.

use std::io::{self, Write};

/// The other screen, without a cursor; lines that are too long end at the edge instead of going on below.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// A terminal that is drawn on. Dropping it gives the terminal back.
#[derive(Debug)]
pub(super) struct Screen<W: Write> {
    terminal: W,
    last: String,
}

impl<W: Write> Screen<W> {
    /// # Errors
    /// If the terminal is gone.
    pub(super) fn open(mut terminal: W) -> io::Result<Screen<W>> {
        terminal.write_all(ENTER.as_bytes())?;
        terminal.flush()?;
        Ok(Screen { terminal, last: String::new() })
    }

    /// Draws a text in the place of the one before.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub(super) fn show(&mut self, text: &str) -> io::Result<()> {
        // Each line goes to its place, so that a text that is too high does not scroll, and all in one write, so
        // that no half of it is ever seen.
        let mut frame = String::new();
        for (row, line) in (1..).zip(text.lines()) {
            frame += &format!("\x1b[{row};1H{line}\x1b[K");
        }
        frame += "\x1b[J";
        text.clone_into(&mut self.last);
        self.terminal.write_all(frame.as_bytes())?;
        self.terminal.flush()
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = write!(self.terminal, "{LEAVE}{}", self.last).and_then(|()| self.terminal.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_drawn_over_each_other_and_the_last_one_stays() {
        let mut written = Vec::new();
        {
            let mut screen = Screen::open(&mut written).unwrap();
            screen.show("a\nb\n").unwrap();
            screen.show("c\n").unwrap();
        }
        let written = String::from_utf8(written).unwrap();

        let drawn = written.strip_prefix(ENTER).unwrap();
        let (drawn, last) = drawn.split_once(LEAVE).unwrap();
        assert_eq!(drawn, "\x1b[1;1Ha\x1b[K\x1b[2;1Hb\x1b[K\x1b[J\x1b[1;1Hc\x1b[K\x1b[J");
        assert_eq!(last, "c\n");
    }
}
