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
        write!(f, "{} cannot start with this configuration:", self.program)?;
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        for warning in &self.warnings {
            write!(f, "\n  (warning) {warning}")?;
        }
        Ok(())
    }
}

/// Why one variable cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name of the variable, as it is or should be in the environment.
    pub variable: String,
    /// What is wrong, without the value.
    pub problem: String,
    /// How to fix it.
    pub mend: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}.", self.variable, self.problem, self.mend)
    }
}

/// A likely mistake in one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The name of the variable, as it is in the environment.
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
              ANTHROPIC_API_KEY: it is not set. Set it (or ANTHROPIC_API_KEY_FILE): the key that the worker calls the Claude API with.
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
