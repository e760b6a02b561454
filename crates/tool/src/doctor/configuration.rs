//! The doctor examines the variables: every fault that would keep a service from starting, and every likely slip.
//!
//! A faulty variable is wrong, whichever program reads it. A missing variable is wrong only if the service that needs it is
//! meant to start here; for another login, such as an operator's, it is a note.

use super::login::{For, Login};
use super::{Finding, Verdict};
use crate::configuration::read_file;
use restante::api;
use restante::internals::config::{Fault, Faults, Ingest, Loaded, Program, Tool, Warning, Worker};

/// Reads the variables as each program does. `login` says which services are meant to start here; if it is unknown, both are.
pub(super) fn examine(variables: &[(String, String)], login: Option<&Login>) -> Vec<Finding> {
    let all = || variables.iter().cloned();
    let read = [
        (Program::Tool, outcome(Tool::from_vars(all(), &read_file))),
        (Program::Ingest, outcome(Ingest::from_vars(all(), &read_file))),
        (Program::Worker, outcome(Worker::from_vars(all(), &read_file))),
    ];
    let is_set = |name: &str| variables.iter().any(|(set, value)| set == name && !value.trim().is_empty());
    let mut findings: Vec<Finding> = Vec::new();
    let mut add = |finding: Finding| {
        if !findings.iter().any(|other| other.says == finding.says) {
            findings.push(finding);
        }
    };
    for (program, (faults, warnings)) in read {
        let (wrong, missing): (Vec<_>, Vec<_>) =
            faults.into_iter().partition(|fault| fault.place.is_some() || is_set(&fault.variable));
        for fault in wrong {
            let says = format!("{}: {}", fault.subject(), fault.problem);
            add(Finding::wrong("configuration", says, fault.mend));
        }
        let is_meant = match program {
            Program::Ingest => login.is_none_or(|login| login.is_for(For::Ingest)),
            Program::Worker => login.is_none_or(|login| login.is_for(For::Worker)),
            Program::Tool => true,
        };
        for Fault { variable, problem, mend, .. } in missing {
            // The finding about the database says so already.
            if variable == "DATABASE_URL" {
                continue;
            }
            let says = format!("{program} would not start here: {variable}: {problem}");
            add(if is_meant {
                Finding::wrong("configuration", says, mend)
            } else {
                Finding::note("configuration", says)
            });
        }
        for warning in warnings {
            add(Finding::note("configuration", warning.to_string()));
        }
    }
    if findings.iter().all(|finding| finding.verdict == Verdict::Note) {
        if let Some(keys) = fingerprints(variables) {
            findings.insert(0, keys);
        }
        findings.insert(0, Finding::fine("configuration", "every variable that is set can be read"));
    }
    findings
}

/// The keys that the services would have here, by their fingerprints.
fn fingerprints(variables: &[(String, String)]) -> Option<Finding> {
    let all = || variables.iter().cloned();
    let senders =
        Ingest::from_vars(all(), &read_file).map(|loaded| loaded.config.senders).unwrap_or_default();
    let accounts =
        Worker::from_vars(all(), &read_file).map(|loaded| loaded.config.accounts).unwrap_or_default();
    let keys =
        restante::internals::ingest::keys(&senders).into_iter().chain(api::keys_of_accounts(&accounts));
    let keys: Vec<String> = keys.map(|key| key.to_string()).collect();
    (!keys.is_empty()).then(|| Finding::fine("keys", format!("{}: see restante.key_use", keys.join(", "))))
}

fn outcome<C>(read: Result<Loaded<C>, Faults>) -> (Vec<Fault>, Vec<Warning>) {
    match read {
        Ok(loaded) => (Vec::new(), loaded.warnings),
        Err(Faults { faults, warnings, .. }) => (faults, warnings),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rendered;
    use super::*;

    fn examined(variables: &[(&str, &str)]) -> String {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        rendered(&examine(&variables, None))
    }

    #[test]
    fn faults_are_wrong_one_by_one_whichever_program_reads_the_variable() {
        let text = examined(&[
            ("DATABASE_URL", "mysql://u:hush@h/d"),
            ("RESTANTE_CONCURRENCY", "abc"),
            ("RESTANTE_LISTEN", "8080"),
            ("RESTANTE_LEASE_SECONDS", "30s"),
            ("ANTHROPIC_API_KEY", "sk-key"),
            ("ANTHROPIC_WEBHOOK_SECRET", "s3cret-of-some-length-that-is-long-enough"),
        ]);

        for variable in
            ["DATABASE_URL: ", "RESTANTE_CONCURRENCY: ", "RESTANTE_LISTEN: ", "RESTANTE_LEASE_SECONDS: "]
        {
            assert_eq!(text.matches(&format!("wrong  configuration  {variable}")).count(), 1, "{text}");
        }
        assert!(!text.contains("hush") && !text.contains("would not start"), "{text}");
    }

    #[test]
    fn a_fault_of_the_configuration_file_is_wrong_and_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("restante.toml");
        std::fs::write(&path, "[sender.a]\nsigning_key_file = \"hush\"\n").unwrap();

        let text = examined(&[
            ("DATABASE_URL", "postgres://u:hush@h/d"),
            ("ANTHROPIC_API_KEY", "sk-key"),
            ("ANTHROPIC_WEBHOOK_SECRET", "s3cret-of-some-length-that-is-long-enough"),
            ("RESTANTE_CONFIG", path.to_str().unwrap()),
        ]);

        let fault = "restante.toml:2: sender.a.signing_key_file: it is no key of a sender";
        assert_eq!(text.matches(fault).count(), 1, "{text}");
        assert!(text.contains("to do: Did you mean signing_keys_file?"), "{text}");
        assert!(!text.contains("would not start") && !text.contains("hush"), "{text}");
    }

    #[test]
    fn a_misspelt_variable_is_noted_with_the_one_that_may_be_meant() {
        let text = examined(&[("RESTANTE_CONCURENCY", "3"), ("RESTANTE_BATCH_POLL_SECOND", "3")]);

        for meant in ["did you mean RESTANTE_CONCURRENCY?", "did you mean RESTANTE_BATCH_POLL_SECONDS?"] {
            assert_eq!(text.matches(meant).count(), 1, "{text}");
        }
    }

    #[test]
    fn what_a_service_lacks_is_wrong_where_it_is_meant_to_start_and_else_a_note() {
        let lacking = [("DATABASE_URL".to_owned(), "postgres://me@h/d".to_owned())];

        let unknown = rendered(&examine(&lacking, None));
        assert!(
            unknown.contains(
                "wrong  configuration  restante-ingest would not start here: ANTHROPIC_WEBHOOK_SIGNING_KEY"
            ),
            "{unknown}"
        );
        assert!(
            unknown.contains("wrong  configuration  restante-worker would not start here: ANTHROPIC_API_KEY"),
            "{unknown}"
        );

        let mut operator = Login::default();
        operator.has_schema = true;
        let looked_at = examine(&lacking, Some(&operator));
        assert!(
            looked_at.iter().all(|finding| finding.verdict != Verdict::Wrong),
            "{}",
            rendered(&looked_at)
        );
        assert_eq!(looked_at.len(), 3, "{}", rendered(&looked_at));
    }
}
