//! `restante config`: the configuration that the services would start with, and its faults.

use std::path::Path;
use std::{fs, io};

use restante::internals::config::{Faults, Ingest, Loaded, Program, Worker};

/// Reads the file that a `_FILE` variable names.
pub(super) fn read_file(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
}

/// A program that runs as a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Service {
    /// restante-ingest
    Ingest,
    /// restante-worker
    Worker,
}

/// Describes, without secrets, the configuration that these variables give a service. Returns that and whether it could start.
pub(super) fn describe(service: Service, variables: &[(String, String)]) -> (String, bool) {
    let variables = variables.iter().cloned();
    match service {
        Service::Ingest => said(Program::Ingest, Ingest::from_vars(variables, &read_file)),
        Service::Worker => said(Program::Worker, Worker::from_vars(variables, &read_file)),
    }
}

fn said<C>(program: Program, read: Result<Loaded<C>, Faults>) -> (String, bool) {
    match read {
        Ok(loaded) => {
            let warnings: String = loaded.warnings.iter().map(|w| format!("(warning) {w}\n")).collect();
            (format!("{program} starts with this configuration:\n{}{warnings}", loaded.describe()), true)
        }
        Err(faults) => (format!("{faults}\n"), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_in_force_is_shown_without_the_secrets() {
        let (text, is_sound) = describe(
            Service::Ingest,
            &variables(&[
                ("DATABASE_URL", "postgres://u:hush@db/r"),
                ("ANTHROPIC_WEBHOOK_SECRET", "hushhush"),
            ]),
        );

        assert!(is_sound, "{text}");
        assert!(text.contains("0.0.0.0:8080") && !text.contains("hush"), "{text}");
    }

    #[test]
    fn every_fault_is_listed() {
        let (text, is_sound) = describe(Service::Worker, &variables(&[("RESTANTE_CONCURENCY", "3")]));

        assert!(!is_sound);
        for said in
            ["DATABASE_URL: it is not set", "ANTHROPIC_API_KEY: it is not set", "RESTANTE_CONCURRENCY?"]
        {
            assert!(text.contains(said), "{said}: {text}");
        }
    }
}
