//! The doctor looks at who else may read the files that hold secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use restante::internals::config::VARIABLES;

use super::finding::Finding;

const READ_BY_OTHERS: u32 = 0o004;
const WRITTEN_BY_OTHERS: u32 = 0o002;
/// Where engines of containers mount secrets, readable for every account of the container. Nobody but its programs is in there.
const MOUNTED_BY_ENGINE: &str = "/run/secrets/";

/// Examines the file of each `_FILE` variable. What is wrong with its text is told with the configuration.
pub(super) fn examine(variables: &[(String, String)]) -> Vec<Finding> {
    let secrets = VARIABLES.iter().filter(|variable| variable.secret);
    let names: Vec<String> = secrets.map(|variable| format!("{}_FILE", variable.name)).collect();
    let files = variables.iter().filter(|(name, _)| names.contains(name));
    let modes = files.filter_map(|(name, path)| {
        let mode = fs::metadata(path.trim()).ok()?.permissions().mode();
        Some((name, path.trim(), mode & 0o777))
    });
    modes.filter_map(|(name, path, mode)| judge(name, path, mode)).collect()
}

/// `None` if nobody else may read or write it. The path is that of a file that is there, so it is no secret.
fn judge(name: &str, path: &str, mode: u32) -> Option<Finding> {
    let says =
        |what: &str| format!("every account of this machine may {what} the file of {name} (mode {mode:04o})");
    let remedy = format!("chmod o-rwx {path}, and let the account of the service own it or be in its group");
    if mode & WRITTEN_BY_OTHERS != 0 {
        let why = "whoever replaces a key decides which deliveries are accepted, or where calls go";
        return Some(Finding::wrong("secrets", says("replace"), why, remedy));
    }
    if mode & READ_BY_OTHERS != 0 && !path.starts_with(MOUNTED_BY_ENGINE) {
        let why = "whoever reads a key can sign deliveries or call the API with it";
        return Some(Finding::warn("secrets", says("read"), why, remedy));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Verdict, rendered};
    use super::*;

    #[test]
    fn a_secret_that_others_may_read_is_a_warning_and_one_that_they_may_replace_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "hush").unwrap();
        let variables = [("ANTHROPIC_API_KEY_FILE".to_owned(), path.to_str().unwrap().to_owned())];
        let with = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            examine(&variables)
        };

        assert!(with(0o640).is_empty());
        let read = with(0o644);
        assert_eq!(read[0].verdict, Verdict::Warn);
        let told = rendered(&read);
        assert!(told.contains("ANTHROPIC_API_KEY_FILE (mode 0644)") && !told.contains("hush"), "{told}");
        assert!(told.contains(&format!("to do: chmod o-rwx {}", path.display())), "{told}");
        assert_eq!(with(0o666)[0].verdict, Verdict::Wrong);
    }

    #[test]
    fn a_secret_that_an_engine_mounts_may_be_readable_for_everyone_in_the_container() {
        let name = "ANTHROPIC_API_KEY_FILE";

        assert!(judge(name, "/run/secrets/anthropic_api_key", 0o444).is_none());
        assert!(judge(name, "/run/secrets/anthropic_api_key", 0o646).is_some(), "it can be replaced");
        assert!(judge(name, "/etc/secrets/anthropic_api_key", 0o444).is_some());
    }
}
