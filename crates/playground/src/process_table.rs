//! The processes of this machine, and which process started which.
//!
//! Read from /proc if there is one, else from `ps`, which slim images of Linux do not have.

use std::fs;
use std::io;
use std::process::Command;

/// One process: its id, the id of its parent, and its state as a letter.
struct Process {
    pid: u32,
    parent: u32,
    state: char,
}

/// The ids of the processes that `parent` started and that still exist.
///
/// # Errors
/// If the list of processes cannot be read.
pub fn children_of(parent: u32) -> io::Result<Vec<u32>> {
    Ok(read()?.iter().filter(|process| process.parent == parent).map(|process| process.pid).collect())
}

/// Whether the process runs. A zombie does not run; if process 1 does not reap it, it stays in the table forever.
pub fn is_running(pid: u32) -> bool {
    read().is_ok_and(|table| table.iter().any(|process| process.pid == pid && process.state != 'Z'))
}

fn read() -> io::Result<Vec<Process>> {
    let Ok(entries) = fs::read_dir("/proc") else {
        let output = Command::new("ps").args(["-A", "-o", "pid=,ppid=,state="]).output()?;
        return Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(from_ps).collect());
    };
    let stats = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    Ok(stats.filter_map(|stat| from_stat(&stat)).collect())
}

fn from_ps(line: &str) -> Option<Process> {
    let mut words = line.split_whitespace();
    let (pid, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Process { pid, parent, state: words.next()?.chars().next()? })
}

/// `pid (name) state ppid …`, where the name may hold anything: proc(5).
fn from_stat(line: &str) -> Option<Process> {
    let (pid, _) = line.split_once(" (")?;
    let mut words = line.rsplit_once(") ")?.1.split_whitespace();
    let state = words.next()?.chars().next()?;
    Some(Process { pid: pid.parse().ok()?, parent: words.next()?.parse().ok()?, state })
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_child_is_found_while_it_runs_and_a_zombie_is_not_running() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        assert!(children_of(std::process::id()).unwrap().contains(&child.id()));
        assert!(is_running(child.id()));
        child.kill().unwrap();
        // Its output ends when it does. It is a zombie until the test waits for it.
        io::copy(child.stdout.as_mut().unwrap(), &mut io::sink()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while is_running(child.id()) {
            assert!(Instant::now() < deadline, "it was killed, and still runs");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!is_running(child.id()));
    }

    #[test]
    fn lines_are_read_whatever_the_program_is_called() {
        for process in [from_stat("42 (a) b (c) S 7 42 42 0").unwrap(), from_ps("   42     7 Ss").unwrap()] {
            assert_eq!((process.pid, process.parent, process.state), (42, 7, 'S'));
        }
    }
}
