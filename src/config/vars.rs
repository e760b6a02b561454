//! Reads the variables of a program: finds each, parses it as declared, and collects its faults and warnings.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use secrecy::zeroize::Zeroizing;

use super::quotes::unquoted;
use super::secret_file::secret_of_file;
use super::spelling;
use super::table::VARIABLES;
use super::variable::{Need, Unfit, Var, Variable};
use super::{BYTE_ORDER_MARK, Fault, Faults, Loaded, Origin, Place, Program, Setting, Warning};

#[cfg(test)]
mod tests;

/// Returns the text of the file that a `_FILE` variable names.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// A value that was found and is not checked yet.
type Found = (Zeroizing<String>, Origin);

/// Makes a struct of fields that may each have failed. All fields are read before the first failure counts, so that all
/// faults are reported at once.
macro_rules! all {
    ($($Type:ident)::+ { $($field:ident $(: $read:expr)?),+ $(, ..$rest:expr)? $(,)? }) => {{
        $($(let $field = $read;)?)+
        (|| Some($($Type)::+ { $($field: $field?,)+ $(..$rest)? }))()
    }};
}
pub(super) use all;

pub(super) struct Vars<'a> {
    pub(super) program: Program,
    variables: BTreeMap<String, Zeroizing<String>>,
    pub(super) read_file: ReadFile<'a>,
    faults: Vec<Fault>,
    warnings: Vec<Warning>,
    settings: Vec<Setting>,
    /// Variables that the program needs, and this time not, since the file has what they are for.
    excused: Vec<&'static str>,
    /// What is shown below the variables.
    shown: Vec<String>,
}

impl<'a> Vars<'a> {
    pub(super) fn new(
        program: Program,
        variables: impl IntoIterator<Item = (String, String)>,
        read_file: ReadFile<'a>,
    ) -> Vars<'a> {
        let variables: BTreeMap<_, _> = variables
            .into_iter()
            // Compose files pass on an unset variable as an empty value, so empty means absent.
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(name, value)| (name, Zeroizing::new(value)))
            .collect();
        let warnings = spelling::unknown(&variables);
        Vars {
            program,
            variables,
            read_file,
            faults: Vec::new(),
            warnings,
            settings: Vec::new(),
            excused: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// Returns `config`, or the faults if any was reported. `config` may be `None` only if a fault was reported.
    pub(super) fn finish<C>(mut self, config: Option<C>) -> Result<Loaded<C>, Faults> {
        match config {
            Some(config) if self.faults.is_empty() => {
                self.settings.sort_by_key(|s| VARIABLES.iter().position(|v| v.name == s.name));
                Ok(Loaded { config, warnings: self.warnings, settings: self.settings, parties: self.shown })
            }
            _ => {
                // The variables in the order of their table, then the file in the order of its lines.
                self.faults.sort_by_key(|f| match &f.place {
                    None => {
                        (0, VARIABLES.iter().position(|v| f.variable.starts_with(v.name)).unwrap_or(0), 0)
                    }
                    Some(place) => (1, place.line, place.column.unwrap_or(0)),
                });
                Err(Faults { program: self.program, faults: self.faults, warnings: self.warnings })
            }
        }
    }

    pub(super) fn fault(&mut self, name: &str, problem: impl Into<String>, mend: impl Into<String>) {
        self.note(name, None, (problem.into(), mend.into()));
    }

    /// A fault of a key of the configuration file.
    pub(super) fn fault_at(&mut self, place: Place, key: &str, unfit: Unfit) {
        self.note(key, Some(place), unfit);
    }

    fn note(&mut self, variable: &str, place: Option<Place>, (problem, mend): Unfit) {
        self.faults.push(Fault { variable: variable.to_owned(), place, problem, mend });
    }

    /// A line about a sender or an account, for those who ask what is in force.
    pub(super) fn show(&mut self, line: String) {
        self.shown.push(line);
    }

    /// The program does without a variable that it needs otherwise.
    pub(super) fn excuse(&mut self, facts: &Variable) {
        self.excused.push(facts.name);
    }

    fn need(&self, facts: &Variable) -> Option<Need> {
        match facts.need(self.program) {
            Some(Need::Required) if self.excused.contains(&facts.name) => Some(Need::Optional),
            need => need,
        }
    }

    /// Is a secret of the table given, here or in a file? To be asked before it is read.
    pub(super) fn is_set(&self, facts: &Variable) -> bool {
        let names = [facts.name.to_owned(), format!("{}_FILE", facts.name)];
        facts.need(self.program).is_some() && names.iter().any(|name| self.variables.contains_key(name))
    }

    /// The value of a variable that is not of the table, since the configuration file names it; so it is no misspelt one.
    pub(super) fn named(&mut self, name: &str) -> Option<Zeroizing<String>> {
        self.warnings.retain(|warning| warning.variable != name);
        self.variables.get(name).cloned()
    }

    pub(super) fn warn(&mut self, name: &str, message: impl Into<String>) {
        self.warnings.push(Warning { variable: name.to_owned(), message: message.into() });
    }

    /// The value of a variable. `None`: a fault was reported; an absent variable is a fault too.
    pub(super) fn get<T>(&mut self, variable: &Var<T>) -> Option<T> {
        let value = self.find(variable)?;
        if value.is_none() {
            self.not_set(&variable.facts);
        }
        value
    }

    /// The entries of a variable; an empty list if it is absent. `None`: a fault was reported.
    pub(super) fn list<T>(&mut self, variable: &Var<Vec<T>>) -> Option<Vec<T>> {
        self.find(variable).map(Option::unwrap_or_default)
    }

    /// The value of a variable. `Some(None)`: it is absent and not required. `None`: a fault was reported.
    pub(super) fn find<T>(&mut self, variable: &Var<T>) -> Option<Option<T>> {
        let facts = &variable.facts;
        let name = facts.name;
        let Some((value, origin)) = self.found(facts)? else {
            self.settings.push(Setting { name, shown: "-".to_owned(), origin: Origin::Unset });
            return Some(None);
        };
        match unquoted(value.trim()).and_then(|value| variable.parse(value)) {
            Ok(parsed) => {
                let shown = if facts.secret { "[secret]" } else { value.trim() };
                self.settings.push(Setting { name, shown: shown.to_owned(), origin });
                for doubt in variable.doubts(&parsed) {
                    self.warn(name, doubt);
                }
                Some(Some(parsed))
            }
            Err((problem, mend)) => {
                let or_leave_out = match self.need(facts) {
                    Some(Need::Default(default)) => format!(", or leave it out for {default}"),
                    Some(Need::Optional) => ", or leave it out".to_owned(),
                    Some(Need::Required) | None => String::new(),
                };
                self.fault(name, problem, mend + &or_leave_out);
                None
            }
        }
    }

    /// The value of a variable: its own, its file's, or its default.
    fn found(&mut self, facts: &Variable) -> Option<Option<Found>> {
        let name = facts.name;
        let direct = self.variables.remove(name);
        let file_name = format!("{name}_FILE");
        let file = if facts.secret { self.variables.remove(&file_name) } else { None };

        match (direct, file) {
            (Some(_), Some(_)) => {
                let problem = format!("it is set, and {file_name} is set as well");
                self.fault(name, problem, format!("Keep {name} or {file_name}, and unset the other"));
                None
            }
            (Some(value), None) => Some(Some((self.without_mark(name, value), Origin::Environment))),
            (None, Some(path)) => {
                let text = self.file(&file_name, &path)?;
                Some(Some((self.without_mark(&file_name, text), Origin::File)))
            }
            (None, None) => match self.need(facts) {
                Some(Need::Default(value)) => Some(Some((Zeroizing::new(value.to_owned()), Origin::Default))),
                Some(Need::Optional) | None => Some(None),
                Some(Need::Required) => {
                    self.not_set(facts);
                    None
                }
            },
        }
    }

    fn not_set(&mut self, facts: &Variable) {
        let or_file = if facts.secret { format!(" (or {}_FILE)", facts.name) } else { String::new() };
        self.fault(facts.name, "it is not set", format!("Set it{or_file}: {}", facts.meaning));
    }

    fn file(&mut self, file_name: &str, path: &str) -> Option<Zeroizing<String>> {
        match secret_of_file(self.read_file, Path::new(path)) {
            Ok(text) => Some(text),
            Err((problem, mend)) => {
                self.fault(file_name, problem, mend);
                None
            }
        }
    }

    /// A value without the byte order mark that some editors put invisibly before it.
    pub(super) fn without_mark(&mut self, name: &str, value: Zeroizing<String>) -> Zeroizing<String> {
        match value.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => {
                let rest = Zeroizing::new(rest.to_owned());
                self.warn(name, "a byte order mark before it is ignored: save the file as UTF-8 without one");
                rest
            }
            None => value,
        }
    }
}
