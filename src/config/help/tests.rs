//! What `--help`, `.env.example` and docs/install.md say of the variables, made from their declarations.

use super::super::table::{DATABASE_URL, RESTANTE_LISTEN, RUST_LOG};
use super::*;

/// What `.env.example` must contain: the table as lines to fill in.
fn env_example() -> String {
    let mut text = String::from(
        "# Every variable that Restante reads. Copy this file to .env and fill in what has no default. It is for both services\n\
         # and the hand tool: each reads only its own variables, and an empty value counts as absent. Start a service with a\n\
         # login of its own with a DATABASE_URL of its own: DATABASE_URL=postgres://... restante-ingest\n\
         # A secret may come from a file instead: add _FILE to its name and give the path.\n\
         # A shell (set -a; . ./.env; set +a) and Docker Compose read a value with blanks or any of # $ ` & ; < > only in\n\
         # 'single quotes', which may span lines; `docker run --env-file` takes quotes as a part of the value.\n",
    );
    for variable in VARIABLES {
        text.push('\n');
        for line in wrapped(variable.meaning, 100) {
            writeln!(text, "# {line}").unwrap();
        }
        writeln!(text, "# Read by {}; since {}.", readers(variable), variable.since).unwrap();
        let services = variable.read_by.iter().filter(|(program, _)| *program != Program::Tool);
        let mut of_services: Vec<_> = services.map(|(_, need)| *need).collect();
        of_services.dedup();
        if of_services.len() > 1 {
            // Both services may be started from this file, and would then get the same value.
            text += "# Each has a default of its own; set it in the environment of one of them only.\n";
            writeln!(text, "# {}=", variable.name).unwrap();
            continue;
        }
        match variable.read_by[0].1 {
            Required => writeln!(text, "{}=", variable.name).unwrap(),
            Optional => writeln!(text, "# {}=", variable.name).unwrap(),
            Default(value) => writeln!(text, "# {}={value}", variable.name).unwrap(),
        }
    }
    text.push_str(OF_COMPOSE);
    text
}

/// The programs that read a variable, each with its default or whether it requires the variable.
fn readers(variable: &Variable) -> String {
    let readers = variable.read_by.iter().map(|(program, need)| match need {
        Required => format!("{program} (required)"),
        Optional => format!("{program}"),
        Default(value) => format!("{program} ({value})"),
    });
    readers.collect::<Vec<_>>().join(", ")
}

/// The variables that only `docker-compose.yml` takes from the same file.
const OF_COMPOSE: &str = r#"
# For docker-compose.yml only; no program reads these. Its secrets are files: deploy/make-secrets

# the directory of these files
# SECRETS_DIR=./secrets

# the ports of this machine on which the two ingests take webhooks
# INGEST_PORT=8080
# INGEST_TWO_PORT=8081

# the name of this host, such as hooks.example.com, for the proxy of --profile tls
# SITE_ADDRESS=
"#;

#[test]
fn the_example_file_lists_every_variable_with_its_default() {
    expect_test::expect_file!["../../../.env.example"].assert_eq(&env_example());
}

#[test]
fn the_page_of_the_installation_says_of_a_variable_what_its_declaration_says() {
    let page = include_str!("../../../docs/install.md");
    let is_variable = |row: &&str| {
        row.strip_prefix("| `").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
    };
    let rows: Vec<_> = page.lines().filter(is_variable).collect();
    let made = VARIABLES.iter().map(|v| format!("| `{}` | {} | {} |", v.name, readers(v), v.meaning));
    let chosen = made.filter(|made| rows.iter().any(|row| row.split('|').nth(1) == made.split('|').nth(1)));

    let chosen: Vec<_> = chosen.collect();

    assert!(chosen.len() > 5, "{chosen:?}");
    assert_eq!(rows, chosen);
}

#[test]
fn help_lists_what_the_program_reads_and_nothing_else() {
    expect_test::expect![[r#"
        Environment:
          DATABASE_URL (or DATABASE_URL_FILE)  [required]
              where the Postgres database is, as postgres://user:password@host:5432/database
          RESTANTE_DATABASE_CONNECTIONS  [default 16, 1 to 1000]
              how many connections to the database one process opens at most
          RESTANTE_CONFIG  [optional]
              a TOML file with further senders and accounts, as restante.example.toml shows; it holds no
              secrets, only where they are, and is read again when it or one of those files changes
          ANTHROPIC_API_KEY (or ANTHROPIC_API_KEY_FILE)  [required]
              the key that the worker calls the Claude API with; needed unless the file of RESTANTE_CONFIG
              has an account
          ANTHROPIC_ADMIN_API_KEY (or ANTHROPIC_ADMIN_API_KEY_FILE)  [optional]
              the key for what the Claude API shows to Admin keys only
          ANTHROPIC_BASE_URL  [default https://api.anthropic.com]
              where the Claude API is; the key goes nowhere else
          ANTHROPIC_VERSION  [default 2023-06-01]
              the anthropic-version that every call names; from 2026-10-21 on, sampling parameters in a
              request are refused by the API
          ANTHROPIC_BETA  [optional]
              anthropic-beta values to send in addition to those that a call needs, separated by commas
          RESTANTE_API_AUTH  [default x-api-key]
              the header that carries the key: x-api-key, or bearer for an Authorization header
          RESTANTE_OPS_LISTEN  [default 127.0.0.1:9092]
              the address and port that answer /livez, /readyz and /metrics, and of a worker show the ops
              page; not for the internet
          RESTANTE_STREAM_TOKEN (or RESTANTE_STREAM_TOKEN_FILE)  [optional]
              the bearer token of whoever reads messages while they are written, at /messages/ID/stream
              beside /metrics; without one nobody can
          RESTANTE_OPS_USERS (or RESTANTE_OPS_USERS_FILE)  [optional]
              who may look at the ops page of the worker, a line for each, as `htpasswd -nBC 10 NAME`
              prints it; without it only this machine may, at an address of loopback
          RESTANTE_OPS_DATABASE_URL (or RESTANTE_OPS_DATABASE_URL_FILE)  [optional]
              the database as the ops page reads it, with a login that has the role restante_page and no
              other; without it the page takes DATABASE_URL, whose login then needs that role too
          RESTANTE_OPS_REPLAY  [default false]
              true lets dead letters be replayed on the ops page, by a login that has the role
              restante_page_replay too
          RESTANTE_CONCURRENCY  [default 64, 1 to 10000]
              how many handlers run at once in one process
          RESTANTE_LEASE_SECONDS  [default 30, 1 to 3600]
              how many seconds after a worker has vanished another one takes over its events; renewed
              while a handler runs
          RESTANTE_BATCH_POLL_SECONDS  [default 60, 1 to 86400]
              how many seconds pass between two requests for a batch that has not ended, before jitter
          RESTANTE_RECONCILE_SECONDS  [default 300, 0 to 86400]
              how many seconds pass between two looks at the API for what no webhook told; 0 turns it off
          RESTANTE_BATCH_DELETE_AFTER  [default 0, 0 to 2505600]
              how many seconds after all results of a batch are stored the worker deletes it at the API; 0
              leaves that to the API
          RESTANTE_ALLOW_PRIVATE_ENDPOINTS  [default false]
              true lets notifications go into a private network and to this machine, by http too and to
              any port; otherwise they go by https to public addresses only
          RESTANTE_DRAIN_SECONDS  [default 20, 0 to 3600]
              how many seconds after SIGTERM a program waits for work under way; keep it below the grace
              period of the supervisor that sends SIGTERM
          RESTANTE_LOG  [default json]
              how log lines are written: json or text
          RUST_LOG  [default info]
              which log lines are written, as in info,restante=debug; libraries that see keys or bodies
              stay at info whatever it says
          OTEL_EXPORTER_OTLP_ENDPOINT  [optional]
              the OpenTelemetry collector that gets the traces, by http/protobuf; without it there are
              none. The further OTEL_... variables of traces count, too, such as OTEL_TRACES_SAMPLER
    "#]]
    .assert_eq(&help_for(Program::Worker));
}

#[test]
fn help_of_a_command_lists_its_own_variables_only() {
    expect_test::expect![[r#"
        Environment:
          DATABASE_URL (or DATABASE_URL_FILE)  [optional]
              where the Postgres database is, as postgres://user:password@host:5432/database
    "#]]
    .assert_eq(&help_for_command(Program::Tool, &[&DATABASE_URL.facts, &RESTANTE_LISTEN.facts], &[]));
}

#[test]
fn what_a_command_does_not_work_without_is_called_required() {
    let help =
        help_for_command(Program::Tool, &[&DATABASE_URL.facts, &RUST_LOG.facts], &[&DATABASE_URL.facts]);

    assert!(help.contains("DATABASE_URL (or DATABASE_URL_FILE)  [required]"), "{help}");
    assert!(help.contains("RUST_LOG  [default "), "{help}");
}

#[test]
fn help_begins_with_a_sentence_of_what_the_program_is_and_how_it_is_started() {
    for program in [Program::Ingest, Program::Worker] {
        let about = about(program);
        assert!(about.starts_with(&format!("{program} ")), "{about}");
        assert!(about.contains(&format!("\nUsage: {program} [--help | --version]\n")), "{about}");
    }
}

#[test]
fn one_file_of_variables_serves_both_services_as_the_example_stands() {
    use super::super::{Ingest, Worker};

    // As a newcomer fills it in: the two empty lines, and every other line as it stands, uncommented.
    let text = env_example().replace("# ", "");
    let variables: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| VARIABLES.iter().any(|variable| variable.name == *name))
        .map(|(name, value)| {
            let value = match name {
                "DATABASE_URL" => "postgres://me:hush@localhost/restante",
                "ANTHROPIC_WEBHOOK_SIGNING_KEY" => "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
                "ANTHROPIC_API_KEY" => "sk-ant-test",
                _ => value,
            };
            (name.to_owned(), value.to_owned())
        })
        .collect();
    assert_eq!(variables.len(), VARIABLES.len(), "{variables:?}");

    let no_files = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let ingest = Ingest::from_vars(variables.clone(), &no_files).unwrap().config;
    let worker = Worker::from_vars(variables, &no_files).unwrap().config;
    assert_ne!(ingest.ops_listen, worker.ops_listen);
    assert_eq!((ingest.database_connections, worker.database_connections), (8, 16));
}
