//! How a child is started: its program, its environment, and the shell that starts the watcher.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Guarded, Signal};

/// What to run, and how it ends. It has no `Debug`, because variables may hold secrets.
pub struct Launch {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, Option<OsString>)>,
    log: PathBuf,
    directory: Option<PathBuf>,
    account: Option<(u32, u32)>,
    stop_signal: Signal,
    grace: Duration,
    remove_at_end: Option<PathBuf>,
}

impl Launch {
    /// Runs `program`, whose output is appended to the file `log` (readable by us only) and whose input is empty.
    pub fn new(program: impl Into<OsString>, log: impl Into<PathBuf>) -> Launch {
        Launch {
            program: program.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            log: log.into(),
            directory: None,
            account: None,
            stop_signal: Signal::Terminate,
            grace: DEFAULT_GRACE,
            remove_at_end: None,
        }
    }

    /// Adds arguments. They show in the system's list of processes: secrets go into variables.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Launch {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; the others are inherited.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Launch {
        self.variables.push((name.into(), Some(value.into())));
        self
    }

    /// Keeps an environment variable from being inherited.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Launch {
        self.variables.push((name.into(), None));
        self
    }

    /// Sets the working directory; by default our own.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Launch {
        self.directory = Some(directory.into());
        self
    }

    /// Sets the user and group to run as; only root can change them.
    #[must_use]
    pub fn run_as(mut self, uid: u32, gid: u32) -> Launch {
        self.account = Some((uid, gid));
        self
    }

    /// Sets the signal that asks the program to end; by default SIGTERM.
    #[must_use]
    pub fn stop_signal(mut self, signal: Signal) -> Launch {
        self.stop_signal = signal;
        self
    }

    /// Sets how long the program may take to end before SIGKILL, in steps of 100 ms; by default 5 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Launch {
        self.grace = grace;
        self
    }

    /// Sets a file or directory to remove, with all its contents, when the program has ended for good: at
    /// [`Guarded::end`], at the drop, and also when we are killed.
    #[must_use]
    pub fn remove_at_end(mut self, path: impl Into<PathBuf>) -> Launch {
        self.remove_at_end = Some(path.into());
        self
    }

    /// Starts the program. If it cannot be executed, it ends at once with status 126 or 127, and logs the reason.
    ///
    /// # Errors
    /// If the log cannot be opened or no process can be started.
    pub fn spawn(&self) -> io::Result<Guarded> {
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log)?;
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", WATCH_AND_EXEC, "guarded", self.stop_signal.name()])
            .arg((self.grace.as_millis() / 100).to_string())
            .arg(self.remove_at_end.as_deref().unwrap_or(Path::new("")))
            .arg(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A process group of its own: Ctrl-C at the terminal reaches only us, and we end things in our order.
            .process_group(0);
        for (name, value) in &self.variables {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        if let Some(directory) = &self.directory {
            shell.current_dir(directory);
        }
        if let Some((uid, gid)) = self.account {
            shell.uid(uid).gid(gid);
        }
        let mut child = shell.spawn()?;
        let watcher = child.stdin.take().ok_or_else(|| io::Error::other("the child has no input"))?;
        Ok(Guarded {
            child,
            watcher,
            status: None,
            stop_signal: self.stop_signal,
            grace: self.grace,
            remove_at_end: self.remove_at_end.clone(),
        })
    }
}

const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// Arguments: stop signal, grace in tenths of a second, what to remove (or nothing), then the program and its own.
///
/// The watcher is forked twice, so that the program does not have a child that it never started. The program replaces
/// the shell (`exec`) and so has its process id; a program started with `&` would ignore SIGINT.
const WATCH_AND_EXEC: &str = r#"
signal=$1 tenths=$2 remove=$3
shift 3
exec 3<&0 </dev/null
( (
    trap '' HUP INT TERM
    exec <&3 3<&- >/dev/null 2>&1
    cd /
    PATH=${PATH:-/usr/bin:/bin}
    process=$$
    while read -r word; do
        case $word in
            ended) process= ;;
            release) exit 0 ;;
        esac
    done
    if [ -n "$process" ]; then
        kill -s "$signal" "$process"
        kill -s CONT "$process"
        while [ "$tenths" -gt 0 ] && kill -s 0 "$process"; do
            sleep 0.1
            tenths=$((tenths - 1))
        done
        kill -s KILL "$process"
    fi
    # What the program left running may still write for a moment.
    for try in 1 2 3 4 5; do
        [ -n "$remove" ] && ! rm -rf -- "$remove" || break
        sleep 1
    done
) & )
exec 3<&-
exec "$@"
"#;
