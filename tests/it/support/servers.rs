//! A primary and its standby, which switch roles.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use restante_playground::process::{Guarded, Launch, Signal};
use restante_playground::{free_port, postgres_bin};
use secrecy::SecretString;
use sqlx::{Connection, PgConnection};

use super::eventually;

/// A server that trusts every connection from this machine. Dropping it ends it and removes its data.
pub struct Server {
    pub port: u16,
    directory: PathBuf,
    running: Option<Guarded>,
}

impl Server {
    /// A new cluster that standbys can follow.
    pub async fn primary() -> Self {
        let mut server = Self::new();
        let data = server.data();
        server.program(
            "initdb",
            &["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"],
            &data,
        );
        let settings = "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nwal_level = replica\nmax_wal_senders = 5\n\
                        wal_keep_size = '256MB'\nhot_standby = on\ndynamic_shared_memory_type = mmap\nmax_connections = 100\n\
                        fsync = off\nwal_receiver_status_interval = '1s'\n";
        let file = data.join("postgresql.conf");
        fs::write(&file, fs::read_to_string(&file).unwrap() + settings).unwrap();
        server.start().await;
        server
    }

    /// A copy of `primary` that follows it.
    pub async fn standby_of(primary: &Self) -> Self {
        let mut server = Self::new();
        let from = format!("host=127.0.0.1 port={} user=postgres", primary.port);
        let data = server.data();
        server.program(
            "pg_basebackup",
            &["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname", &from],
            &data,
        );
        server.start().await;
        server
    }

    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap().keep();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        if let Some((uid, gid)) = account() {
            chown(&directory, Some(uid), Some(gid)).unwrap();
        }
        let port = free_port().unwrap();
        Self { port, directory, running: None }
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn launch(&self, program: &str) -> Launch {
        let launch = Launch::new(programs().join(program), self.directory.join("log"))
            .current_dir("/")
            .env("LC_ALL", "C");
        match account() {
            Some((uid, gid)) => launch.run_as(uid, gid),
            None => launch,
        }
    }

    /// Runs a program that makes the cluster.
    fn program(&self, program: &str, arguments: &[&str], data: &Path) {
        let arguments = arguments.iter().map(OsString::from).chain(["--pgdata".into(), data.into()]);
        let mut running = self.launch(program).args(arguments).spawn().unwrap();
        let ended = running.wait_exit(Duration::from_secs(60)).unwrap().expect("an end");
        running.release();
        assert!(ended.success(), "{program}: {}", self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Starts the server, as a primary or a standby.
    pub async fn start(&mut self) {
        let arguments = [OsString::from("-D"), self.data().into(), "-p".into(), self.port.to_string().into()];
        let launch = self.launch("postgres").args(arguments).stop_signal(Signal::Interrupt);
        self.running = Some(launch.remove_at_end(&self.directory).spawn().unwrap());
        eventually("the server lets somebody in", async || {
            let connection = PgConnection::connect(&self.url_text("postgres")).await.ok()?;
            connection.close().await.ok()
        })
        .await;
    }

    /// Ends the server and its sessions, once its standby has everything that it committed.
    pub async fn stop(&mut self) {
        let mut running = self.running.take().unwrap();
        running.signal(Signal::Interrupt).unwrap();
        eventually("the end of the server", async || running.wait_exit(Duration::ZERO).unwrap()).await;
        // The data stays.
        running.release();
    }

    /// Makes the standby the primary.
    pub async fn promote(&self) {
        let mut connection = PgConnection::connect(&self.url_text("postgres")).await.unwrap();
        sqlx::query("select pg_promote(true)").execute(&mut connection).await.unwrap();
    }

    /// Makes a stopped server follow `primary` when it starts again.
    pub fn follow(&self, primary: &Self) {
        let from = format!("primary_conninfo = 'host=127.0.0.1 port={} user=postgres'\n", primary.port);
        let file = self.data().join("postgresql.auto.conf");
        fs::write(&file, fs::read_to_string(&file).unwrap_or_default() + &from).unwrap();
        self.takes_no_writes();
    }

    /// Makes a stopped server a standby when it starts again, until it is promoted.
    pub fn takes_no_writes(&self) {
        let signal = self.data().join("standby.signal");
        fs::write(&signal, "").unwrap();
        if let Some((uid, gid)) = account() {
            chown(&signal, Some(uid), Some(gid)).unwrap();
        }
    }

    fn url_text(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    pub fn url(&self) -> SecretString {
        SecretString::from(self.url_text("postgres"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running.take().is_none() {
            let _gone = fs::remove_dir_all(&self.directory);
        }
    }
}

/// The directory of Postgres's programs.
pub fn programs() -> PathBuf {
    let (given, path) = (std::env::var_os("PG_BIN"), std::env::var_os("PATH"));
    postgres_bin::find(given.as_deref().map(Path::new), path.as_deref()).unwrap()
}

/// The account that runs Postgres if the tests run as root.
pub fn account() -> Option<(u32, u32)> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("postgres:")).filter(|_| is_root)?;
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}
