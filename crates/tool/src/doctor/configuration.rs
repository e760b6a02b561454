//! The doctor examines the variables: every fault that would keep a service from starting, and every likely slip.
//!
//! A faulty variable is wrong, whichever program reads it. A missing variable is wrong if the service that needs it is meant to
//! start here.

use super::finding::{Finding, Verdict};
use super::scope::Scope;
use crate::configuration::read_file;
use restante::api;
use restante::internals::config::{
    Fault, Faults, Ingest, Loaded, Program, RESTANTE_OPS_LISTEN, Tool, Warning, Worker,
};

const SUBJECT: &str = "configuration";

/// Reads the variables as each program does.
pub(super) fn examine(variables: &[(String, String)], scope: Scope) -> Vec<Finding> {
    let all = || variables.iter().cloned();
    let ingest = Ingest::from_vars(all(), &read_file);
    let worker = Worker::from_vars(all(), &read_file);
    let shared = shared_port(&ingest, &worker).filter(|_| scope.ingest && scope.worker);
    let read = [
        (Program::Tool, outcome(Tool::from_vars(all(), &read_file))),
        (Program::Ingest, outcome(ingest)),
        (Program::Worker, outcome(worker)),
    ];
    let mut findings: Vec<Finding> = shared.into_iter().collect();
    let mut add = |finding: Finding| {
        if !findings.iter().any(|other| other.says == finding.says) {
            findings.push(finding);
        }
    };
    for (program, (faults, warnings)) in read {
        let is_meant = match program {
            Program::Ingest => scope.ingest,
            Program::Worker => scope.worker,
            Program::Tool => true,
        };
        faults.into_iter().filter_map(|fault| judge(program, is_meant, variables, fault)).for_each(&mut add);
        for warning in warnings {
            let why = "a variable that is not read, or not as it is meant, has no effect";
            add(Finding::warn(SUBJECT, warning.to_string(), why, "correct it, or unset it"));
        }
    }
    if findings.iter().all(|finding| finding.verdict != Verdict::Wrong) {
        if let Some(keys) = fingerprints(variables) {
            findings.insert(0, keys);
        }
        findings.insert(0, Finding::fine(SUBJECT, "every variable that is set can be read"));
    }
    findings
}

/// `None` if the fault keeps nothing from starting that is meant to start here.
fn judge(program: Program, is_meant: bool, variables: &[(String, String)], fault: Fault) -> Option<Finding> {
    let is_set = |name: &str| variables.iter().any(|(set, value)| set == name && !value.trim().is_empty());
    let why = "no program starts with a variable that it cannot read";
    if fault.place.is_some() || is_set(&fault.variable) {
        let says = format!("{}: {}", fault.subject(), fault.problem);
        return Some(Finding::wrong(SUBJECT, says, why, fault.mend));
    }
    // The finding about the database says so already.
    if fault.variable == "DATABASE_URL" || !is_meant {
        return None;
    }
    let says = format!("{program} would not start here: {}: {}", fault.variable, fault.problem);
    let why = format!("{program} needs it, and is meant to run with this environment");
    Some(Finding::wrong(SUBJECT, says, why, fault.mend))
}

/// The variable of the ops listener holds for both services, if it is set.
fn shared_port(
    ingest: &Result<Loaded<Ingest>, Faults>,
    worker: &Result<Loaded<Worker>, Faults>,
) -> Option<Finding> {
    let (ingest, worker) = (&ingest.as_ref().ok()?.config, &worker.as_ref().ok()?.config);
    let (port, name) = (worker.ops_listen.port(), RESTANTE_OPS_LISTEN.facts.name);
    if port == 0 || ingest.ops_listen.port() != port {
        return None;
    }
    Some(Finding::wrong(
        SUBJECT,
        format!("{name}: both services would answer /readyz and /metrics at port {port}"),
        "the one that starts second ends, because the port is in use",
        format!(
            "unset {name}, so that ingest takes 9091 and the worker 9092, or set it for each service by itself"
        ),
    ))
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
    use super::super::finding::rendered;
    use super::super::scope::Subject;
    use super::*;

    const KEYS: [(&str, &str); 2] = [
        ("ANTHROPIC_API_KEY", "sk-key"),
        ("ANTHROPIC_WEBHOOK_SECRET", "s3cret-of-some-length-that-is-long-enough"),
    ];

    fn examined_for(subject: Subject, variables: &[(&str, &str)]) -> String {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        rendered(&examine(&variables, Scope::of(Some(subject), None, &variables)))
    }

    fn examined(variables: &[(&str, &str)]) -> String {
        examined_for(Subject::All, variables)
    }

    #[test]
    fn faults_are_wrong_one_by_one_whichever_program_reads_the_variable() {
        let faulty = [
            ("DATABASE_URL", "mysql://u:hush@h/d"),
            ("RESTANTE_CONCURRENCY", "abc"),
            ("RESTANTE_LISTEN", "8080"),
            ("RESTANTE_LEASE_SECONDS", "30s"),
        ];
        let text = examined(&[&faulty[..], &KEYS].concat());

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
        let given = [("DATABASE_URL", "postgres://u:hush@h/d"), ("RESTANTE_CONFIG", path.to_str().unwrap())];

        let text = examined(&[&given[..], &KEYS].concat());

        let fault = "restante.toml:2: sender.a.signing_key_file: it is no key of a sender";
        assert_eq!(text.matches(fault).count(), 1, "{text}");
        assert!(text.contains("to do: Did you mean signing_keys_file?"), "{text}");
        assert!(!text.contains("would not start") && !text.contains("hush"), "{text}");
    }

    #[test]
    fn a_misspelt_variable_is_a_warning_with_the_one_that_may_be_meant() {
        let text = examined(&[("RESTANTE_CONCURENCY", "3"), ("RESTANTE_BATCH_POLL_SECOND", "3")]);

        for meant in ["did you mean RESTANTE_CONCURRENCY?", "did you mean RESTANTE_BATCH_POLL_SECONDS?"] {
            assert_eq!(text.matches(meant).count(), 1, "{text}");
        }
        assert!(text.contains("warn   configuration  RESTANTE_CONCURENCY"), "{text}");
    }

    #[test]
    fn a_signing_key_that_was_copied_in_part_is_wrong() {
        let text = examined(&[("ANTHROPIC_WEBHOOK_SIGNING_KEY", "whsec_aHVzaA"), KEYS[0]]);

        assert!(text.contains("ANTHROPIC_WEBHOOK_SIGNING_KEY: key 1 is shorter than 16 bytes"), "{text}");
        assert!(text.contains("to do: Copy each key from the Console unchanged"), "{text}");
    }

    #[test]
    fn a_base_url_that_ends_in_the_version_is_wrong() {
        let text = examined(&[("ANTHROPIC_BASE_URL", "https://api.anthropic.com/v1"), KEYS[0], KEYS[1]]);

        assert!(text.contains("wrong  configuration  ANTHROPIC_BASE_URL: it ends in /v1"), "{text}");
        assert!(text.contains("to do: Remove /v1 and everything after it"), "{text}");
    }

    #[test]
    fn a_base_url_that_carries_the_key_unencrypted_is_a_warning() {
        let text = examined(&[("ANTHROPIC_BASE_URL", "http://gateway.example"), KEYS[0], KEYS[1]]);

        assert!(text.contains("warn   configuration  ANTHROPIC_BASE_URL: it is plain http"), "{text}");
    }

    #[test]
    fn one_ops_listener_for_both_services_is_wrong_and_for_one_of_them_it_is_not() {
        let given = [("DATABASE_URL", "postgres://u@h/d"), ("RESTANTE_OPS_LISTEN", "127.0.0.1:9099")];
        let given = [&given[..], &KEYS].concat();

        let text = examined(&given);
        assert!(text.contains("both services would answer /readyz and /metrics at port 9099"), "{text}");
        assert!(text.contains("to do: unset RESTANTE_OPS_LISTEN"), "{text}");
        for one in [Subject::Ingest, Subject::Worker] {
            let text = examined_for(one, &given);
            assert!(text.lines().all(|line| line.starts_with("ok ")), "{text}");
        }
    }

    #[test]
    fn what_a_service_lacks_is_wrong_where_it_is_meant_to_start_and_else_not_worth_a_word() {
        let lacking = [("DATABASE_URL", "postgres://me@h/d")];
        let ingest =
            "wrong  configuration  restante-ingest would not start here: ANTHROPIC_WEBHOOK_SIGNING_KEY";
        let worker = "wrong  configuration  restante-worker would not start here: ANTHROPIC_API_KEY";

        let text = examined(&lacking);
        assert!(text.contains(ingest) && text.contains(worker), "{text}");
        let text = examined_for(Subject::Ingest, &lacking);
        assert!(text.contains(ingest) && !text.contains("restante-worker"), "{text}");
        let text = examined_for(Subject::Worker, &lacking);
        assert!(text.contains(worker) && !text.contains("restante-ingest"), "{text}");
    }
}
