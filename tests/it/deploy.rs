//! What `deploy` has for Kubernetes, systemd and nginx fits the programs.

mod kubernetes;
mod systemd;
mod workflows;

use std::collections::BTreeMap;

use restante::internals::config::{Need, Program, VARIABLES};

use crate::support::compose_file::project_file;

/// The program of a command.
fn program_of(command: &str) -> Program {
    match command.rsplit('/').next().unwrap() {
        "restante-ingest" => Program::Ingest,
        "restante-worker" => Program::Worker,
        "restante" => Program::Tool,
        other => panic!("{other} is no program of ours"),
    }
}

/// Fails if the program reads one of these variables not, or lacks one that it needs. A secret may be in a file.
fn assert_fits(place: &str, program: Program, variables: &BTreeMap<String, String>) {
    for name in variables.keys() {
        let is_read = VARIABLES
            .iter()
            .filter(|v| v.need(program).is_some())
            .any(|v| v.name == name || (v.secret && name.strip_suffix("_FILE") == Some(v.name)));
        assert!(is_read, "{place}: {name} is not read");
        assert!(
            !VARIABLES.iter().any(|v| v.secret && v.name == name),
            "{place}: {name} is a secret in the open"
        );
    }
    for variable in VARIABLES.iter().filter(|v| v.need(program) == Some(Need::Required)) {
        let file = format!("{}_FILE", variable.name);
        assert!(variables.contains_key(&file), "{place}: {} is missing", variable.name);
    }
    if program == Program::Ingest {
        assert!(variables.contains_key("ANTHROPIC_WEBHOOK_SIGNING_KEY_FILE"), "{place}");
        let (linger, drain) =
            (seconds("RESTANTE_LINGER_SECONDS", program, variables), drain_seconds(program, variables));
        assert!(linger * 2 <= drain, "{place}: ingest would not start");
    }
}

/// How many seconds a program takes to end at most.
fn drain_seconds(program: Program, variables: &BTreeMap<String, String>) -> u64 {
    seconds("RESTANTE_DRAIN_SECONDS", program, variables)
}

fn seconds(name: &str, program: Program, variables: &BTreeMap<String, String>) -> u64 {
    let variable = VARIABLES.iter().find(|v| v.name == name).unwrap();
    let Some(Need::Default(default)) = variable.need(program) else { panic!("{name} has no default") };
    variables.get(name).map_or(default, String::as_str).parse().unwrap()
}

#[test]
fn nginx_lets_go_of_a_connection_before_ingest_does_and_knows_the_ingests_of_systemd() {
    let nginx = project_file("deploy/nginx.conf");
    let setting = |name: &str| {
        nginx
            .lines()
            .find_map(|line| line.trim().strip_prefix(name))
            .unwrap()
            .trim()
            .trim_end_matches(';')
            .to_owned()
    };
    let kept: u64 = setting("keepalive_timeout ").strip_suffix('s').unwrap().parse().unwrap();
    assert!(kept < seconds("RESTANTE_IDLE_SECONDS", Program::Ingest, &BTreeMap::new()));
    assert_eq!(setting("client_max_body_size "), "1m", "the limit of ingest");
    for number in 1..=2 {
        let listen = systemd::variables("deploy/systemd/restante-ingest@.service")["RESTANTE_LISTEN"]
            .replace("%i", &number.to_string());
        assert!(nginx.contains(&format!("server {listen} ")), "{listen}");
    }
    assert!(!nginx.contains("return 30"), "never a redirect");
}
