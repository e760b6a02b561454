//! Child processes that cannot outlive the process that started them.
//!
//! Each child is started by a small shell that first leaves a watcher behind and then becomes the child, so its
//! process id and exit status are the child's own. The watcher reads a pipe whose other end only we hold: however
//! we end, by SIGKILL too, the pipe closes, and the watcher stops the child and removes what it was told to. That
//! works wherever there is a POSIX shell, which `PR_SET_PDEATHSIG` does not.
//!
//! The children of a child are its own business: Postgres backends end with their postmaster.
//! Everything here blocks; async callers use `spawn_blocking`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running child process; dropping it ends the child and waits for that.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    /// Open as long as the watcher shall only watch.
    watcher: ChildStdin,
    status: Option<ExitStatus>,
    stop_signal: Signal,
    grace: Duration,
    remove_at_end: Option<PathBuf>,
}

impl Guarded {
    /// The process id of the child itself, also once it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the child (not to its children).
    ///
    /// # Errors
    /// `NotFound` once the child has been seen to end: its number may by then be somebody else's.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.poll()?.is_some() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended"));
        }
        send(signal, &[self.pid()])
    }

    /// Suspends the child until [`Guarded::thaw`], as if its machine hung.
    ///
    /// # Errors
    /// As [`Guarded::signal`].
    pub fn freeze(&mut self) -> io::Result<()> {
        self.signal(Signal::Stop)
    }

    /// Lets a frozen child run again.
    ///
    /// # Errors
    /// As [`Guarded::signal`].
    pub fn thaw(&mut self) -> io::Result<()> {
        self.signal(Signal::Continue)
    }

    /// Ends the child at once with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// If the system refuses to signal or to wait.
    pub fn kill_hard(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.poll()? {
            return Ok(status);
        }
        self.child.kill()?;
        let status = self.child.wait()?;
        Ok(self.ended(status))
    }

    /// The exit status as soon as the child has ended; `None` if it still runs after `timeout`.
    ///
    /// # Errors
    /// If the system refuses to wait.
    pub fn wait_exit(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.poll()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Ends the child: its stop signal, then SIGKILL when the grace has passed; then removes what was to be removed.
    ///
    /// # Errors
    /// If the system refuses to signal, to wait or to remove.
    pub fn end(mut self) -> io::Result<ExitStatus> {
        self.finish()
    }

    /// Ends the watch over a child that has ended, and removes nothing: another guard has that duty by now.
    pub fn release(mut self) {
        self.remove_at_end = None;
    }

    fn finish(&mut self) -> io::Result<ExitStatus> {
        let status = match self.poll()? {
            Some(status) => status,
            None => {
                // A frozen process takes no signal but SIGKILL before it may continue.
                send(self.stop_signal, &[self.pid()])?;
                send(Signal::Continue, &[self.pid()])?;
                match self.wait_exit(self.grace)? {
                    Some(status) => status,
                    None => self.kill_hard()?,
                }
            }
        };
        if let Some(path) = self.remove_at_end.take() {
            remove(&path)?;
        }
        self.tell("release");
        Ok(status)
    }

    fn poll(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none()
            && let Some(status) = self.child.try_wait()?
        {
            self.ended(status);
        }
        Ok(self.status)
    }

    fn ended(&mut self, status: ExitStatus) -> ExitStatus {
        self.status = Some(status);
        // From here on the process id may be given to another process, which the watcher must not touch.
        self.tell("ended");
        status
    }

    fn tell(&mut self, word: &str) {
        // If the watcher is gone there is nobody to tell, and nothing to be done about it.
        let _ = writeln!(self.watcher, "{word}");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Where this fails the pipe still closes, and the watcher tries once more.
        let _ = self.finish();
    }
}

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

    /// The working directory; ours unless told.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Launch {
        self.directory = Some(directory.into());
        self
    }

    /// The user and group to run as; only root can change them.
    #[must_use]
    pub fn run_as(mut self, uid: u32, gid: u32) -> Launch {
        self.account = Some((uid, gid));
        self
    }

    /// What asks the program to end; SIGTERM unless told.
    #[must_use]
    pub fn stop_signal(mut self, signal: Signal) -> Launch {
        self.stop_signal = signal;
        self
    }

    /// How long the program may take to end before SIGKILL, in steps of 100 ms; 5 s unless told.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Launch {
        self.grace = grace;
        self
    }

    /// A file or directory that is removed, with all in it, when the program has ended for good: at
    /// [`Guarded::end`], at the drop, and also when we are killed.
    #[must_use]
    pub fn remove_at_end(mut self, path: impl Into<PathBuf>) -> Launch {
        self.remove_at_end = Some(path.into());
        self
    }

    /// Starts the program. One that cannot be executed ends at once with status 126 or 127, its reason in the log.
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
            // A group of its own: Ctrl-C at the terminal reaches us, and we decide in which order things end.
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
    fn name(self) -> &'static str {
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

/// Sends one signal to all of `pids`; those that are already gone do not matter.
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

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

const DEFAULT_GRACE: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Arguments: stop signal, grace in tenths of a second, what to remove (or nothing), then the program and its own.
///
/// The watcher is forked twice, so that the program does not find itself with a child that it never started. It is
/// the program that gets the shell's process id, by `exec`; a program started with `&` would ignore SIGINT.
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

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A program that says `ready` once its trap is set, and then does nothing until it is told to end.
    fn shell(directory: &Path, script: &str) -> Launch {
        Launch::new("/bin/sh", directory.join("log")).args(["-c", script])
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + LONG;
        while !holds() {
            assert!(Instant::now() < deadline, "in vain: {what}");
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn logged(directory: &Path, text: &str) -> bool {
        fs::read_to_string(directory.join("log")).is_ok_and(|log| log.contains(text))
    }

    #[test]
    fn the_process_id_and_the_status_are_those_of_the_program() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = shell(directory.path(), "echo pid $$; exit 7").spawn().unwrap();
        let status = child.wait_exit(LONG).unwrap().unwrap();
        assert_eq!(status.code(), Some(7));
        assert!(logged(directory.path(), &format!("pid {}\n", child.pid())));
        assert_eq!(child.signal(Signal::Terminate).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_program_that_cannot_be_executed_ends_with_127_and_a_reason() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Launch::new("/no/such/program", directory.path().join("log")).spawn().unwrap();
        assert_eq!(child.wait_exit(LONG).unwrap().unwrap().code(), Some(127));
        assert!(logged(directory.path(), "/no/such/program"));
    }

    #[test]
    fn a_program_is_asked_to_end_before_it_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let child = shell(directory.path(), "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done")
            .spawn()
            .unwrap();
        until("the trap is set", || logged(directory.path(), "ready"));
        assert_eq!(child.end().unwrap().code(), Some(3));
    }

    #[test]
    fn a_program_that_will_not_end_is_killed_when_the_grace_has_passed() {
        let directory = tempfile::tempdir().unwrap();
        let launch = shell(directory.path(), "trap '' TERM; echo ready; while :; do sleep 0.01; done");
        let child = launch.grace(Duration::from_millis(200)).spawn().unwrap();
        until("the trap is set", || logged(directory.path(), "ready"));
        assert_eq!(child.end().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_frozen_program_stands_still_and_can_still_be_ended() {
        let directory = tempfile::tempdir().unwrap();
        let mut child =
            shell(directory.path(), "trap 'exit 3' TERM; while :; do echo tick; sleep 0.01; done")
                .spawn()
                .unwrap();
        until("it runs", || logged(directory.path(), "tick"));
        child.freeze().unwrap();
        child.signal(Signal::Terminate).unwrap();
        assert_eq!(child.wait_exit(Duration::from_millis(50)).unwrap(), None);
        child.thaw().unwrap();
        assert_eq!(child.wait_exit(LONG).unwrap().unwrap().code(), Some(3));

        let mut child = shell(directory.path(), "sleep 60").spawn().unwrap();
        child.freeze().unwrap();
        assert_eq!(child.end().unwrap().signal(), Some(15));
    }

    #[test]
    fn what_is_to_be_removed_goes_with_the_end_and_stays_with_a_release() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        for released in [true, false] {
            fs::create_dir_all(data.join("deep")).unwrap();
            let mut child = shell(directory.path(), "sleep 60").remove_at_end(&data).spawn().unwrap();
            child.kill_hard().unwrap();
            assert!(data.exists(), "a crash removes nothing");
            if released {
                child.release();
            } else {
                child.end().unwrap();
            }
            assert_eq!(data.exists(), released);
        }
    }

    /// Runs itself a second time as the parent that is killed.
    #[test]
    fn a_killed_parent_leaves_nothing_behind() {
        const ROLE: &str = "RESTANTE_TEST_DIRECTORY";
        // Half a minute long, so that a guard that fails fails the test too, and leaves nothing for ever.
        let stubborn =
            "trap 'echo asked' TERM; echo pid $$; for i in $(seq 3000); do sleep 0.01; done; echo done";
        if let Some(directory) = env::var_os(ROLE).map(PathBuf::from) {
            let launch = shell(&directory, stubborn).grace(Duration::from_millis(300));
            let _child = launch.remove_at_end(directory.join("data")).spawn().unwrap();
            loop {
                thread::park();
            }
        }

        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("data")).unwrap();
        // The log is a FIFO: it ends exactly when nobody is left who could write to it.
        let log = directory.path().join("log");
        assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
        let mut parent = Command::new(env::current_exe().unwrap())
            .args(["--exact", "tool::process::tests::a_killed_parent_leaves_nothing_behind", "--nocapture"])
            .env(ROLE, directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(fs::File::open(&log).unwrap());
        let mut first = String::new();
        output.read_line(&mut first).unwrap();
        assert!(first.starts_with("pid "), "{first}");

        parent.kill().unwrap();
        parent.wait().unwrap();

        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "asked\n", "it is asked to end, and killed when it does not");
        until("the directory is removed", || !directory.path().join("data").exists());
    }
}
