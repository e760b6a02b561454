//! A measured program: a receiver, a worker or a client.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::Context;
use restante_playground::free_port;
use restante_playground::process::{Guarded, Launch, Signal};
use secrecy::{ExposeSecret, SecretString};

use crate::Bench;

/// How long a program may take for its task before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Which runtime starts a program, and where it was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// A binary of the product.
    Product,
    /// This program itself, which uses the library as its users do.
    Library,
    /// A binary of `peers/rust`.
    Rust,
    /// A script of `peers/node`.
    Node,
    /// A script of `peers/python`.
    Python,
    /// A program that pip installed.
    PythonProgram,
}

/// A started program. It ends when this is dropped.
pub(crate) struct Program {
    guarded: Guarded,
    name: String,
    log: PathBuf,
}

impl Program {
    /// Starts `name` with a database and with further variables.
    pub(crate) fn start(
        bench: &Bench,
        runtime: Runtime,
        name: &str,
        arguments: &[&str],
        database: &SecretString,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let peers = bench.root.join("benches/peers");
        let python = bench.built.join("python/bin");
        let (program, script) = match runtime {
            Runtime::Product => (bench.built.join("release").join(name), None),
            Runtime::Library => (std::env::current_exe()?, None),
            Runtime::Rust => (bench.built.join("peers/release").join(name), None),
            Runtime::Node => (PathBuf::from("node"), Some(peers.join("node").join(name))),
            Runtime::Python => (python.join("python"), Some(peers.join("python").join(name))),
            Runtime::PythonProgram => (python.join(name), None),
        };
        let log = bench.built.join("logs").join(format!("{:016x}.log", rand::random::<u64>()));
        fs::create_dir_all(log.parent().context("a log has a directory")?)?;
        let mut launch = Launch::new(program, &log)
            .args(script)
            .args(arguments)
            // Gunicorn looks here for its settings and for the receiver.
            .current_dir(peers.join("python"))
            .env("DATABASE_URL", database.expose_secret());
        for (name, value) in variables {
            launch = launch.env(*name, *value);
        }
        Ok(Self { guarded: launch.spawn()?, name: name.to_owned(), log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.guarded.pid()
    }

    /// Waits until the program listens.
    pub(crate) fn wait_listening(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        self.wait_for("to listen", || Ok(TcpStream::connect(address).ok()))?;
        Ok(())
    }

    /// Waits for a line that begins with `word`, and returns the rest of the line.
    pub(crate) fn wait_line(&mut self, word: &str) -> anyhow::Result<String> {
        let log = self.log.clone();
        self.wait_for(word, || Ok(lines(&log, word)?.into_iter().next()))
    }

    /// The first line that begins with `word`, without `word`. Fails if the program ended before it wrote one.
    pub(crate) fn line(&mut self, word: &str) -> anyhow::Result<Option<String>> {
        let ended = self.guarded.wait_exit(Duration::ZERO)?.is_some();
        let line = self.lines(word)?.into_iter().next();
        anyhow::ensure!(line.is_some() || !ended, "{} has ended early:\n{}", self.name, self.log_end());
        Ok(line)
    }

    /// Every line that begins with `word`, without `word`.
    pub(crate) fn lines(&self, word: &str) -> anyhow::Result<Vec<String>> {
        lines(&self.log, word)
    }

    /// Waits until the program ends, which has to be with success.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let status = self.guarded.wait_exit(PATIENCE)?.context("it did not end")?;
        anyhow::ensure!(status.success(), "{} ended with {status}:\n{}", self.name, self.log_end());
        Ok(())
    }

    /// Asks the program to end.
    pub(crate) fn ask_to_stop(&mut self) -> anyhow::Result<()> {
        Ok(self.guarded.signal(Signal::Terminate)?)
    }

    /// Asks the program to end, and waits until it has.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.guarded.end()?;
        Ok(())
    }

    fn wait_for<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // In this order, so that the last output of the program is seen.
            let ended = self.guarded.wait_exit(Duration::ZERO)?.is_some();
            if let Some(found) = look()? {
                return Ok(found);
            }
            anyhow::ensure!(
                !ended && Instant::now() < deadline,
                "waited for {} in vain ({what}):\n{}",
                self.name,
                self.log_end()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// The complete lines of a file that begin with `word`, without `word`.
fn lines(path: &Path, word: &str) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(path)?;
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    Ok(complete.lines().filter_map(|line| Some(line.strip_prefix(word)?.trim().to_owned())).collect())
}

/// A free address on this machine.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}

/// Runs a short command of an installation or of Postgres, and returns its output.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.get_program());
    let output = command.output().context(shown.clone())?;
    anyhow::ensure!(output.status.success(), "{shown} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
