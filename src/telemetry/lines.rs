//! Writes log lines to a pipe: a writer that never waits, and a thread that does.
//!
//! If a collector stops reading, the pipe fills up, and a write to it blocks until the collector reads again. On a
//! thread of the runtime this would delay deliveries and the renewal of leases; here only the log's own thread waits.
//! Lines for which there is no room meanwhile are dropped whole, and counted.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::names::metric;

/// How many bytes may wait for the pipe: some thousand lines.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How long a program that ends waits for a full pipe.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// The writer. Each write counts as a whole line, because `tracing_subscriber` writes whole lines.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

/// When dropped, waits until all logged lines have been written, for a second at most.
#[must_use = "the last lines of the log are lost unless this lives as long as the program"]
pub struct Flush(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// The thread has taken bytes that it has not written yet.
    writing: bool,
}

impl Lines {
    /// Starts the thread that writes to `pipe`, which lives as long as the process.
    pub(super) fn start(mut pipe: impl Write + Send + 'static) -> io::Result<(Lines, Flush)> {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let lines = writer.take();
                // If the pipe is closed the lines are lost, and there is no other place to report it.
                let _ = pipe.write_all(&lines).and_then(|()| pipe.flush());
                writer.written();
            }
        })?;
        Ok((Lines(Arc::clone(&shared)), Flush(shared)))
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.lock();
        if waiting.bytes.len() + line.len() <= WAITING_BYTES_MAX {
            waiting.bytes.extend_from_slice(line);
            self.0.changed.notify_all();
        } else {
            drop(waiting);
            metrics::counter!(metric::LOG_LINES_DROPPED_TOTAL).increment(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No holder can panic between two changes that belong together.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there are bytes, and takes all of them.
    fn take(&self) -> Vec<u8> {
        let waiting = self.changed.wait_while(self.lock(), |waiting| waiting.bytes.is_empty());
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        waiting.writing = true;
        std::mem::take(&mut waiting.bytes)
    }

    fn written(&self) {
        self.lock().writing = false;
        self.changed.notify_all();
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let is_busy = |waiting: &mut Waiting| waiting.writing || !waiting.bytes.is_empty();
        drop(self.0.changed.wait_timeout_while(self.0.lock(), FLUSH_DEADLINE, is_busy));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, SyncSender};

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// A pipe in which each write waits for a go-ahead, and then hands over its bytes.
    struct Slow {
        go: Receiver<()>,
        written: SyncSender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.go.recv().map_err(closed)?;
            self.written.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_up_nobody_and_what_is_dropped_is_counted() {
        let (go, wait) = mpsc::sync_channel(16);
        let (sender, written) = mpsc::sync_channel(16);
        let (mut lines, flush) = Lines::start(Slow { go: wait, written: sender }).unwrap();
        let recorder = PrometheusBuilder::new().build_recorder();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        // The buffer fits once, and once more what the thread may have taken already; the third part is too much.
        let too_many = 3 * WAITING_BYTES_MAX / line.len();

        metrics::with_local_recorder(&recorder, || {
            for _ in 0..too_many {
                lines.write_all(&line).unwrap();
            }
        });
        (0..16).for_each(|_| go.send(()).unwrap());
        drop(flush);

        let arrived: Vec<u8> = written.try_iter().flatten().collect();
        assert_eq!(arrived.len() % line.len(), 0, "only whole lines are dropped");
        let dropped = too_many - arrived.len() / line.len();
        assert!(dropped >= WAITING_BYTES_MAX / line.len(), "{dropped}");
        let text = recorder.handle().render();
        assert!(text.contains(&format!("restante_log_lines_dropped_total {dropped}\n")), "{text}");
    }

    #[test]
    fn what_was_logged_is_written_before_the_program_ends() {
        let (go, wait) = mpsc::sync_channel(16);
        let (sender, written) = mpsc::sync_channel(16);
        (0..16).for_each(|_| go.send(()).unwrap());
        let (mut lines, flush) = Lines::start(Slow { go: wait, written: sender }).unwrap();

        lines.write_all(b"first\n").unwrap();
        lines.write_all(b"last\n").unwrap();
        drop(flush);

        assert_eq!(written.try_iter().flatten().collect::<Vec<u8>>(), b"first\nlast\n");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let (go, wait) = mpsc::sync_channel(1);
        let (sender, _) = mpsc::sync_channel(1);
        let (mut lines, flush) = Lines::start(Slow { go: wait, written: sender }).unwrap();
        drop(go);

        lines.write_all(b"nobody reads this\n").unwrap();
        drop(flush);

        lines.write_all(b"nor this\n").unwrap();
    }
}
