//! A configuration that is read again while the program runs, when a file that it was read from has changed.
//!
//! A wrong one changes nothing: it is told once, and the one that is in force stays. Variables of the environment cannot
//! change. Of what is in files, every secret takes the place of the former one: senders, accounts, the logins of the database, the users
//! of the ops page, the token of readers. All else is in force until the program is started anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::standing::Standing;
use super::watched::{Reader, Seen, look};
use crate::config::{Faults, Loaded, Program, ReadFile};
use crate::key_use::{Key, difference};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// A file that is written in place is whole when two looks that lie so far apart find the same.
const SETTLED: Duration = Duration::from_millis(200);

/// Makes a configuration of variables and files.
pub type FromVars<C> = fn(Vec<(String, String)>, ReadFile<'_>) -> Result<Loaded<C>, Faults>;

/// Reads a configuration, and reads it again.
#[derive(Debug)]
pub struct Reload<C> {
    program: Program,
    from_vars: FromVars<C>,
    reader: Reader,
    seen: Seen,
    at_once: Arc<Notify>,
    standing: Standing,
}

/// Senders, accounts and other secrets that took the place of others.
#[derive(Debug, Default)]
pub struct Replaced {
    /// Their names; of what has none, the name of its variable.
    pub names: Vec<String>,
    /// The keys before.
    pub before: BTreeSet<Key>,
    /// The keys from now on.
    pub after: BTreeSet<Key>,
}

impl<C: Send + 'static> Reload<C> {
    /// `at_once` tells that the files are to be looked at without waiting.
    pub(super) fn new(program: Program, from_vars: FromVars<C>, at_once: Arc<Notify>) -> Self {
        Self {
            program,
            from_vars,
            reader: Reader::default(),
            seen: Seen::new(),
            at_once,
            standing: Standing::default(),
        }
    }

    /// The configuration as it is now.
    pub(super) fn read(&mut self) -> Result<Loaded<C>, Faults> {
        let read = (self.from_vars)(environment(), &|path| self.reader.read(path));
        self.seen = self.reader.take();
        read
    }

    /// Whether what the files say is in force.
    pub fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Looks at the files until the program stops. `apply` gets each new configuration without a fault, and returns what it has
    /// replaced; `None` where nothing of it differs.
    pub fn start(
        self,
        stop: CancellationToken,
        mut apply: impl FnMut(C) -> anyhow::Result<Option<Replaced>> + Send + 'static,
    ) {
        tokio::spawn(async move {
            let mut this = self;
            loop {
                let is_told = tokio::select! {
                    () = tokio::time::sleep(EVERY) => false,
                    () = this.at_once.notified() => true,
                    () = stop.cancelled() => return,
                };
                // A file may lie on a disk that answers late.
                let looked = tokio::task::spawn_blocking(move || this.look()).await;
                let Ok((back, loaded)) = looked else { return };
                this = back;
                match loaded {
                    None if is_told => tracing::info!("no file of the configuration has changed"),
                    None => {}
                    Some(Ok(loaded)) => this.adopt(loaded, &mut apply),
                    Some(Err(faults)) => {
                        this.standing.faulty(&faults);
                        tracing::warn!(
                            "the configuration has changed and cannot be used, so the former one stays in force:{}",
                            faults.list()
                        );
                    }
                }
            }
        });
    }

    /// The configuration, if a file has changed, as soon as nobody writes to it.
    fn look(mut self) -> (Self, Option<Result<Loaded<C>, Faults>>) {
        let mut now = look(&self.seen);
        if now == self.seen {
            return (self, None);
        }
        loop {
            std::thread::sleep(SETTLED);
            let later = look(&self.seen);
            if later == now {
                break;
            }
            now = later;
        }
        let read = self.read();
        (self, Some(read))
    }

    fn adopt(&self, loaded: Loaded<C>, apply: &mut impl FnMut(C) -> anyhow::Result<Option<Replaced>>) {
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        match apply(loaded.config) {
            Ok(Some(Replaced { names, before, after })) => {
                self.standing.used();
                let (came, went) = difference(&before, &after);
                let names = names.join(", ");
                tracing::info!(
                    names,
                    came,
                    went,
                    "{} uses the configuration as it has changed",
                    self.program
                );
            }
            Ok(None) => {
                self.standing.used();
                tracing::info!("the configuration was read again; {} has nothing to replace", self.program);
            }
            Err(error) => {
                self.standing.refused(&format!("{error:#}"));
                tracing::warn!(
                    "the configuration has changed and cannot be used, so the former one stays in force: {error:#}"
                );
            }
        }
    }
}

/// Every variable that is text.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::OnceLock;

    use super::*;
    use crate::config::Fault;

    /// The file of the one test; a function that makes a configuration holds nothing itself.
    static FILE: OnceLock<PathBuf> = OnceLock::new();

    /// The text of the file, unless it is `wrong`.
    fn from_vars(_: Vec<(String, String)>, read: ReadFile<'_>) -> Result<Loaded<String>, Faults> {
        let config = read(FILE.get().unwrap()).unwrap();
        if config != "wrong" {
            return Ok(Loaded { config, warnings: Vec::new(), settings: Vec::new(), parties: Vec::new() });
        }
        let told = || "x".to_owned();
        let fault = Fault { variable: told(), place: None, problem: told(), mend: told() };
        Err(Faults { program: Program::Ingest, faults: vec![fault], warnings: Vec::new() })
    }

    #[test]
    fn a_change_is_seen_once_whether_it_is_right_or_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let file = FILE.get_or_init(|| directory.path().join("file"));
        std::fs::write(file, "one").unwrap();
        let mut reload = Reload::new(Program::Ingest, from_vars, Arc::new(Notify::new()));
        assert_eq!(reload.read().unwrap().config, "one");

        for (text, expected) in
            [("one", None), ("two", Some(Ok("two"))), ("wrong", Some(Err(1))), ("two", Some(Ok("two")))]
        {
            std::fs::write(file, text).unwrap();
            let (back, first) = reload.look();
            let (back, second) = back.look();
            reload = back;

            let first =
                first.map(|read| read.map(|loaded| loaded.config).map_err(|faults| faults.faults.len()));
            assert_eq!(first, expected.map(|read| read.map(str::to_owned)), "{text}");
            assert!(second.is_none(), "{text}");
        }
    }
}
