//! The real programs as processes: tests start them on a database, observe them through their ops listener and log, and
//! end them in every way. No process outlives its test or leaves a file.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::LazyLock;

use restante_playground::Program;
use secrecy::{ExposeSecret, SecretString};

use super::sender::{self, client, signing_key};

pub const INGEST: &str = env!("CARGO_BIN_EXE_restante-ingest");
pub const WORKER: &str = env!("CARGO_BIN_EXE_restante-worker");

/// The path of the hand tool. It is a separate crate, but its program is in the same directory as those of this one.
pub fn tool() -> &'static str {
    static TOOL: LazyLock<String> = LazyLock::new(|| {
        let tool = Path::new(WORKER).with_file_name("restante");
        assert!(tool.exists(), "{} is missing: cargo build --bins", tool.display());
        tool.into_os_string().into_string().unwrap()
    });
    &TOOL
}

/// The key that the worker calls the API with.
pub const API_KEY: &str = "sk-ant-the-key-of-the-tests";

/// A running program of ours. Dropping it ends it, and removes its log.
pub struct Process(Program);

impl Deref for Process {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.0
    }
}

impl Process {
    /// Starts a program with these variables, and without those of Restante that this process has.
    pub fn start(program: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_with::<&str>(program, &[], variables)
    }

    /// Like [`start`](Self::start), with arguments.
    pub fn start_with<A: AsRef<str>>(program: &str, arguments: &[A], variables: &[(&str, &str)]) -> Self {
        Self(Program::start(program, arguments, variables))
    }

    /// An ingest that receives deliveries; `more` overrides its default variables.
    pub async fn ingest(database: &SecretString, more: &[(&str, &str)]) -> Self {
        Self::ingest_of(INGEST, database, more).await
    }

    /// The same with the program at a path.
    pub async fn ingest_of(program: &str, database: &SecretString, more: &[(&str, &str)]) -> Self {
        let key = signing_key();
        let given = [
            ("DATABASE_URL", database.expose_secret()),
            ("ANTHROPIC_WEBHOOK_SIGNING_KEY", key.as_str()),
            ("ANTHROPIC_WEBHOOK_SECRET", sender::WEBHOOK_SECRET),
            ("RESTANTE_LISTEN", "127.0.0.1:0"),
            ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
            ("RESTANTE_LINGER_SECONDS", "0"),
        ];
        let mut ingest = Self::start(program, &[&given, more].concat());
        ingest.until_logged("receiving deliveries").await;
        ingest
    }

    /// A worker that works.
    pub async fn worker(database: &SecretString, api: &str, more: &[(&str, &str)]) -> Self {
        Self::worker_of(WORKER, database, api, more).await
    }

    /// The same with the program at a path.
    pub async fn worker_of(program: &str, database: &SecretString, api: &str, more: &[(&str, &str)]) -> Self {
        let given = [
            ("DATABASE_URL", database.expose_secret()),
            ("ANTHROPIC_API_KEY", API_KEY),
            ("ANTHROPIC_BASE_URL", api),
            ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
            ("RESTANTE_RECONCILE_SECONDS", "0"),
        ];
        let mut worker = Self::start(program, &[&given, more].concat());
        worker.until_logged("the worker starts").await;
        worker
    }

    /// The address that takes deliveries.
    pub fn address(&self) -> SocketAddr {
        self.logged_address("receiving deliveries")
    }

    /// Status and text of a page of the ops listener.
    pub async fn ops(&self, path: &str) -> (u16, String) {
        let address = self.logged_address("answering /livez");
        let answer = client().get(format!("http://{address}{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The value of a metric without labels; 0 if it was never counted.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.ops("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}
