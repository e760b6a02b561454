//! Shell scripts as children: how they end, and what is left after their parent was killed.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// A shell script as a program, whose output goes to the file `log` in `directory`.
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
    let mut child = shell(directory.path(), "trap 'exit 3' TERM; while :; do echo tick; sleep 0.01; done")
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
    // Half a minute long: if the guard fails, the test fails too, and the script still ends.
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
    // The log is a FIFO: it ends exactly when no process is left that could write to it.
    let log = directory.path().join("log");
    assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
    let mut parent = Command::new(env::current_exe().unwrap())
        .args(["--exact", "process::tests::a_killed_parent_leaves_nothing_behind", "--nocapture"])
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
