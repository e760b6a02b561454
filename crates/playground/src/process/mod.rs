//! Child processes that cannot outlive the process that started them.
//!
//! Each child is started by a small shell that first starts a watcher and then becomes the child, so its process id and
//! exit status are the child's own. The watcher reads a pipe whose other end only we hold: however we end, even by
//! SIGKILL, the pipe closes, and the watcher stops the child and removes what it was told to. That works wherever there
//! is a POSIX shell, unlike `PR_SET_PDEATHSIG`.
//!
//! A child must end its own children: Postgres backends end with their postmaster.
//!
//! Everything here blocks; async callers use `spawn_blocking`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

mod launch;
mod signal;
#[cfg(test)]
mod tests;

pub use self::launch::Launch;
pub use self::signal::{Signal, send};

/// A running child process; dropping it ends the child and waits for that.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    /// While it is open, the watcher only watches.
    watcher: ChildStdin,
    status: Option<ExitStatus>,
    stop_signal: Signal,
    grace: Duration,
    remove_at_end: Option<PathBuf>,
}

impl Guarded {
    /// The process id of the child itself, even after it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the child (not to its children).
    ///
    /// # Errors
    /// `NotFound` once the child has ended: another process may have its id by then.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.poll()?.is_some() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended"));
        }
        send(signal, &[self.pid()])
    }

    /// Suspends the child until [`Guarded::thaw`], as if its machine hung.
    ///
    /// # Errors
    /// As [`Guarded::signal`].
    pub fn freeze(&mut self) -> io::Result<()> {
        self.signal(Signal::Stop)
    }

    /// Lets a frozen child run again.
    ///
    /// # Errors
    /// As [`Guarded::signal`].
    pub fn thaw(&mut self) -> io::Result<()> {
        self.signal(Signal::Continue)
    }

    /// Ends the child at once with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// If the system refuses to signal or to wait.
    pub fn kill_hard(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.poll()? {
            return Ok(status);
        }
        self.child.kill()?;
        let status = self.child.wait()?;
        Ok(self.ended(status))
    }

    /// The exit status as soon as the child has ended; `None` if it still runs after `timeout`.
    ///
    /// # Errors
    /// If the system refuses to wait.
    pub fn wait_exit(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.poll()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Ends the child by its stop signal, and by SIGKILL after the grace; then removes the path of
    /// [`Launch::remove_at_end`].
    ///
    /// # Errors
    /// If the system refuses to signal, to wait or to remove.
    pub fn end(mut self) -> io::Result<ExitStatus> {
        self.finish()
    }

    /// Ends the watch over a child that has ended, and removes nothing: another guard is responsible for that.
    pub fn release(mut self) {
        self.remove_at_end = None;
    }

    fn finish(&mut self) -> io::Result<ExitStatus> {
        let status = match self.poll()? {
            Some(status) => status,
            None => {
                // A frozen process reacts only to SIGKILL until it may continue.
                send(self.stop_signal, &[self.pid()])?;
                send(Signal::Continue, &[self.pid()])?;
                match self.wait_exit(self.grace)? {
                    Some(status) => status,
                    None => self.kill_hard()?,
                }
            }
        };
        if let Some(path) = self.remove_at_end.take() {
            remove(&path)?;
        }
        self.tell("release");
        Ok(status)
    }

    fn poll(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none()
            && let Some(status) = self.child.try_wait()?
        {
            self.ended(status);
        }
        Ok(self.status)
    }

    fn ended(&mut self, status: ExitStatus) -> ExitStatus {
        self.status = Some(status);
        // From here on the process id may be given to another process, which the watcher must not touch.
        self.tell("ended");
        status
    }

    fn tell(&mut self, word: &str) {
        // Fails only if the watcher is gone, and then there is nothing to do.
        let _ = writeln!(self.watcher, "{word}");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // If this fails, the pipe still closes, and the watcher tries once more.
        let _ = self.finish();
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(5);
