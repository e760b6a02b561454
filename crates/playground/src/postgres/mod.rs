//! A Postgres of our own: a fresh cluster that ends, and is removed, with the process that started it.
//!
//! It listens on 127.0.0.1 only, with a generated password, and never touches a cluster of the machine. A guard of
//! [`crate::process`] ends it; this module adds a cluster that can be crashed and started again, to check what is left
//! after a crash. Everything here blocks.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use self::cluster::Cluster;
use crate::free_port;
use crate::postgres_bin;
use crate::process::{self, Guarded, Signal};
use crate::process_table::{children_of, is_running};

mod cluster;
#[cfg(test)]
mod tests;

pub use self::cluster::Durability;

/// A running private Postgres; dropping it stops the server and removes its data.
#[derive(Debug)]
pub struct PrivatePostgres {
    cluster: Cluster,
    options: Vec<(String, String)>,
    password: SecretString,
    port: u16,
    server: Guarded,
}

/// The settings of a private Postgres.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of `initdb` and `postgres`, if it is set (`PG_BIN`).
    pub pg_bin: Option<PathBuf>,
    /// The search path for programs otherwise (`PATH`).
    pub path: Option<OsString>,
    /// The parent of the cluster's directory, mostly [`std::env::temp_dir`].
    pub parent: PathBuf,
    /// Which commits survive a crash.
    pub durability: Durability,
    /// Server settings that win over ours, such as `("log_min_duration_statement", "0")`.
    pub options: Vec<(String, String)>,
}

/// Why there is no private Postgres.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs of Postgres were not found.
    #[error(transparent)]
    Programs(#[from] postgres_bin::Error),
    /// The system refused something.
    #[error("{action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Postgres refuses to run as root, and there is no other account for it.
    #[error("Postgres does not run as root, and /etc/passwd has neither `postgres` nor `nobody` to run it")]
    NoAccount,
    /// A program of Postgres gave up.
    #[error("{program} gave up; the end of its log:\n{log}")]
    GaveUp {
        /// Which one.
        program: &'static str,
        /// The last lines that it wrote.
        log: String,
    },
    /// The server was not ready in time.
    #[error("Postgres was not ready within {} s; the end of its log:\n{log}", PATIENCE.as_secs())]
    NotReady {
        /// The last lines that it wrote.
        log: String,
    },
}

impl PrivatePostgres {
    /// Makes a cluster and starts its server, which takes about a second.
    ///
    /// # Errors
    /// If Postgres is not installed, or does not start.
    pub fn start(settings: &Settings) -> Result<PrivatePostgres, Error> {
        let programs = postgres_bin::find(settings.pg_bin.as_deref(), settings.path.as_deref())?;
        let directory = settings.parent.join(format!("restante-postgres-{:016x}", rand::random::<u64>()));
        fs::DirBuilder::new().mode(0o700).create(&directory).map_err(system("cannot make a directory"))?;
        PrivatePostgres::start_in(&directory, programs, settings).inspect_err(|_| {
            // Mostly a guard has removed it already. If this fails too, the first error is the one to report.
            let _ = fs::remove_dir_all(&directory);
        })
    }

    fn start_in(directory: &Path, programs: PathBuf, settings: &Settings) -> Result<PrivatePostgres, Error> {
        let password: SecretString = hex::encode(rand::random::<[u8; 16]>()).into();
        let (cluster, initdb) = Cluster::initialise(directory, programs, settings.durability, &password)?;
        let mut options = settings.durability.options();
        options.extend(settings.options.iter().cloned());

        for _ in 0..PORT_ATTEMPTS {
            let port = free_port().map_err(system("cannot find a free port"))?;
            let server = cluster.launch(&options, port)?;
            let mut postgres = PrivatePostgres {
                cluster: cluster.clone(),
                options: options.clone(),
                password: password.clone(),
                port,
                server,
            };
            match postgres.wait_ready() {
                // Another process took the port between our check and the server's start.
                Err(Error::GaveUp { log, .. }) if log.contains("could not bind") => postgres.server.release(),
                Err(error) => return Err(error),
                Ok(()) => {
                    initdb.release();
                    return Ok(postgres);
                }
            }
        }
        Err(Error::GaveUp { program: "postgres", log: cluster.log_end() })
    }

    /// The URL of a database of this server, with the password of its superuser.
    pub fn url(&self, database: &str) -> String {
        let password = self.password.expose_secret();
        let server = format!("postgres://postgres:{password}@127.0.0.1:{}", self.port);
        let mut url = Url::parse(&server).expect("a hexadecimal password and a port need no escape");
        url.set_path(database);
        url.into()
    }

    /// The directory of its programs, including `psql` if that is installed.
    pub fn programs(&self) -> &Path {
        &self.cluster.programs
    }

    /// Crashes the server: SIGKILL for it and all of its children. The data stays for [`PrivatePostgres::restart`].
    ///
    /// # Errors
    /// If the system refuses to signal or to wait.
    pub fn kill_hard(&mut self) -> Result<(), Error> {
        self.crash().map_err(system("cannot kill Postgres"))
    }

    fn crash(&mut self) -> io::Result<()> {
        if self.server.wait_exit(Duration::ZERO)?.is_some() {
            return Ok(());
        }
        // Frozen first, so that it neither sees a child die nor starts another one while we list them.
        self.server.freeze()?;
        let children = children_of(self.server.pid())?;
        process::send(Signal::Kill, &children)?;
        self.server.kill_hard()?;
        // A backend that still runs holds the shared memory, and the next server would refuse to start.
        let deadline = Instant::now() + PATIENCE;
        while children.iter().any(|pid| is_running(*pid)) && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Starts the server again on the same data and port after a crash; it recovers first. A server that still runs is
    /// crashed before.
    ///
    /// # Errors
    /// If the server does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.kill_hard()?;
        let server = self.cluster.launch(&self.options, self.port)?;
        // In this order, so that at every moment one guard is responsible for removing the data.
        std::mem::replace(&mut self.server, server).release();
        self.wait_ready()
    }

    /// Stops the server, ending the sessions that are open, and removes its data.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn stop(self) -> Result<(), Error> {
        self.server.end().map(drop).map_err(system("cannot stop Postgres"))
    }

    fn wait_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while !self.cluster.is_ready(self.server.pid()) {
            let log = || self.cluster.log_end();
            if self.server.wait_exit(POLL_INTERVAL).map_err(system("cannot wait for Postgres"))?.is_some() {
                return Err(Error::GaveUp { program: "postgres", log: log() });
            }
            if Instant::now() >= deadline {
                return Err(Error::NotReady { log: log() });
            }
        }
        Ok(())
    }
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { action, source }
}

const PORT_ATTEMPTS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
