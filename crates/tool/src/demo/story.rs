//! The output of the demo: each line has the time since the start, and a long step prints dots.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How often a long step prints a dot.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// The demo was asked to stop before its end.
#[derive(Debug, thiserror::Error)]
#[error("stopped on request")]
pub(super) struct Stopped;

/// Writes to the standard output, in colour only if that is a terminal.
pub(super) struct Story {
    out: Box<dyn Write + Send>,
    colour: bool,
    begun: Instant,
    stop: CancellationToken,
}

impl Story {
    pub(super) fn new(stop: CancellationToken) -> Story {
        Story { out: Box::new(io::stdout()), colour: io::stdout().is_terminal(), begun: Instant::now(), stop }
    }

    /// Prints a line as it is.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Prints a title.
    pub(super) fn title(&mut self, text: &str) -> io::Result<()> {
        let text = self.painted("1", text);
        self.say(&format!("\n{text}"))
    }

    /// Prints the line of success.
    pub(super) fn triumph(&mut self, text: &str) -> io::Result<()> {
        let text = self.painted("1;32", text);
        self.say(&format!("\n{text}"))
    }

    /// Prints a line about what has just happened, with the time.
    pub(super) fn step(&mut self, text: &str) -> io::Result<()> {
        let time = self.time();
        self.say(&format!("{time}  {text}"))
    }

    /// Does work that may take long. Prints a line that begins with `doing`, gets a dot per second, and ends with the
    /// result.
    ///
    /// # Errors
    /// The error of the work, or [`Stopped`], for which the work is dropped.
    pub(super) async fn during<T>(
        &mut self,
        doing: &str,
        work: impl Future<Output = anyhow::Result<T>>,
        said: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<T> {
        let time = self.time();
        write!(self.out, "{time}  {doing} ")?;
        self.out.flush()?;
        let stop = self.stop.clone();
        let mut signs = tokio::time::interval(SIGN_OF_LIFE);
        signs.reset();
        tokio::pin!(work);
        let mut dots = false;
        let outcome = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break Err(Stopped.into()),
                outcome = &mut work => break outcome,
                _ = signs.tick() => {
                    dots = true;
                    write!(self.out, ".")?;
                    self.out.flush()?;
                }
            }
        };
        let end = outcome.as_ref().map_or_else(|_| String::new(), said);
        writeln!(self.out, "{}{end}", if dots { " " } else { "" })?;
        self.out.flush()?;
        outcome
    }

    /// Does work that no signal may interrupt, and then prints `text`.
    ///
    /// # Errors
    /// The error of the work.
    pub(super) async fn finish(
        &mut self,
        text: &str,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        work.await?;
        Ok(self.step(text)?)
    }

    fn time(&self) -> String {
        self.painted("2", &format!("{:6.1} s", self.begun.elapsed().as_secs_f64()))
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn story(stop: CancellationToken) -> (Story, Kept) {
        let kept = Kept::default();
        (Story { out: Box::new(kept.clone()), colour: false, begun: Instant::now(), stop }, kept)
    }

    #[tokio::test]
    async fn what_came_of_the_work_ends_its_line() {
        let (mut story, kept) = story(CancellationToken::new());

        let ten =
            story.during("counting", async { Ok(10) }, |count| format!("{count} of them")).await.unwrap();

        assert_eq!(ten, 10);
        let told = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(told.ends_with("s  counting 10 of them\n"), "{told}");
    }

    #[tokio::test]
    async fn a_stop_ends_what_would_take_for_ever() {
        let stop = CancellationToken::new();
        let (mut story, _) = story(stop.clone());
        stop.cancel();

        let outcome =
            story.during("waiting", std::future::pending::<anyhow::Result<()>>(), |()| String::new()).await;

        assert!(outcome.unwrap_err().is::<Stopped>());
    }
}
