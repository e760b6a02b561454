//! The table of variables as text for people: the end of `--help`.
//!
//! `.env.example` is the same table as lines to fill in; a test here writes it.

use std::fmt::Write as _;

use super::Program;
use super::table::Need::{Default, Optional, Required};
use super::table::{VARIABLES, Variable};

/// What a program is and how it is started, as the beginning of its `--help`.
pub fn about(program: Program) -> &'static str {
    match program {
        Program::Ingest => {
            "\
restante-ingest receives the signed webhooks of the Claude API, and commits each event to Postgres before it answers 2xx.

Usage: restante-ingest [--help | --version]

It takes no arguments and reads these variables. `restante config ingest` shows what they come to, `restante doctor` what is
missing. The schema is made before, by `restante migrate`. SIGTERM lets what is under way come to its end.

"
        }
        Program::Worker => {
            "\
restante-worker claims the events that Postgres holds, oldest first, and runs their handlers: it fetches the objects that events
name, watches batches until they end, and stores their results.

Usage: restante-worker [--help | --version]

It takes no arguments and reads these variables. `restante config worker` shows what they come to, `restante doctor` what is
missing. The schema is made before, by `restante migrate`. SIGTERM lets what is under way come to its end.

"
        }
        // Its command line says it.
        Program::Tool => "",
    }
}

/// The variables that a program reads, as the end of its `--help`.
pub fn help_for(program: Program) -> String {
    help_of(program, VARIABLES.iter(), &[])
}

/// The variables that one command of a program reads, as the end of the command's `--help`. It does not work without those of
/// `required`.
pub fn help_for_command(program: Program, names: &[&str], required: &[&str]) -> String {
    help_of(program, VARIABLES.iter().filter(|variable| names.contains(&variable.name)), required)
}

fn help_of(
    program: Program,
    variables: impl Iterator<Item = &'static Variable>,
    required: &[&str],
) -> String {
    let mut help = String::from("Environment:\n");
    for variable in variables {
        let Some(need) = variable.need(program) else { continue };
        let file = if variable.secret { format!(" (or {}_FILE)", variable.name) } else { String::new() };
        let need = match need {
            _ if required.contains(&variable.name) => "required".to_owned(),
            Required => "required".to_owned(),
            Optional => "optional".to_owned(),
            Default(value) => format!("default {value}"),
        };
        let bounds = variable.bounds.as_ref().map(|b| format!(", {} to {}", b.start(), b.end()));
        // Writing to a string cannot fail.
        let _ = writeln!(help, "  {}{file}  [{need}{}]", variable.name, bounds.unwrap_or_default());
        for line in wrapped(variable.meaning, 92) {
            let _ = writeln!(help, "      {line}");
        }
    }
    help
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `.env.example` has to say: the table, once more, as lines to fill in.
    fn env_example() -> String {
        let mut text = String::from(
            "# Every variable that Restante reads. Copy this file to .env and fill in what has no default. It serves both services\n\
             # and the hand tool: each reads what is its own, and an empty value counts as absent. A service with a login of its\n\
             # own is started with a DATABASE_URL of its own: DATABASE_URL=postgres://... restante-ingest\n\
             # A secret may come from a file instead: add _FILE to its name and give the path.\n\
             # A shell (set -a; . ./.env; set +a) and Docker Compose read a value with blanks or any of # $ ` & ; < > only in\n\
             # 'single quotes', which may span lines; `docker run --env-file` takes quotes for a part of the value.\n",
        );
        for variable in VARIABLES {
            text.push('\n');
            for line in wrapped(variable.meaning, 100) {
                writeln!(text, "# {line}").unwrap();
            }
            let readers: Vec<_> = variable
                .read_by
                .iter()
                .map(|(program, need)| match need {
                    Required => format!("{program} (required)"),
                    Optional => format!("{program}"),
                    Default(value) => format!("{program} ({value})"),
                })
                .collect();
            writeln!(text, "# Read by {}.", readers.join(", ")).unwrap();
            let services = variable.read_by.iter().filter(|(program, _)| *program != Program::Tool);
            let mut of_services: Vec<_> = services.map(|(_, need)| *need).collect();
            of_services.dedup();
            if of_services.len() > 1 {
                // Both services may be started from this file, and one value would then hold for both.
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

    /// What `docker-compose.yml` takes from the same file, and no program reads.
    const OF_COMPOSE: &str = r#"
# For docker-compose.yml alone, and read by no program.

# the passwords of the logins to its Postgres. They become parts of addresses, so letters and digits only:
# for login in ADMIN OWNER INGEST WORKER OPERATOR; do echo "DATABASE_PASSWORD_$login=$(openssl rand -hex 24)"; done >> .env
# DATABASE_PASSWORD_ADMIN=
# DATABASE_PASSWORD_OWNER=
# DATABASE_PASSWORD_INGEST=
# DATABASE_PASSWORD_WORKER=
# DATABASE_PASSWORD_OPERATOR=

# the port of this machine on which ingest takes webhooks
# INGEST_PORT=8080
"#;

    #[test]
    fn the_example_file_lists_every_variable_with_its_default() {
        expect_test::expect_file!["../../.env.example"].assert_eq(&env_example());
    }

    #[test]
    fn help_lists_what_the_program_reads_and_nothing_else() {
        expect_test::expect![[r#"
            Environment:
              DATABASE_URL (or DATABASE_URL_FILE)  [required]
                  where the Postgres database is, as postgres://user:password@host:5432/database
              RESTANTE_DATABASE_CONNECTIONS  [default 16, 1 to 1000]
                  how many connections to the database one process opens at most
              ANTHROPIC_API_KEY (or ANTHROPIC_API_KEY_FILE)  [required]
                  the key that the worker calls the Claude API with
              ANTHROPIC_BASE_URL  [default https://api.anthropic.com]
                  where the Claude API is; the key goes nowhere else
              ANTHROPIC_VERSION  [default 2023-06-01]
                  the anthropic-version that every call names; from 2026-10-21 on, sampling parameters in a
                  request are refused by the API
              ANTHROPIC_BETA  [optional]
                  anthropic-beta values to send beside those that a call needs anyway, separated by comma
              RESTANTE_API_AUTH  [default x-api-key]
                  the header that carries the key: x-api-key, or bearer for an Authorization header
              RESTANTE_OPS_LISTEN  [default 127.0.0.1:9092]
                  the address and port that answer /livez, /readyz and /metrics; not for the internet
              RESTANTE_CONCURRENCY  [default 64, 1 to 10000]
                  how many handlers run at once in one process
              RESTANTE_LEASE_SECONDS  [default 30, 1 to 3600]
                  how many seconds an attempt outlives a worker that has vanished; renewed while the handler
                  lives
              RESTANTE_BATCH_POLL_SECONDS  [default 60, 1 to 86400]
                  how many seconds lie between two looks at a batch that has not ended, before jitter
              RESTANTE_RECONCILE_SECONDS  [default 300, 0 to 86400]
                  how many seconds lie between two searches for what webhooks missed; 0 turns them off
              RESTANTE_DRAIN_SECONDS  [default 20, 0 to 3600]
                  how many seconds SIGTERM waits for work under way; keep it below the grace period of
                  whatever sends the signal
              RESTANTE_LOG  [default json]
                  how log lines are written: json or text
              RUST_LOG  [default info]
                  which log lines are written, as in info,restante=debug; libraries that see keys or bodies
                  stay at info whatever it says
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
        .assert_eq(&help_for_command(Program::Tool, &["DATABASE_URL", "RESTANTE_LISTEN"], &[]));
    }

    #[test]
    fn what_a_command_does_not_work_without_is_called_required() {
        let help = help_for_command(Program::Tool, &["DATABASE_URL", "RUST_LOG"], &["DATABASE_URL"]);

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
}
