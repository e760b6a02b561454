//! The table of variables as text for people: the end of `--help`.
//!
//! `.env.example` is the same table as lines to fill in; a test here writes it.

use std::fmt::Write as _;

use super::Program;
use super::table::Need::{Default, Optional, Required};
use super::table::{VARIABLES, Variable};

/// The variables that a program reads, as the end of its `--help`.
pub fn help_for(program: Program) -> String {
    help_of(program, VARIABLES.iter())
}

/// The variables that one command of a program reads, as the end of the command's `--help`.
pub fn help_for_command(program: Program, names: &[&str]) -> String {
    help_of(program, VARIABLES.iter().filter(|variable| names.contains(&variable.name)))
}

fn help_of(program: Program, variables: impl Iterator<Item = &'static Variable>) -> String {
    let mut help = String::from("Environment:\n");
    for variable in variables {
        let Some(need) = variable.need(program) else { continue };
        let file = if variable.secret { format!(" (or {}_FILE)", variable.name) } else { String::new() };
        let need = match need {
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
            "# Every variable that Restante reads. Copy this file to .env and fill in what has no default.\n\
             # A secret may come from a file instead: add _FILE to its name and give the path.\n",
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
        .assert_eq(&help_for_command(Program::Tool, &["DATABASE_URL", "RESTANTE_LISTEN"]));
    }
}
