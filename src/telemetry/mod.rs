//! The log and the metrics: what a running program says about itself.
//!
//! Services log to the standard output, one whole line per write: log collectors of containers take these lines
//! unchanged, while several of them file everything from the standard error under errors. The hand tool prints its
//! results on the standard output, so it logs to the standard error.
//!
//! Neither the log nor the metrics may cost an event: if the pipe is closed or full, lines are lost and nothing else.
//! And neither may show a secret, so the libraries that see keys, headers and bodies stay at `info` whatever `RUST_LOG`
//! says: below that level some of them print what passes through them, and no list of ours could keep up with where.
//! `log` decides which lines are written, `lines` writes them to the output, `names` has the names of the metrics, `keys`
//! sets those of keys, and `recorder` has their descriptions; `traces` sends spans to a collector. The library names metrics and
//! writes lines; a service records both.

mod keys;
#[cfg(feature = "service")]
mod lines;
#[cfg(feature = "service")]
mod log;
mod names;
#[cfg(feature = "service")]
mod recorder;
#[cfg(feature = "service")]
mod traces;

pub use self::keys::KeyGauges;
#[cfg(feature = "service")]
pub use self::lines::Flush;
#[cfg(feature = "service")]
pub use self::log::{Error, LogFormat, init, init_on_stderr};
pub use self::names::{attempts, event_type_label, metric};
#[cfg(feature = "service")]
pub use self::recorder::{
    note_build, recorder, start_configuration_at_zero, start_ingest_at_zero, start_worker_at_zero,
};
#[cfg(feature = "service")]
pub use self::traces::{SendTraces, TraceError, send_traces};
