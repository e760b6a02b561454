//! What is wrong with a configuration: the faults that keep a program from starting, and the warnings that do not.
//!
//! None of them repeats a value, as `mod.rs` requires: an operator may have put a key into the wrong variable.

use std::fmt;

use super::Program;

/// Why a program cannot start: every fault of its configuration.
///
/// Its `Display` has one line per fault and per warning, because a variable is often missing for a misspelt name.
#[derive(Debug, thiserror::Error)]
pub struct Faults {
    /// The program that cannot start.
    pub program: Program,
    /// At least one.
    pub faults: Vec<Fault>,
    /// As [`Loaded::warnings`](super::Loaded::warnings).
    pub warnings: Vec<Warning>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot start with this configuration:{}", self.program, self.list())
    }
}

impl Faults {
    /// Each fault and each warning, on a line of its own that begins anew.
    pub fn list(&self) -> String {
        let faults = self.faults.iter().map(|fault| format!("\n  {fault}"));
        faults.chain(self.warnings.iter().map(|warning| format!("\n  (warning) {warning}"))).collect()
    }
}

/// Why one variable, or one key of the configuration file, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name of the variable, as it is or should be in the environment; or the key of the file, as in
    /// `sender.openai.scheme`.
    pub variable: String,
    /// Where in the configuration file it is.
    pub place: Option<Place>,
    /// What is wrong, without the value.
    pub problem: String,
    /// How to fix it.
    pub mend: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.mend.ends_with('?') { "" } else { "." };
        write!(f, "{}: {}. {}{end}", self.subject(), self.problem, self.mend)
    }
}

impl Fault {
    /// What the fault is about: the variable, or the key of the file with its place.
    pub fn subject(&self) -> String {
        match &self.place {
            Some(place) => place.of(&self.variable),
            None => self.variable.clone(),
        }
    }
}

/// A place in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as the variable names it. It has been read, so this is a path and nothing else.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters; only where the line alone would not show it.
    pub column: Option<usize>,
}

impl Place {
    /// A key of the file with its place; an empty one stands for the file itself.
    pub(super) fn of(&self, key: &str) -> String {
        if key.is_empty() { self.to_string() } else { format!("{self}: {key}") }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        self.column.map_or(Ok(()), |column| write!(f, ":{column}"))
    }
}

/// A likely mistake in one variable, or in one key of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The name of the variable, as it is in the environment; or the key of the file with its place.
    pub variable: String,
    /// What looks wrong, and how to fix it.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{no_files, vars};
    use super::super::{Ingest, VARIABLES, Worker};

    #[test]
    fn all_faults_are_reported_at_once_and_each_says_how_to_mend_it() {
        let faults = Worker::from_vars(
            vars(&[
                ("RESTANTE_CONCURRENCY", "many"),
                ("RESTANTE_LEASE_SECONDS", "0"),
                ("RESTANTE_LOG", "xml"),
                ("RESTANTE_CONCURENCY", "3"),
            ]),
            &no_files,
        )
        .unwrap_err();

        expect_test::expect![[r#"
            restante-worker cannot start with this configuration:
              DATABASE_URL: it is not set. Set it (or DATABASE_URL_FILE): where the Postgres database is, as postgres://user:password@host:5432/database.
              ANTHROPIC_API_KEY: it is not set. Set it (or ANTHROPIC_API_KEY_FILE): the key that the worker calls the Claude API with; needed unless the file of RESTANTE_CONFIG has an account.
              RESTANTE_CONCURRENCY: it is not a whole number. Give a whole number from 1 to 10000, or leave it out for 64.
              RESTANTE_LEASE_SECONDS: it is out of bounds. Give a whole number from 1 to 3600, or leave it out for 30.
              RESTANTE_LOG: it is neither json nor text. Say json or text, or leave it out for json.
              (warning) RESTANTE_CONCURENCY: no program reads it; did you mean RESTANTE_CONCURRENCY?"#]]
        .assert_eq(&faults.to_string());
    }

    #[test]
    fn no_fault_and_no_warning_repeats_a_value() {
        const CANARY: &str = "canary-c0ffee";
        let value = format!("https://{CANARY}:{CANARY}@ {CANARY}?{CANARY}");
        let mut environment: Vec<_> = VARIABLES.iter().map(|v| (v.name.to_owned(), value.clone())).collect();
        environment.push(("RESTANTE_UNHEARD_OF".to_owned(), value.clone()));
        let files: Vec<_> = VARIABLES.iter().map(|v| (format!("{}_FILE", v.name), value.clone())).collect();

        for environment in [environment, files] {
            let said = [
                Ingest::from_vars(environment.clone(), &no_files).map(drop).unwrap_err(),
                Worker::from_vars(environment.clone(), &no_files).map(drop).unwrap_err(),
            ]
            .map(|faults| format!("{faults} {faults:?}"));
            for said in said {
                assert!(!said.contains("c0ffee"), "{said}");
            }
        }
    }
}
