//! Runs a program as a process of a test, which reads its log and ends it. The process does not outlive the test, and
//! leaves no file.

#![expect(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

use crate::eventually;
use crate::process::{Guarded, Launch, Signal};

/// A running program. A drop ends it and removes its log.
pub struct Program {
    guarded: Guarded,
    log: PathBuf,
}

impl Program {
    /// Runs a program with these variables, and without the variables of Restante that this process has.
    pub fn start<A: AsRef<str>>(program: &str, arguments: &[A], variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap().keep();
        let log = directory.join("log");
        let mut launch =
            Launch::new(program, &log).args(arguments.iter().map(AsRef::as_ref)).remove_at_end(directory);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let ours = ["RESTANTE_", "ANTHROPIC_", "DATABASE_URL", "OTEL_", "RUST_LOG"];
            if ours.iter().any(|prefix| text.starts_with(prefix)) {
                launch = launch.env_remove(name);
            }
        }
        for (name, value) in variables {
            launch = launch.env(*name, *value);
        }
        Self { guarded: launch.spawn().unwrap(), log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.guarded.pid()
    }

    /// Everything that the program has written to its two outputs.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the program has written `text`.
    pub async fn until_logged(&mut self, text: &str) {
        eventually(&format!("{text:?} in the log"), async || {
            let ended = self.guarded.wait_exit(Duration::ZERO).unwrap();
            let log = self.log();
            assert!(log.contains(text) || ended.is_none(), "it ended, and had said:\n{log}");
            log.contains(text).then_some(())
        })
        .await;
    }

    /// The address that the program names in its first log line with this message.
    pub fn logged_address(&self, message: &str) -> SocketAddr {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(message)).expect("an address in the log");
        serde_json::from_str::<Value>(line).unwrap()["address"].as_str().unwrap().parse().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.guarded.signal(signal).unwrap();
    }

    /// SIGKILL.
    pub fn kill_hard(&mut self) {
        self.guarded.kill_hard().unwrap();
    }

    /// Waits until the program has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the end of the program", async || self.guarded.wait_exit(Duration::ZERO).unwrap()).await
    }

    /// Stops it by SIGTERM, and returns its exit code.
    pub async fn stopped(&mut self) -> Option<i32> {
        self.signal(Signal::Terminate);
        self.ended().await.code()
    }
}
