//! One table of the configuration file, such as `[sender.openai]`: its keys are found, read by their declarations, and
//! noted with what is wrong with them.

use std::path::PathBuf;

use secrecy::zeroize::Zeroizing;
use toml::de::{DeTable, DeValue};

use super::document::{Entry, Source, entries};
use super::keys::{FILE_KEYS, Key, Kind};
use super::secret;
use crate::config::Place;
use crate::config::quotes::unquoted;
use crate::config::secret_file::secret_of_file;
use crate::config::spelling::nearest_of;
use crate::config::table::VARIABLES;
use crate::config::variable::{Fallible, Unfit, unfit};
use crate::config::vars::Vars;

pub(super) struct Section<'d> {
    pub(super) name: String,
    kind: Kind,
    pub(super) place: Place,
    source: &'d Source,
    entries: Vec<Entry<'d>>,
    /// One of its keys was refused already, so what seems to be missing may only be misspelt.
    is_doubtful: bool,
}

/// A secret that was found, and what is said of it.
pub(super) struct Secret {
    text: Zeroizing<String>,
    key: String,
    place: Place,
}

impl<'d> Section<'d> {
    /// The table, of which each key that is unknown, or that holds a secret, was told.
    pub(super) fn new(
        kind: Kind,
        Entry { name, place, .. }: &Entry<'d>,
        table: &'d DeTable<'d>,
        source: &'d Source,
        vars: &mut Vars<'_>,
    ) -> Section<'d> {
        let (name, place) = ((*name).to_owned(), place.clone());
        let mut section = Section { name, kind, place, source, entries: Vec::new(), is_doubtful: false };
        for entry in entries(table, source) {
            let is_known = FILE_KEYS.iter().any(|key| key.kind == kind && key.name == entry.name);
            let holds_secret =
                secret::is_within(entry.value) || (!is_known && secret::is_named_by(entry.name));
            if is_known && !holds_secret {
                section.entries.push(entry);
                continue;
            }
            section.is_doubtful = true;
            let unfit =
                if holds_secret { section.secret_stands_there(&entry) } else { section.unknown(&entry) };
            let shown = if secret::is_plain(entry.name) { entry.name } else { "?" };
            vars.fault_at(entry.place, &section.path(shown), unfit);
        }
        section
    }

    /// The name of a key with those of its tables.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}.{}.{key}", self.kind.word(), self.name)
    }

    /// The name of the table, with its place.
    pub(super) fn subject(&self) -> String {
        self.place.of(&format!("{}.{}", self.kind.word(), self.name))
    }

    pub(super) fn fault(&self, vars: &mut Vars<'_>, unfit: Unfit) {
        vars.fault_at(self.place.clone(), &format!("{}.{}", self.kind.word(), self.name), unfit);
    }

    fn secret_stands_there(&self, entry: &Entry<'_>) -> Unfit {
        let file = match self.kind {
            Kind::Sender => "signing_keys_file",
            Kind::Account if entry.name.contains("admin") => "admin_key_file",
            Kind::Account => "api_key_file",
        };
        unfit(
            "a secret stands there",
            format!("Put it into a file of its own, and give the path of that as {file}"),
        )
    }

    fn unknown(&self, entry: &Entry<'_>) -> Unfit {
        let word = self.kind.word();
        if FILE_KEYS.iter().any(|key| key.name == entry.name) {
            return unfit(format!("it is no key of a {word}"), "Move it to the table that it belongs to");
        }
        let known = || FILE_KEYS.iter().filter(|key| key.kind == self.kind).map(|key| key.name);
        let mend = match nearest_of(entry.name, known()) {
            Some(nearest) => format!("Did you mean {nearest}?"),
            None => format!("A {word} has {}", known().collect::<Vec<_>>().join(", ")),
        };
        unfit(format!("it is no key of a {word}"), mend)
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry<'d>> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The value of a key, or its default. `Some(None)`: it is absent, and may be. `None`: a fault was reported.
    pub(super) fn get<T>(&self, key: &Key<T>, vars: &mut Vars<'_>) -> Option<Option<T>> {
        let Some(entry) = self.entry(key.facts.name) else {
            // A default that cannot be read fails a test.
            return key.facts.default.map_or(Some(None), |default| (key.parse)(default).ok().map(Some));
        };
        let value = text(entry.value, key.is_list).and_then(|text| (key.parse)(text.trim()));
        match value {
            Ok(value) => {
                for doubt in (key.doubts)(&value) {
                    vars.warn(&entry.place.of(&self.path(entry.name)), doubt);
                }
                Some(Some(value))
            }
            Err(unfit) => {
                vars.fault_at(entry.place.clone(), &self.path(entry.name), unfit);
                None
            }
        }
    }

    /// The secret that a file or a variable has, of which the table names one. `Some(None)`: it names neither, or this
    /// program does not read secrets of this kind. `None`: a fault was reported.
    pub(super) fn secret(
        &self,
        (file, env): (&Key<PathBuf>, &Key<String>),
        vars: &mut Vars<'_>,
        is_read: bool,
    ) -> Option<Option<Secret>> {
        let (path, variable) = (self.get(file, vars), self.get(env, vars));
        let (name, found) = match (path?, variable?) {
            (Some(_), Some(_)) => {
                let problem = format!("{} stands beside it", file.facts.name);
                self.fault_of(vars, env.facts.name, unfit(problem, "Keep one of the two"));
                return None;
            }
            (None, None) => return Some(None),
            (Some(path), None) => {
                let path = self.source.beside(&path);
                (file.facts.name, is_read.then(|| secret_of_file(vars.read_file, &path)))
            }
            (None, Some(variable)) => (env.facts.name, variable_of(&variable, vars, is_read)),
        };
        let text = match found {
            None => return Some(None),
            Some(Ok(text)) => text,
            Some(Err(unfit)) => {
                self.fault_of(vars, name, unfit);
                return None;
            }
        };
        let (key, place) = (self.path(name), self.place_of(name));
        let text = vars.without_mark(&place.of(&key), text);
        Some(Some(Secret { text, key, place }))
    }

    /// Neither of the two keys that a secret may come by is there.
    pub(super) fn lacks(&self, (file, env): (&Key<PathBuf>, &Key<String>), vars: &mut Vars<'_>) {
        if !self.is_doubtful {
            let problem = format!("it has neither {} nor {}", file.facts.name, env.facts.name);
            let mend =
                format!("Put the secret into a file, and give the path of that as {}", file.facts.name);
            self.fault(vars, unfit(problem, mend));
        }
    }

    /// Does it name where a secret is?
    pub(super) fn names(&self, (file, env): (&Key<PathBuf>, &Key<String>)) -> bool {
        self.entry(file.facts.name).or(self.entry(env.facts.name)).is_some()
    }

    fn place_of(&self, name: &str) -> Place {
        self.entry(name).map_or_else(|| self.place.clone(), |entry| entry.place.clone())
    }

    pub(super) fn fault_of(&self, vars: &mut Vars<'_>, name: &str, unfit: Unfit) {
        vars.fault_at(self.place_of(name), &self.path(name), unfit);
    }
}

impl Secret {
    /// What the secret means. `None`: a fault was reported.
    pub(super) fn read<T>(
        &self,
        vars: &mut Vars<'_>,
        parse: fn(&str) -> Fallible<T>,
        doubts: impl Fn(&T) -> Vec<String>,
    ) -> Option<T> {
        match unquoted(self.text.trim()).and_then(parse) {
            Ok(value) => {
                for doubt in doubts(&value) {
                    vars.warn(&self.place.of(&self.key), doubt);
                }
                Some(value)
            }
            Err(unfit) => {
                vars.fault_at(self.place.clone(), &self.key, unfit);
                None
            }
        }
    }
}

/// The value of the variable that the file names.
fn variable_of(name: &str, vars: &mut Vars<'_>, is_read: bool) -> Option<Fallible<Zeroizing<String>>> {
    let bare = name.strip_suffix("_FILE").unwrap_or(name);
    if VARIABLES.iter().any(|variable| [name, bare].contains(&variable.name)) {
        let mend = "Give the secrets of this table a variable of their own";
        return Some(Err(unfit("it names a variable that has a meaning of its own", mend)));
    }
    let value = vars.named(name);
    let mend = "Set that variable for this program, or correct its name";
    is_read.then(|| value.ok_or_else(|| unfit("the variable that it names is not set", mend)))
}

/// The text of a value.
fn text(value: &DeValue<'_>, is_list: bool) -> Fallible<String> {
    let refuse = || {
        let form = if is_list { "a text or an array of texts" } else { "a text" };
        unfit(format!("it is not {form}"), "Write the value in double quotes")
    };
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Array(values) if is_list => {
            let texts: Option<Vec<&str>> = values.iter().map(|value| value.get_ref().as_str()).collect();
            texts.map(|texts| texts.join(",")).ok_or_else(refuse)
        }
        _ => Err(refuse()),
    }
}
