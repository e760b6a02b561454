//! The units of systemd.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use restante::internals::config::Program;

use super::{assert_fits, drain_seconds, program_of};
use crate::support::compose_file::{ComposeFile, project_file};
use crate::support::processes::{INGEST, WORKER, tool};
use crate::tidy::files;

/// The settings of a unit, in their order.
fn settings(path: &str) -> Vec<(String, String)> {
    let text = project_file(path);
    let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn values(path: &str, name: &str) -> Vec<String> {
    settings(path).into_iter().filter(|(other, _)| other == name).map(|(_, value)| value).collect()
}

/// The variables that a unit sets.
pub(super) fn variables(path: &str) -> BTreeMap<String, String> {
    let all = values(path, "Environment").join(" ");
    let pairs = all.split(' ').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn units() -> Vec<String> {
    let units: Vec<_> = files("deploy/systemd", &[".service"]).into_iter().map(|file| file.path).collect();
    assert_eq!(units.len(), 3);
    units
}

#[test]
fn a_unit_gives_its_program_the_variables_that_it_needs_and_secrets_as_credentials() {
    let made = ComposeFile::read().secrets;
    for unit in units() {
        let start = values(&unit, "ExecStart").concat();
        let program = program_of(start.split(' ').next().unwrap());
        let variables = variables(&unit);
        assert_fits(&unit, program, &variables);

        let mut credentials: Vec<_> = values(&unit, "LoadCredential")
            .iter()
            .map(|credential| credential.split_once(':').unwrap())
            .map(|(name, path)| {
                let file = path.strip_prefix("/etc/restante/secrets/").unwrap();
                assert!(made.contains_key(file), "{unit}: deploy/make-secrets makes no {file}");
                format!("%d/{name}")
            })
            .collect();
        let mut used: Vec<_> = variables
            .iter()
            .filter(|(name, _)| name.ends_with("_FILE"))
            .map(|(_, path)| path.clone())
            .collect();
        credentials.sort();
        used.sort();
        assert_eq!(credentials, used, "{unit}");
        if program != Program::Tool {
            let stop: u64 = values(&unit, "TimeoutStopSec").concat().parse().unwrap();
            assert!(stop > drain_seconds(program, &variables), "{unit}: it would be killed while it drains");
        }
    }
}

/// The version of systemd that can examine a unit: 250 is the first one that can without running it.
fn is_there() -> bool {
    let Ok(told) = Command::new("systemd-analyze").arg("--version").output() else { return false };
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    told.split_whitespace()
        .nth(1)
        .and_then(|version| version.parse().ok())
        .is_some_and(|version: u32| version >= 250)
}

/// Runs systemd-analyze on a file. Returns what it told.
fn analyzed(arguments: &[&str], path: &Path) -> String {
    let analyzed = Command::new("systemd-analyze").args(arguments).arg(path).output().unwrap();
    let told = String::from_utf8_lossy(&[analyzed.stdout, analyzed.stderr].concat()).into_owned();
    assert!(analyzed.status.success(), "{}: {told}", path.display());
    told
}

#[test]
fn systemd_accepts_the_units_and_finds_little_that_they_could_do_where_it_is_installed() {
    if !is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for unit in units() {
        // The programs of this build, since the others need not be installed.
        let text = project_file(&unit)
            .replace("/usr/local/bin/restante-ingest", INGEST)
            .replace("/usr/local/bin/restante-worker", WORKER)
            .replace("/usr/local/bin/restante ", &format!("{} ", tool()));
        let path = directory.path().join(unit.rsplit('/').next().unwrap().replace("@.", "@1."));
        std::fs::write(&path, text).unwrap();
        let faults = analyzed(&["verify", "--man=no", "--recursive-errors=no"], &path);
        assert!(faults.trim().is_empty(), "{unit}: {faults}");
        // In tenths, from 0 to 100.
        analyzed(&["security", "--offline=yes", "--threshold=20"], &path);
    }
}
