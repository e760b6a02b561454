//! The stage of the demo: a private Postgres and the programs, as processes that end when the demo ends.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::surroundings::Surroundings;
use restante::internals::config::VARIABLES;
use restante_playground::postgres::{self, Durability, PrivatePostgres};
use restante_playground::process::{Guarded, Launch};

/// How long a program may take to say that it listens.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How often the log is searched for that line.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How many of the last lines of a log an error carries.
const TAIL_LINES: usize = 20;

/// The random secrets of one run.
pub(super) struct Secrets {
    /// The API signs webhooks with it.
    pub(super) signing_key: SecretString,
    /// The customer and the worker call the API with it.
    pub(super) api_key: SecretString,
    /// The worker signs notifications with it, and their receiver verifies them with it.
    pub(super) endpoint_secret: SecretString,
}

impl Secrets {
    pub(super) fn new() -> Secrets {
        let of_webhooks = || format!("whsec_{}", STANDARD.encode(rand::random::<[u8; 32]>())).into();
        let api_key = format!("sk-ant-demo-{}", hex::encode(rand::random::<[u8; 16]>()));
        Secrets { signing_key: of_webhooks(), api_key: api_key.into(), endpoint_secret: of_webhooks() }
    }
}

/// Starts a private Postgres whose commits are as durable as in production.
///
/// # Errors
/// If this machine has no Postgres, or it does not start.
pub(super) async fn start_postgres(surroundings: &Surroundings) -> anyhow::Result<PrivatePostgres> {
    let settings = postgres::Settings {
        pg_bin: surroundings.variable("PG_BIN").filter(|bin| !bin.is_empty()).map(PathBuf::from),
        path: surroundings.variable("PATH").map(OsString::from),
        parent: surroundings.temporary.clone(),
        durability: Durability::Durable,
        options: Vec::new(),
    };
    // If this future is dropped, the thread goes on until the server is up, which then ends at once.
    Ok(tokio::task::spawn_blocking(move || PrivatePostgres::start(&settings)).await??)
}

/// The directory with the logs and secrets of one run. The guards of the programs that log there remove it.
pub(super) struct Backstage {
    directory: PathBuf,
    /// Where the programs are.
    programs: PathBuf,
    /// Variables of our own environment that the programs must not inherit, because they are for other services.
    foreign: Vec<String>,
}

impl Backstage {
    /// Makes the directory. Start a program at once: until then nothing removes the directory if the demo is killed.
    ///
    /// # Errors
    /// If the services are missing, or the directory cannot be made.
    pub(super) fn new(surroundings: &Surroundings) -> anyhow::Result<Backstage> {
        let programs = programs(surroundings)?;
        let name = format!("restante-demo-{:016x}", rand::random::<u64>());
        let directory = surroundings.temporary.join(name);
        DirBuilder::new().mode(0o700).create(&directory).context("cannot make a directory for the logs")?;
        let foreign = surroundings.variables.iter().map(|(name, _)| name).filter(|name| is_foreign(name));
        Ok(Backstage { directory, programs, foreign: foreign.cloned().collect() })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts a program. It ends when the returned [`Program`] is dropped, or when the demo ends, however that ends.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub(super) fn start(
        &self,
        program: &'static str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Program> {
        // The simulated API is the hand tool itself.
        let name = arguments.first().copied().unwrap_or(program);
        let log = self.directory.join(format!("{name}.log"));
        let mut launch =
            Launch::new(self.programs.join(program), &log).args(arguments).remove_at_end(&self.directory);
        for name in &self.foreign {
            launch = launch.env_remove(name);
        }
        for (name, value) in [("RESTANTE_LOG", "json")].iter().chain(variables) {
            launch = launch.env(name, value);
        }
        let guarded = launch.spawn().with_context(|| format!("cannot start {program}"))?;
        Ok(Program {
            name: if name == program { program.into() } else { format!("{program} {name}") },
            guarded,
            log,
        })
    }

    /// Writes a secret to a file that only its owner can read, and returns the path.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn keep_secret(&self, name: &str, secret: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        writeln!(file, "{secret}")?;
        Ok(path)
    }
}

impl Drop for Backstage {
    fn drop(&mut self) {
        // Mostly a guard has removed the directory already. This is for the time before the first guard.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The directory of the services, which is that of the hand tool.
///
/// # Errors
/// If one of the services is not there.
pub(super) fn programs(surroundings: &Surroundings) -> anyhow::Result<PathBuf> {
    let programs = surroundings.executable.parent().context("the program has no directory")?;
    for name in ["restante-ingest", "restante-worker"] {
        ensure!(
            programs.join(name).exists(),
            "{name} is not in {}, where restante is: `cargo build --bins` builds it",
            programs.display()
        );
    }
    Ok(programs.to_owned())
}

/// Is this a setting of Restante, of an API client or of a Postgres client, which the caller has set for other work?
fn is_foreign(name: &str) -> bool {
    let is_known = |variable: &str| VARIABLES.iter().any(|known| known.name == variable);
    let is_of_postgres = name.starts_with("PG") && name != "PG_BIN";
    name.starts_with("RESTANTE_")
        || name.starts_with("ANTHROPIC_")
        || is_of_postgres
        || is_known(name)
        || name.strip_suffix("_FILE").is_some_and(is_known)
}

/// A running program.
pub(super) struct Program {
    name: String,
    guarded: Guarded,
    log: PathBuf,
}

impl Program {
    /// Checks that the program still runs.
    ///
    /// # Errors
    /// If the program has ended, with the end of its log.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.guarded.wait_exit(Duration::ZERO)? {
            None => Ok(()),
            Some(status) => Err(self.fault(&format!("has ended ({status})"))),
        }
    }

    /// An error about this program, with the end of its log.
    pub(super) fn fault(&self, what: &str) -> anyhow::Error {
        let log = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ");
        anyhow::anyhow!("{} {what}; the end of its log:\n  {tail}", self.name)
    }

    /// Waits for the log line with this message, and returns its `address`.
    ///
    /// # Errors
    /// If the program ends, or does not log the line within a minute.
    pub(super) async fn address(&mut self, message: &str) -> anyhow::Result<SocketAddr> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(address) = address_in(&fs::read(&self.log)?, message) {
                return Ok(address);
            }
            self.check()?;
            if Instant::now() >= deadline {
                bail!(self.fault(&format!("did not start within {} s", START_PATIENCE.as_secs())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops the program and waits until it has ended.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub(super) fn end(self) -> anyhow::Result<()> {
        self.guarded.end().with_context(|| format!("cannot end {}", self.name))?;
        Ok(())
    }
}

/// The `address` of the log line with this message. Skips a line that is still being written.
fn address_in(log: &[u8], message: &str) -> Option<SocketAddr> {
    let lines = log
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    lines.filter(|line| line["message"] == message).find_map(|line| line["address"].as_str()?.parse().ok())
}

/// The line of a `PGPASSFILE`, as the libpq manual specifies it. Our passwords need no escaping.
pub(super) fn pgpass(url: &url::Url) -> String {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port().unwrap_or(5432));
    let database = url.path().trim_start_matches('/');
    format!("{host}:{port}:{database}:{}:{}", url.username(), url.password().unwrap_or_default())
}

/// The variables that every service of the demo gets.
pub(super) fn of_service(database_url: &SecretString) -> [(&'static str, &str); 2] {
    [("DATABASE_URL", database_url.expose_secret()), ("RESTANTE_OPS_LISTEN", "127.0.0.1:0")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_from_the_line_that_names_it() {
        let log = concat!(
            "not json\n",
            r#"{"level":"INFO","address":"127.0.0.1:1","message":"something else"}"#,
            "\n",
            r#"{"level":"INFO","address":"127.0.0.1:4010","message":"receiving deliveries"}"#,
            "\n",
            r#"{"level":"INFO","addr"#,
        );

        assert_eq!(
            address_in(log.as_bytes(), "receiving deliveries"),
            Some("127.0.0.1:4010".parse().unwrap())
        );
        assert_eq!(address_in(log.as_bytes(), "answering"), None);
    }

    #[test]
    fn settings_for_work_stay_out_of_the_demo() {
        for name in [
            "ANTHROPIC_API_KEY_FILE",
            "DATABASE_URL",
            "RUST_LOG",
            "RESTANTE_UNHEARD_OF",
            "PGSSLMODE",
            "PGPASSFILE",
        ] {
            assert!(is_foreign(name), "{name}");
        }
        for name in ["PATH", "HOME", "PG_BIN", "TMPDIR"] {
            assert!(!is_foreign(name), "{name}");
        }
    }

    #[test]
    fn a_password_file_has_the_fields_of_libpq() {
        let url = "postgres://postgres:abc@127.0.0.1:2345/restante?sslmode=disable".parse().unwrap();

        assert_eq!(pgpass(&url), "127.0.0.1:2345:restante:postgres:abc");
    }
}
