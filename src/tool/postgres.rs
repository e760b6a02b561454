//! A Postgres of our own: a fresh cluster that ends, and is removed, with the process that started it.
//!
//! It listens on 127.0.0.1 only, with a generated password, and never touches a cluster of the machine. How it
//! lives and dies is the guard of [`super::process`]; what this adds is a cluster that can be crashed and
//! started again, for whoever wants to see what is left after that. Everything here blocks.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::postgres_bin;
use super::process::{self, Guarded, Launch, Signal};
use super::process_table::{children_of, is_running};

/// A running private Postgres; dropping it stops the server and removes its data.
#[derive(Debug)]
pub struct PrivatePostgres {
    programs: PathBuf,
    directory: PathBuf,
    account: Option<(u32, u32)>,
    options: Vec<(String, String)>,
    password: SecretString,
    port: u16,
    server: Guarded,
}

/// What a private Postgres shall be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of `initdb` and `postgres`, where somebody says it (`PG_BIN`).
    pub pg_bin: Option<PathBuf>,
    /// Where programs are searched first otherwise (`PATH`).
    pub path: Option<OsString>,
    /// Where the directory of the cluster is made, mostly [`std::env::temp_dir`].
    pub parent: PathBuf,
    /// What survives which crash.
    pub durability: Durability,
    /// Server settings that win over ours, such as `("log_min_duration_statement", "0")`.
    pub options: Vec<(String, String)>,
}

/// What a cluster promises about a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// What Postgres promises by default: a commit survives every crash.
    Durable,
    /// Nothing: a crash may lose commits, or the cluster. Several times faster.
    ForTests,
}

/// Why there is no private Postgres.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its programs are not there.
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
    /// Root may not run Postgres, and there is nobody else.
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
    /// The server said nothing for too long.
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
            // Mostly a guard has removed it already; where that failed, the first error is the one to tell.
            let _ = fs::remove_dir_all(&directory);
        })
    }

    fn start_in(directory: &Path, programs: PathBuf, settings: &Settings) -> Result<PrivatePostgres, Error> {
        let directory = directory.to_owned();
        let password: SecretString = hex::encode(rand::random::<[u8; 16]>()).into();
        let account = account_beside_root(&directory)?;
        let initdb = initialise(&programs, &directory, account, settings.durability, &password)?;
        let mut options = settings.durability.options();
        options.extend(settings.options.iter().cloned());

        for _ in 0..PORT_ATTEMPTS {
            let port = free_port().map_err(system("cannot find a free port"))?;
            let server = launch(&programs, &directory, account, &options, port)?;
            let mut postgres = PrivatePostgres {
                programs: programs.clone(),
                directory: directory.clone(),
                account,
                options: options.clone(),
                password: password.clone(),
                port,
                server,
            };
            match postgres.wait_ready() {
                // Somebody else took the port between our look and the server's.
                Err(Error::GaveUp { log, .. }) if log.contains("could not bind") => postgres.server.release(),
                Err(error) => return Err(error),
                Ok(()) => {
                    initdb.release();
                    return Ok(postgres);
                }
            }
        }
        Err(Error::GaveUp { program: "postgres", log: log_end(&directory) })
    }

    /// Where a database of this server is, with the password of its superuser.
    pub fn url(&self, database: &str) -> String {
        let password = self.password.expose_secret();
        let server = format!("postgres://postgres:{password}@127.0.0.1:{}", self.port);
        let mut url = Url::parse(&server).expect("a hexadecimal password and a port need no escape");
        url.set_path(database);
        url.into()
    }

    /// The directory of its programs, `psql` among them where it is installed.
    pub fn programs(&self) -> &Path {
        &self.programs
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
        // Stopped first: it neither sees a child die nor starts another one while we count them.
        self.server.freeze()?;
        let children = children_of(self.server.pid())?;
        process::send(Signal::Kill, &children)?;
        self.server.kill_hard()?;
        // A backend that is still there holds the shared memory, and the next server would refuse to start.
        let deadline = Instant::now() + PATIENCE;
        while children.iter().any(|pid| is_running(*pid)) && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Starts the server again on the same data and port, after a crash; it recovers first. One that still runs is
    /// crashed.
    ///
    /// # Errors
    /// If the server does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.kill_hard()?;
        let server = launch(&self.programs, &self.directory, self.account, &self.options, self.port)?;
        // In this order, so that at every moment one guard has the duty to remove the data.
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
        while !is_ready(&self.directory, self.server.pid()) {
            let log = || log_end(&self.directory);
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

impl Durability {
    fn options(self) -> Vec<(String, String)> {
        // Shared memory as files of the cluster, because those are removed with it, even after a SIGKILL.
        let always = [("max_connections", "200"), ("dynamic_shared_memory_type", "mmap")];
        let for_tests = [
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("autovacuum", "off"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
            ("max_logical_replication_workers", "0"),
            ("checkpoint_timeout", "1h"),
            ("jit", "off"),
        ];
        let chosen = if self == Durability::ForTests { &for_tests[..] } else { &[] };
        always.iter().chain(chosen).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

/// Makes the cluster. The guard that comes back removes it, until the server's guard takes that over.
fn initialise(
    programs: &Path,
    directory: &Path,
    account: Option<(u32, u32)>,
    durability: Durability,
    password: &SecretString,
) -> Result<Guarded, Error> {
    let password_file = directory.join("password");
    write_secret(&password_file, password, account).map_err(system("cannot write the password file"))?;
    let mut arguments = vec!["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"];
    arguments.push("--no-instructions");
    if durability == Durability::ForTests {
        arguments.push("--no-sync");
    }
    let mut initdb = guarded(programs.join("initdb"), directory, account)
        .args(arguments)
        .args([OsString::from("--pgdata"), directory.join("data").into()])
        .args([OsString::from("--pwfile"), password_file.clone().into()])
        .spawn()
        .map_err(system("cannot start initdb"))?;
    match initdb.wait_exit(PATIENCE).map_err(system("cannot wait for initdb"))? {
        Some(status) if status.success() => {}
        _ => return Err(Error::GaveUp { program: "initdb", log: log_end(directory) }),
    }
    fs::remove_file(password_file).map_err(system("cannot remove the password file"))?;
    Ok(initdb)
}

fn launch(
    programs: &Path,
    directory: &Path,
    account: Option<(u32, u32)>,
    options: &[(String, String)],
    port: u16,
) -> Result<Guarded, Error> {
    // Each try has its own log, so that what one says is not taken for the words of the next.
    fs::write(directory.join(LOG), "").map_err(system("cannot empty the log"))?;
    guarded(programs.join("postgres"), directory, account)
        .args([OsString::from("-D"), directory.join("data").into()])
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", &port.to_string()])
        .args(options.iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]))
        // SIGINT ends the sessions; at SIGTERM Postgres would wait for its clients to go.
        .stop_signal(Signal::Interrupt)
        .spawn()
        .map_err(system("cannot start postgres"))
}

fn guarded(program: PathBuf, directory: &Path, account: Option<(u32, u32)>) -> Launch {
    let launch = Launch::new(program, directory.join(LOG))
        // The account may not be allowed into our own working directory.
        .current_dir("/")
        .env("LC_ALL", "C")
        .remove_at_end(directory);
    match account {
        Some((uid, gid)) => launch.run_as(uid, gid),
        None => launch,
    }
}

/// The account that runs Postgres where we are root, and now owns `directory`; none where we are not.
fn account_beside_root(directory: &Path) -> Result<Option<(u32, u32)>, Error> {
    // Who we are is who owns what we just made.
    if fs::metadata(directory).map_err(system("cannot look at a directory"))?.uid() != 0 {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(system("cannot read /etc/passwd"))?;
    let account = ["postgres", "nobody"].iter().find_map(|name| account_of(&passwd, name));
    let (uid, gid) = account.ok_or(Error::NoAccount)?;
    chown(directory, Some(uid), Some(gid)).map_err(system("cannot hand the directory over"))?;
    Ok(Some((uid, gid)))
}

fn account_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = passwd
        .lines()
        .map(|line| line.split(':'))
        .find(|fields| fields.clone().next() == Some(name))?
        .collect();
    // macOS writes the ids of `nobody` as -2.
    let id = |index: usize| fields.get(index)?.parse::<i64>().ok().map(|id| id as u32);
    Some((id(2)?, id(3)?))
}

fn write_secret(path: &Path, secret: &SecretString, account: Option<(u32, u32)>) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    writeln!(file, "{}", secret.expose_secret())?;
    account.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
}

/// A port that nobody listens on. It lies below the ports that systems give to outgoing connections (32768 up on
/// Linux, 49152 up on macOS): otherwise a client that keeps trying to connect while the server is down could be
/// given the server's own port, and hold it when the server comes back.
fn free_port() -> io::Result<u16> {
    let mut last = io::Error::other("no port was tried");
    for _ in 0..100 {
        let port = rand::random_range(20_000..32_000);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Line 1 of `postmaster.pid` is the server's process id (a crash leaves the file of the last one behind), line 8
/// its state: `src/include/utils/pidfile.h` of Postgres.
fn is_ready(directory: &Path, pid: u32) -> bool {
    let file = fs::read_to_string(directory.join("data/postmaster.pid")).unwrap_or_default();
    let line = |number: usize| file.lines().nth(number - 1).map(str::trim);
    line(1) == Some(pid.to_string().as_str()) && line(8) == Some("ready")
}

fn log_end(directory: &Path) -> String {
    let log = fs::read(directory.join(LOG)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { action, source }
}

const LOG: &str = "log";
const LOG_LINES: usize = 20;
const PORT_ATTEMPTS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::env;

    use sqlx::{Connection, PgConnection};

    use super::*;

    fn settings(durability: Durability) -> Settings {
        Settings {
            pg_bin: env::var_os("PG_BIN").map(PathBuf::from),
            path: env::var_os("PATH"),
            parent: env::temp_dir(),
            durability,
            options: vec![("work_mem".into(), "5MB".into())],
        }
    }

    /// Runs statements one by one and gives back what the last one, a query for a text, answers.
    fn answer(url: &str, statements: &[&'static str]) -> Result<String, sqlx::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = PgConnection::connect(url).await?;
            let (last, before) = statements.split_last().unwrap();
            for statement in before {
                sqlx::query(*statement).execute(&mut connection).await?;
            }
            sqlx::query_scalar(*last).fetch_one(&mut connection).await
        })
    }

    #[test]
    fn a_private_postgres_answers_its_owner_only_and_leaves_nothing() {
        let postgres = PrivatePostgres::start(&settings(Durability::ForTests)).unwrap();
        let url = postgres.url("postgres");
        let fresh = "select concat_ws(' ', current_user, current_setting('server_encoding'), \
                     current_setting('fsync'), current_setting('work_mem'), current_setting('max_connections'))";
        assert_eq!(answer(&url, &[fresh]).unwrap(), "postgres UTF8 off 5MB 200");
        assert_eq!(answer(&url, &[r#"create database "a b/c""#, "select 'made'"]).unwrap(), "made");
        assert_eq!(answer(&postgres.url("a b/c"), &["select current_database()::text"]).unwrap(), "a b/c");

        let password = postgres.password.expose_secret();
        assert!(!format!("{postgres:?}").contains(password));
        let refused = answer(&url.replace(password, "guessed"), &["select 'let in'"]).unwrap_err();
        assert!(refused.to_string().contains("password authentication failed"), "{refused}");

        let (directory, pid) = (postgres.directory.clone(), postgres.server.pid());
        postgres.stop().unwrap();
        assert!(!directory.exists());
        assert!(!is_running(pid));
    }

    #[test]
    fn a_durable_cluster_keeps_over_a_crash_what_was_committed() {
        let mut postgres = PrivatePostgres::start(&settings(Durability::Durable)).unwrap();
        let url = postgres.url("postgres");
        answer(&url, &["create table kept (word text)", "insert into kept values ('kept') returning word"])
            .unwrap();
        let crashed = postgres.server.pid();
        postgres.kill_hard().unwrap();
        assert!(!is_running(crashed));
        assert!(answer(&url, &["select word from kept"]).is_err());

        postgres.restart().unwrap();
        assert_eq!(answer(&url, &["select word from kept"]).unwrap(), "kept");
        postgres.restart().unwrap();
        assert_eq!(
            answer(&url, &["select word from kept"]).unwrap(),
            "kept",
            "a running server may be restarted"
        );

        let directory = postgres.directory.clone();
        drop(postgres);
        assert!(!directory.exists());
    }

    #[test]
    fn a_server_that_does_not_start_says_why_and_leaves_nothing() {
        let parent = tempfile::tempdir_in(env::temp_dir()).unwrap();
        // The account that runs Postgres has to get through.
        fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let mut settings = settings(Durability::ForTests);
        settings.parent = parent.path().to_owned();
        settings.options.push(("no_such_setting".into(), "1".into()));
        let error = PrivatePostgres::start(&settings).unwrap_err();
        assert!(
            matches!(&error, Error::GaveUp { program: "postgres", log } if log.contains("no_such_setting")),
            "{error}"
        );
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    /// Runs itself a second time as the parent that is killed.
    #[test]
    fn a_killed_parent_leaves_no_server_and_no_data() {
        const ROLE: &str = "RESTANTE_TEST_PARENT_OF_POSTGRES";
        if let Some(parent) = env::var_os(ROLE) {
            let mut settings = settings(Durability::ForTests);
            settings.parent = parent.into();
            let postgres = PrivatePostgres::start(&settings).unwrap();
            fs::write(settings.parent.join("started"), postgres.server.pid().to_string()).unwrap();
            loop {
                thread::park();
            }
        }

        let until = |what: &str, holds: &dyn Fn() -> bool| {
            let deadline = Instant::now() + PATIENCE;
            while !holds() {
                assert!(Instant::now() < deadline, "in vain: {what}");
                thread::sleep(POLL_INTERVAL);
            }
        };
        let directory = tempfile::tempdir_in(env::temp_dir()).unwrap();
        // The account that runs Postgres has to get in, and to remove its own directory at the end.
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        let mut parent = std::process::Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "tool::postgres::tests::a_killed_parent_leaves_no_server_and_no_data",
                "--nocapture",
            ])
            .env(ROLE, directory.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let started = directory.path().join("started");
        let pid = || fs::read_to_string(&started).ok().and_then(|pid| pid.parse().ok());
        until("the server starts", &|| pid().is_some());
        let pid = pid().unwrap();
        assert!(is_running(pid));

        parent.kill().unwrap();
        parent.wait().unwrap();

        until("the server is gone", &|| !is_running(pid));
        until("its data is removed", &|| fs::read_dir(directory.path()).unwrap().count() == 1);
    }

    #[test]
    fn an_account_is_read_from_the_list_of_accounts() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:*:-2:-2:Nobody:/var/empty:/usr/bin/false\n";
        assert_eq!(account_of(passwd, "nobody"), Some((4_294_967_294, 4_294_967_294)));
        assert_eq!(account_of(passwd, "postgres"), None);
    }
}
