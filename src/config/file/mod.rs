//! The configuration file: senders and accounts beside those of the environment.
//!
//! RESTANTE_CONFIG names it. Each program reads the whole of it, so that a mistake is found wherever it is, and of the
//! secrets that it names only its own: ingest those of senders, the worker those of accounts.

mod document;
mod keys;
mod parties;
mod secret;
mod section;
#[cfg(test)]
mod tests;

use toml::de::DeValue;

use self::document::{Entry, Source, entries};
pub use self::keys::{FILE_KEYS, FileKey, Kind};
use self::section::Section;
use super::Program;
use super::spelling::nearest_of;
use super::table::{ANTHROPIC_API_KEY, RESTANTE_CONFIG};
use super::variable::unfit;
use super::vars::Vars;
use crate::api::Account;
use crate::event::ANTHROPIC;
use crate::ingest::Sender;

/// What a configuration file has for one program.
#[derive(Debug, Default)]
pub(super) struct File {
    /// In the order of the file. Only ingest has their keys.
    pub(super) senders: Vec<Sender>,
    /// In the order of the file. Only the worker has any.
    pub(super) accounts: Vec<Account>,
    /// It has a sender, or may have one, since it cannot be read.
    pub(super) has_senders: bool,
    /// It has an account, or may have one, since it cannot be read.
    pub(super) has_accounts: bool,
}

impl File {
    /// Reads the file, if there is one.
    pub(super) fn read(vars: &mut Vars<'_>) -> File {
        let Some(path) = vars.find(&RESTANTE_CONFIG) else { return File::unreadable() };
        let Some(path) = path else { return File::default() };
        let variable = RESTANTE_CONFIG.facts.name;
        let source = match Source::read(path, vars.read_file) {
            Ok(source) => source,
            Err((problem, mend)) => {
                vars.fault(variable, problem, mend);
                return File::unreadable();
            }
        };
        if source.has_mark {
            let message =
                "the file begins with a byte order mark, which is left out: save it as UTF-8 without one";
            vars.warn(variable, message);
        }
        match source.parse() {
            Ok(document) => File::of(&entries(&document, &source), &source, vars),
            Err(faults) => {
                for (place, unfit) in faults {
                    vars.fault_at(place, "", unfit);
                }
                File::unreadable()
            }
        }
    }

    fn unreadable() -> File {
        File { has_senders: true, has_accounts: true, ..File::default() }
    }

    fn of(entries: &[Entry<'_>], source: &Source, vars: &mut Vars<'_>) -> File {
        let (mut senders, mut accounts) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry.name {
                "sender" => senders = sections(Kind::Sender, entry, source, vars),
                "account" => accounts = sections(Kind::Account, entry, source, vars),
                _ => elsewhere(entry, vars),
            }
        }
        // A table of the name alone has none; what else stands there is meant to be one.
        let is_empty = |value: &DeValue<'_>| value.as_table().is_some_and(toml::map::Map::is_empty);
        let has = |name: &str| entries.iter().any(|entry| entry.name == name && !is_empty(entry.value));
        let known = known_accounts(&accounts, vars);
        File {
            senders: senders.iter().filter_map(|section| parties::sender(section, &known, vars)).collect(),
            accounts: accounts.iter().filter_map(|section| parties::account(section, vars)).collect(),
            has_senders: has("sender"),
            has_accounts: has("account"),
        }
    }
}

/// The tables `[sender.NAME]`, or those of accounts.
fn sections<'d>(kind: Kind, entry: &Entry<'d>, source: &'d Source, vars: &mut Vars<'_>) -> Vec<Section<'d>> {
    let word = kind.word();
    let mend = format!("Write [{word}.NAME] above its keys, where NAME is yours to choose");
    let DeValue::Table(named) = entry.value else {
        vars.fault_at(entry.place.clone(), word, unfit("it has no name", mend));
        return Vec::new();
    };
    let mut sections = Vec::new();
    for entry in entries(named, source) {
        let shown = if secret::is_plain(entry.name) { entry.name } else { "?" };
        let path = format!("{word}.{shown}");
        match (keys::name(entry.name), entry.value) {
            (Ok(_), _) if secret::is_in(entry.name) => {
                let mend = "Give the table a name of your own, and put the secret into a file";
                vars.fault_at(entry.place, &path, unfit("a secret stands there", mend));
            }
            (Ok(_), DeValue::Table(table)) => sections.push(Section::new(kind, &entry, table, source, vars)),
            (Err(unfit), DeValue::Table(_)) => vars.fault_at(entry.place, &path, unfit),
            (_, DeValue::Array(_)) => {
                vars.fault_at(entry.place, &path, unfit("it is an array of tables", mend.clone()));
            }
            _ => vars.fault_at(entry.place, &path, unfit("it is no table", mend.clone())),
        }
    }
    sections
}

/// What stands outside of the tables that are known.
fn elsewhere(entry: &Entry<'_>, vars: &mut Vars<'_>) {
    let shown = if secret::is_plain(entry.name) { entry.name } else { "?" };
    let tables = "The file has tables [sender.NAME] and [account.NAME]";
    let is_key = FILE_KEYS.iter().any(|key| key.name == entry.name);
    let unfit = if secret::is_within(entry.value) || (!is_key && secret::is_named_by(entry.name)) {
        let mend = "Put it into a file of its own, and give the path of that in a table [sender.NAME] or [account.NAME]";
        unfit("a secret stands there", mend)
    } else if is_key {
        unfit("it stands in no table", "Write it below [sender.NAME] or [account.NAME]")
    } else {
        let nearest = nearest_of(entry.name, ["sender", "account"].into_iter());
        let mend = nearest.map_or(tables.to_owned(), |nearest| format!("Did you mean {nearest}?"));
        unfit("it is not known", mend)
    };
    vars.fault_at(entry.place.clone(), shown, unfit);
}

/// The accounts that a sender may name: those of the file, and that of the environment.
fn known_accounts(accounts: &[Section<'_>], vars: &Vars<'_>) -> Vec<String> {
    let mut known: Vec<String> = accounts.iter().map(|section| section.name.clone()).collect();
    // Only the worker can tell. Where it has no account at all, that is the fault.
    let is_away =
        vars.program == Program::Worker && !known.is_empty() && !vars.is_set(&ANTHROPIC_API_KEY.facts);
    if !is_away && !known.iter().any(|name| name == ANTHROPIC) {
        known.insert(0, ANTHROPIC.to_owned());
    }
    known
}
