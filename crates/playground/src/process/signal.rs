//! Signals, and how to send them without `unsafe`.

use std::io;
use std::process::{Command, Stdio};

/// A signal that a process can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM
    Terminate,
    /// SIGINT
    Interrupt,
    /// SIGQUIT
    Quit,
    /// SIGKILL
    Kill,
    /// SIGSTOP
    Stop,
    /// SIGCONT
    Continue,
}

impl Signal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::Quit => "QUIT",
            Signal::Kill => "KILL",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        }
    }
}

/// Sends one signal to all of `pids`; ignores those that are already gone.
///
/// # Errors
/// If no shell can be started.
pub fn send(signal: Signal, pids: &[u32]) -> io::Result<()> {
    // The shell's own `kill`, because slim images have no such program and std cannot send signals.
    let script = r#"signal=$1; shift; for pid in "$@"; do kill -s "$signal" "$pid"; done"#;
    Command::new("/bin/sh")
        .args(["-c", script, "signal", signal.name()])
        .args(pids.iter().map(u32::to_string))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(())
}
