//! The file with the keys of a sender or an account: read, checked as the services check it, and replaced as a whole.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::KindOfKey;
use crate::configuration::read_file;
use crate::surroundings::Surroundings;
use restante::internals::config::{
    ANTHROPIC_ADMIN_API_KEY, ANTHROPIC_API_KEY, ANTHROPIC_WEBHOOK_SECRET, ANTHROPIC_WEBHOOK_SIGNING_KEY, Tool,
};
use restante::internals::key_use::Fingerprint;

/// The rights of a file that was not there before.
const MODE: u32 = 0o600;

/// A file that services read keys from.
#[derive(Debug)]
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    kind: KindOfKey,
    is_raw_secret: bool,
}

/// When the file got a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Now,
    Before,
}

impl KeyFile {
    /// The file that was given, or the one that the variable of the key names.
    ///
    /// # Errors
    /// If neither names one.
    pub(super) fn of(
        kind: KindOfKey,
        is_raw_secret: bool,
        is_of_environment: bool,
        given: Option<&Path>,
        surroundings: &Surroundings,
    ) -> anyhow::Result<Self> {
        let variable = format!("{}_FILE", variable(kind, is_raw_secret));
        let named = surroundings.variable(&variable).filter(|_| is_of_environment).map(PathBuf::from);
        let Some(path) = given.map(Path::to_owned).or(named) else {
            bail!(
                "--file has to name the file that the services read; {variable}, which would, is not set or of another name"
            );
        };
        Ok(Self { path, kind, is_raw_secret })
    }

    /// Puts a key into it: a signing key before the others, which stay; any other in their place.
    ///
    /// # Errors
    /// If it is not one valid key, or the file cannot be read or written.
    pub(super) fn put(&self, new_key: &SecretString) -> anyhow::Result<(Fingerprint, Written)> {
        let new = match self.fingerprints(new_key.expose_secret())?[..] {
            [one] => one,
            _ => bail!("the new key has to be one key, and nothing else"),
        };
        let mut text = Zeroizing::new(new_key.expose_secret().to_owned());
        if self.path.exists() {
            let old = self.read()?;
            if self.fingerprints(&old)?.contains(&new) {
                return Ok((new, Written::Before));
            }
            if self.kind == KindOfKey::Signing {
                text.push('\n');
                text.push_str(old.trim());
            }
        }
        // The services would refuse what is refused here, and keep the old keys.
        self.fingerprints(&text)?;
        self.replace(&text)?;
        Ok((new, Written::Now))
    }

    /// Takes out every key but that with this fingerprint.
    ///
    /// # Errors
    /// If the file does not have that key, or cannot be read or written.
    pub(super) fn keep_only(&self, fingerprint: &str) -> anyhow::Result<()> {
        let old = self.read()?;
        let entries: Vec<&str> = if self.is_raw_secret {
            old.lines().collect()
        } else {
            old.split([',', ' ', '\t', '\r', '\n']).collect()
        };
        let is_kept = |entry: &&str| {
            self.fingerprints(entry).is_ok_and(|found| found.iter().any(|key| key.to_string() == fingerprint))
        };
        let Some(kept) = entries.into_iter().find(is_kept) else {
            bail!(
                "{} does not have the key {fingerprint}, so nothing is taken out of it",
                self.path.display()
            );
        };
        self.replace(kept.trim())
    }

    fn read(&self) -> anyhow::Result<Zeroizing<String>> {
        let text = read_file(&self.path);
        text.map(Zeroizing::new).with_context(|| format!("{} cannot be read", self.path.display()))
    }

    /// The fingerprints of the keys in a text, read as the services read it.
    fn fingerprints(&self, text: &str) -> anyhow::Result<Vec<Fingerprint>> {
        let pair = (variable(self.kind, self.is_raw_secret).to_owned(), text.to_owned());
        let mut variables = vec![pair];
        if self.kind == KindOfKey::Admin {
            // The one is nothing without the other.
            variables.push((ANTHROPIC_API_KEY.facts.name.to_owned(), "a-key-beside-it".to_owned()));
        }
        let config = Tool::from_vars(variables, &read_file).map_err(|faults| {
            let told: Vec<String> =
                faults.faults.iter().map(|fault| format!("{}. {}", fault.problem, fault.mend)).collect();
            anyhow!("the key cannot be used: {}", told.join("; "))
        })?;
        let config = config.config;
        let of_text = |key: &SecretString| Fingerprint::of_text(key.expose_secret().as_bytes());
        Ok(match (self.kind, config.api) {
            (KindOfKey::Signing, _) => config.keys.fingerprints(),
            (KindOfKey::Api, Some(api)) => vec![of_text(&api.key)],
            (KindOfKey::Admin, Some(api)) => api.admin_key.iter().map(of_text).collect(),
            (_, None) => Vec::new(),
        })
    }

    /// Replaces the file by one of the same rights and owner, so that a service reads the old text or the new one and nothing in
    /// between.
    fn replace(&self, text: &str) -> anyhow::Result<()> {
        // A link stays a link.
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            bail!("{} is no file", path.display());
        };
        let beside = folder.join(format!(".{}.{:08x}", name.display(), rand::random::<u32>()));
        let written = put_beside(&beside, &path, text).and_then(|()| std::fs::rename(&beside, &path));
        if written.is_err() {
            // It may not be there.
            let _gone = std::fs::remove_file(&beside);
        }
        written.with_context(|| {
            format!(
                "{} cannot be replaced, and is as it was. A file that a container or Kubernetes mounts is changed where it comes from",
                path.display()
            )
        })?;
        // The new name too has to outlive a crash.
        if let Ok(folder) = File::open(folder) {
            let _is_a_matter_of_the_file_system = folder.sync_all();
        }
        Ok(())
    }
}

fn put_beside(beside: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(beside)?;
    if let Ok(former) = std::fs::metadata(path) {
        let ours = file.metadata()?;
        if (former.uid(), former.gid()) != (ours.uid(), ours.gid()) {
            chown(beside, Some(former.uid()), Some(former.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(former.mode() & 0o7777))?;
    }
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn variable(kind: KindOfKey, is_raw_secret: bool) -> &'static str {
    match kind {
        KindOfKey::Signing if is_raw_secret => ANTHROPIC_WEBHOOK_SECRET.facts.name,
        KindOfKey::Signing => ANTHROPIC_WEBHOOK_SIGNING_KEY.facts.name,
        KindOfKey::Api => ANTHROPIC_API_KEY.facts.name,
        KindOfKey::Admin => ANTHROPIC_ADMIN_API_KEY.facts.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const NEW: &str = "whsec_c2Vjb25kIGtleSBzZWNvbmQga2V5IHNlY29uZCBrZXk=";

    fn file(folder: &tempfile::TempDir, kind: KindOfKey) -> KeyFile {
        KeyFile { path: folder.path().join("key"), kind, is_raw_secret: false }
    }

    fn text(file: &KeyFile) -> String {
        std::fs::read_to_string(&file.path).unwrap()
    }

    #[test]
    fn a_signing_key_comes_beside_the_old_one_and_the_old_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, KindOfKey::Signing);
        std::fs::write(&file.path, format!("{OLD}\n")).unwrap();
        std::fs::set_permissions(&file.path, Permissions::from_mode(0o640)).unwrap();

        let (new, written) = file.put(&NEW.into()).unwrap();
        assert_eq!((text(&file), written), (format!("{NEW}\n{OLD}\n"), Written::Now));
        assert_eq!(file.put(&NEW.into()).unwrap(), (new, Written::Before));

        file.keep_only(&new.to_string()).unwrap();
        assert_eq!(text(&file), format!("{NEW}\n"));
        assert_eq!(std::fs::metadata(&file.path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_stays_and_an_api_key_takes_the_place_of_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, KindOfKey::Api);
        std::fs::write(folder.path().join("behind"), "sk-ant-the-old-key-of-the-test\n").unwrap();
        std::os::unix::fs::symlink(folder.path().join("behind"), &file.path).unwrap();

        file.put(&"sk-ant-the-new-key-of-the-test".into()).unwrap();

        assert_eq!(text(&file), "sk-ant-the-new-key-of-the-test\n");
        assert!(file.path.is_symlink());
        let kept = file.keep_only("00000000").unwrap_err().to_string();
        assert!(kept.contains("does not have the key 00000000"), "{kept}");
    }

    #[test]
    fn what_the_services_would_refuse_is_not_written_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, KindOfKey::Signing);
        std::fs::write(&file.path, OLD).unwrap();
        for wrong in ["", "whsec_canary", "whsec_...", &format!("{OLD},{NEW}")] {
            let error = format!("{:#}", file.put(&wrong.into()).unwrap_err());
            assert!(!error.contains("canary") && !error.contains(&NEW[6..]), "{error}");
            assert_eq!(text(&file), OLD, "{wrong}");
        }
    }
}
