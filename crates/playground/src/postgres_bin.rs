//! Finds the programs of Postgres on this machine.
//!
//! It looks where `scripts/postgres-bin` looks, and installs nothing: its error says which command installs them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest major version that is used.
const MINIMUM_MAJOR: u32 = 14;

/// Where systems put the programs: a directory, the beginning of the names of its entries (a version follows), and the
/// directory below an entry.
const KNOWN_PLACES: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/usr/local", "pgsql", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// Why no Postgres can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `PG_BIN` names a directory without the programs.
    #[error(
        "PG_BIN is {0}, but it has no `initdb` and `postgres` that run; set it to the directory that has them"
    )]
    NotThere(PathBuf),
    /// Only an old Postgres was found.
    #[error(
        "the Postgres in {directory} has version {major}, and {MINIMUM_MAJOR} is the oldest that is used; \
         https://www.postgresql.org/download/ has newer ones"
    )]
    TooOld {
        /// Where it is.
        directory: PathBuf,
        /// Its major version.
        major: u32,
    },
    /// No Postgres was found.
    #[error(
        "no Postgres found on this machine: run `scripts/postgres-bin`, which installs it, or one of \
         `sudo apt-get install postgresql`, `sudo dnf install postgresql-server`, `sudo apk add postgresql`, \
         `brew install postgresql@17`; or set PG_BIN to the directory that holds its `initdb` and `postgres`"
    )]
    None,
}

/// The directory of `initdb` and `postgres`: `pg_bin` if given, else the first on the search `path`, else the newest in
/// the places where systems put them.
///
/// # Errors
/// If no Postgres was found, or only one that is too old.
pub fn find(pg_bin: Option<&Path>, path: Option<&OsStr>) -> Result<PathBuf, Error> {
    if let Some(directory) = pg_bin {
        let major = major_in(directory).ok_or_else(|| Error::NotThere(directory.to_owned()))?;
        return choose(vec![(major, directory.to_owned())]);
    }
    let on_path = path.and_then(|path| {
        std::env::split_paths(path)
            // The other programs are next to the program itself, not next to a link to it.
            .find_map(|directory| Some(fs::canonicalize(directory.join("initdb")).ok()?.parent()?.to_owned()))
    });
    if let Some(directory) = on_path
        && let Some(major) = major_in(&directory)
        && major >= MINIMUM_MAJOR
    {
        return Ok(directory);
    }
    choose(known_places().into_iter().filter_map(|place| Some((major_in(&place)?, place))).collect())
}

fn choose(found: Vec<(u32, PathBuf)>) -> Result<PathBuf, Error> {
    match found.into_iter().max_by_key(|(major, _)| *major) {
        Some((major, directory)) if major < MINIMUM_MAJOR => Err(Error::TooOld { directory, major }),
        Some((_, directory)) => Ok(directory),
        None => Err(Error::None),
    }
}

fn known_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    for (parent, prefix, below) in KNOWN_PLACES {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        let named = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        places.extend(named.map(|entry| entry.path().join(below)));
    }
    places
}

fn major_in(directory: &Path) -> Option<u32> {
    if !directory.join("initdb").is_file() {
        return None;
    }
    let output =
        Command::new(directory.join("postgres")).arg("--version").env("LC_ALL", "C").output().ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

fn major(version: &str) -> Option<u32> {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn fake(directory: &Path, version: &str) {
        fs::create_dir_all(directory).unwrap();
        for program in ["initdb", "postgres"] {
            fs::write(
                directory.join(program),
                format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n"),
            )
            .unwrap();
            fs::set_permissions(directory.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn the_major_version_is_read_as_postgres_spells_it() {
        for (line, expected) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("", None),
        ] {
            assert_eq!(major(line), expected, "{line}");
        }
    }

    #[test]
    fn a_link_on_the_path_leads_to_the_directory_of_the_program() {
        let root = tempfile::tempdir().unwrap();
        let (real, links) = (root.path().join("real"), root.path().join("links"));
        fake(&real, "17.2");
        fs::create_dir(&links).unwrap();
        symlink("../real/initdb", links.join("initdb")).unwrap();
        assert_eq!(find(None, Some(links.as_os_str())).unwrap(), fs::canonicalize(&real).unwrap());
    }

    #[test]
    fn what_pg_bin_names_is_used_or_refused_but_never_passed_over() {
        let root = tempfile::tempdir().unwrap();
        fake(&root.path().join("new"), "14.0");
        fake(&root.path().join("old"), "13.9");
        assert_eq!(find(Some(&root.path().join("new")), None).unwrap(), root.path().join("new"));
        assert!(matches!(find(Some(&root.path().join("old")), None), Err(Error::TooOld { major: 13, .. })));
        assert!(matches!(find(Some(root.path()), None), Err(Error::NotThere(_))));
    }

    #[test]
    fn the_newest_is_chosen() {
        let found = vec![(14, "a".into()), (17, "b".into()), (9, "c".into())];
        assert_eq!(choose(found).unwrap(), PathBuf::from("b"));
        assert!(matches!(choose(Vec::new()), Err(Error::None)));
    }
}
