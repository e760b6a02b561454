//! The log and the metrics: what a running program says about itself.
//!
//! Log lines go to the standard output, one whole line per write, for a container's collector takes that as it
//! is, while several of them file everything from the standard error under errors. The hand tool has its
//! answers on the standard output and so logs to the standard error.
//!
//! Neither may cost an event: a pipe that is closed or full loses lines and nothing else. And neither may show a
//! secret, so the libraries that see keys, headers and bodies stay at `info` whatever `RUST_LOG` asks for:
//! below that level some of them print what passes through them, and no list of ours would keep up with where.
//! Who gets lines is said in `log`, their way to the output is in `lines`, the names of the metrics are in `names`, and what
//! is said of each in `recorder`. The library names metrics and writes lines; a service has both recorded.

#[cfg(feature = "service")]
mod lines;
#[cfg(feature = "service")]
mod log;
mod names;
#[cfg(feature = "service")]
mod recorder;

#[cfg(feature = "service")]
pub use self::lines::Flush;
#[cfg(feature = "service")]
pub use self::log::{Error, LogFormat, init, init_on_stderr};
pub use self::names::{attempts, event_type_label, metric};
#[cfg(feature = "service")]
pub use self::recorder::{note_build, recorder, start_ingest_at_zero, start_worker_at_zero};
