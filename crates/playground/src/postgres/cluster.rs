//! The cluster of a private Postgres: its directory, the account that owns it, and the programs that run on it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{Error, PATIENCE, system};
use crate::process::{Guarded, Launch, Signal};

/// A cluster that `initdb` made. Its directory also contains the log of its programs.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) programs: PathBuf,
    pub(super) directory: PathBuf,
    /// The user and group that run its programs, if this process is root.
    account: Option<(u32, u32)>,
}

impl Cluster {
    /// Makes the cluster. The returned guard removes it, until the guard of the server takes that over.
    pub(super) fn initialise(
        directory: &Path,
        programs: PathBuf,
        durability: Durability,
        password: &SecretString,
    ) -> Result<(Cluster, Guarded), Error> {
        let account = account_beside_root(directory)?;
        let cluster = Cluster { programs, directory: directory.to_owned(), account };
        let password_file = directory.join("password");
        write_secret(&password_file, password, account).map_err(system("cannot write the password file"))?;
        let mut arguments =
            vec!["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"];
        arguments.push("--no-instructions");
        if durability == Durability::ForTests {
            arguments.push("--no-sync");
        }
        let mut initdb = cluster
            .guarded("initdb")
            .args(arguments)
            .args([OsString::from("--pgdata"), directory.join("data").into()])
            .args([OsString::from("--pwfile"), password_file.clone().into()])
            .spawn()
            .map_err(system("cannot start initdb"))?;
        match initdb.wait_exit(PATIENCE).map_err(system("cannot wait for initdb"))? {
            Some(status) if status.success() => {}
            _ => return Err(Error::GaveUp { program: "initdb", log: cluster.log_end() }),
        }
        fs::remove_file(password_file).map_err(system("cannot remove the password file"))?;
        Ok((cluster, initdb))
    }

    /// Starts a server on the cluster.
    pub(super) fn launch(&self, options: &[(String, String)], port: u16) -> Result<Guarded, Error> {
        // Each start has its own log, so that an error of an earlier one is not reported again.
        fs::write(self.directory.join(LOG), "").map_err(system("cannot empty the log"))?;
        self.guarded("postgres")
            .args([OsString::from("-D"), self.directory.join("data").into()])
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
                "-p",
                &port.to_string(),
            ])
            .args(options.iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]))
            // At SIGINT Postgres ends the sessions; at SIGTERM it would wait for its clients to disconnect.
            .stop_signal(Signal::Interrupt)
            .spawn()
            .map_err(system("cannot start postgres"))
    }

    /// Whether the server with this process id accepts connections.
    ///
    /// Line 1 of `postmaster.pid` is the server's process id (a crash leaves the file of the last one behind), line 8
    /// its state: `src/include/utils/pidfile.h` of Postgres.
    pub(super) fn is_ready(&self, pid: u32) -> bool {
        let file = fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap_or_default();
        let line = |number: usize| file.lines().nth(number - 1).map(str::trim);
        line(1) == Some(pid.to_string().as_str()) && line(8) == Some("ready")
    }

    /// The last lines of the log of its programs.
    pub(super) fn log_end(&self) -> String {
        let log = fs::read(self.directory.join(LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// A program of Postgres, run by the account. Its guard removes the cluster.
    fn guarded(&self, program: &str) -> Launch {
        let launch = Launch::new(self.programs.join(program), self.directory.join(LOG))
            // The account may have no access to our own working directory.
            .current_dir("/")
            .env("LC_ALL", "C")
            .remove_at_end(&self.directory);
        match self.account {
            Some((uid, gid)) => launch.run_as(uid, gid),
            None => launch,
        }
    }
}

/// What a cluster promises about a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// What Postgres promises by default: a commit survives every crash.
    Durable,
    /// Nothing: a crash of the machine may lose commits, or the cluster. Several times faster.
    ForTests,
}

impl Durability {
    /// The settings of a server that keeps the promise.
    pub(super) fn options(self) -> Vec<(String, String)> {
        // Shared memory is in files of the cluster, which are removed with it even after a SIGKILL.
        let always = [("dynamic_shared_memory_type", "mmap")];
        let for_tests = [
            // Each of several tests at a time may use a hundred.
            ("max_connections", "500"),
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
        let durable = [("max_connections", "200")];
        let chosen = if self == Durability::ForTests { &for_tests[..] } else { &durable };
        always.iter().chain(chosen).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

/// The account that runs Postgres if this process is root; it gets `directory`. `None` if this process is not root.
fn account_beside_root(directory: &Path) -> Result<Option<(u32, u32)>, Error> {
    // The owner of a directory that we just made is our own user.
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

const LOG: &str = "log";
const LOG_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_from_the_list_of_accounts() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:*:-2:-2:Nobody:/var/empty:/usr/bin/false\n";
        assert_eq!(account_of(passwd, "nobody"), Some((4_294_967_294, 4_294_967_294)));
        assert_eq!(account_of(passwd, "postgres"), None);
    }
}
