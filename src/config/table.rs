//! The table of variables: every name, who reads it, its default, its bounds and what it means.
//!
//! `--help`, `.env.example`, the faults and `restante config` all speak from it, so none of them can drift.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use super::Program::{self, Ingest, Tool, Worker};

/// What a program makes of a variable that is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The program does not start.
    Required,
    /// The program does without.
    Optional,
    /// This value is in force.
    Default(&'static str),
}

/// One variable of the environment.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The programs that read it.
    pub read_by: &'static [(Program, Need)],
    /// It may also come from a file, under its name with `_FILE` added, and is never shown.
    pub secret: bool,
    /// For a whole number: the values that make sense.
    pub bounds: Option<RangeInclusive<u64>>,
    /// What it means, with its unit.
    pub meaning: &'static str,
}

impl Variable {
    /// What the program makes of its absence, or `None` where the program does not read it.
    pub fn need(&self, program: Program) -> Option<Need> {
        self.read_by.iter().find(|(reader, _)| *reader == program).map(|(_, need)| *need)
    }
}

use Need::{Default, Optional, Required};

/// Every variable that a program of this project reads, those that are needed first.
pub static VARIABLES: &[Variable] = &[
    Variable {
        name: "DATABASE_URL",
        read_by: &[(Ingest, Required), (Worker, Required), (Tool, Optional)],
        secret: true,
        bounds: None,
        meaning: "where the Postgres database is, as postgres://user:password@host:5432/database",
    },
    Variable {
        name: "RESTANTE_DATABASE_CONNECTIONS",
        read_by: &[(Ingest, Default("8")), (Worker, Default("16"))],
        secret: false,
        bounds: Some(1..=1_000),
        meaning: "how many connections to the database one process opens at most",
    },
    Variable {
        name: "ANTHROPIC_WEBHOOK_SIGNING_KEY",
        read_by: &[(Ingest, Optional), (Tool, Optional)],
        secret: true,
        bounds: None,
        meaning: "the whsec_... keys of the webhook endpoint, several (for a rotation) separated by space or \
                  comma; turns on the Standard Webhooks scheme. Ingest needs this or ANTHROPIC_WEBHOOK_SECRET",
    },
    Variable {
        name: "ANTHROPIC_WEBHOOK_SECRET",
        read_by: &[(Ingest, Optional), (Tool, Optional)],
        secret: true,
        bounds: None,
        meaning: "the raw secrets of the older anthropic-signature scheme, several separated by space or \
                  comma; turns that scheme on",
    },
    Variable {
        name: "ANTHROPIC_API_KEY",
        read_by: &[(Worker, Required), (Tool, Optional)],
        secret: true,
        bounds: None,
        meaning: "the key that the worker calls the Claude API with",
    },
    Variable {
        name: "ANTHROPIC_BASE_URL",
        read_by: &[
            (Worker, Default("https://api.anthropic.com")),
            (Tool, Default("https://api.anthropic.com")),
        ],
        secret: false,
        bounds: None,
        meaning: "where the Claude API is; the key goes nowhere else",
    },
    Variable {
        name: "ANTHROPIC_VERSION",
        read_by: &[(Worker, Default("2023-06-01")), (Tool, Default("2023-06-01"))],
        secret: false,
        bounds: None,
        meaning: "the anthropic-version that every call names; from 2026-10-21 on, sampling parameters in a \
                  request are refused by the API",
    },
    Variable {
        name: "ANTHROPIC_BETA",
        read_by: &[(Worker, Optional), (Tool, Optional)],
        secret: false,
        bounds: None,
        meaning: "anthropic-beta values to send beside those that a call needs anyway, separated by comma",
    },
    Variable {
        name: "RESTANTE_API_AUTH",
        read_by: &[(Worker, Default("x-api-key")), (Tool, Default("x-api-key"))],
        secret: false,
        bounds: None,
        meaning: "the header that carries the key: x-api-key, or bearer for an Authorization header",
    },
    Variable {
        name: "RESTANTE_LISTEN",
        read_by: &[(Ingest, Default("0.0.0.0:8080"))],
        secret: false,
        bounds: None,
        meaning: "the address and port that take webhooks",
    },
    Variable {
        name: "RESTANTE_OPS_LISTEN",
        read_by: &[
            (Ingest, Default("127.0.0.1:9091")),
            (Worker, Default("127.0.0.1:9092")),
            (Tool, Optional),
        ],
        secret: false,
        bounds: None,
        meaning: "the address and port that answer /livez, /readyz and /metrics; not for the internet",
    },
    Variable {
        name: "RESTANTE_MAX_CONNECTIONS",
        read_by: &[(Ingest, Default("4096"))],
        secret: false,
        bounds: Some(1..=1_000_000),
        meaning: "how many HTTP connections are open at once at most; further ones wait to be accepted",
    },
    Variable {
        name: "RESTANTE_INGEST_WAIT_SECONDS",
        read_by: &[(Ingest, Default("10"))],
        secret: false,
        // Not 0: it is also what a database that is there has for its answer, and nothing would ever be taken.
        bounds: Some(1..=60),
        meaning: "how many seconds a delivery waits out a database that is away before it is answered 503",
    },
    Variable {
        name: "RESTANTE_CONCURRENCY",
        read_by: &[(Worker, Default("64"))],
        secret: false,
        bounds: Some(1..=10_000),
        meaning: "how many handlers run at once in one process",
    },
    Variable {
        name: "RESTANTE_LEASE_SECONDS",
        read_by: &[(Worker, Default("30"))],
        secret: false,
        bounds: Some(1..=3_600),
        meaning: "how many seconds an attempt outlives a worker that has vanished; renewed while the handler \
                  lives",
    },
    Variable {
        name: "RESTANTE_BATCH_POLL_SECONDS",
        read_by: &[(Worker, Default("60"))],
        secret: false,
        bounds: Some(1..=86_400),
        meaning: "how many seconds lie between two looks at a batch that has not ended, before jitter",
    },
    Variable {
        name: "RESTANTE_RECONCILE_SECONDS",
        read_by: &[(Worker, Default("300"))],
        secret: false,
        bounds: Some(0..=86_400),
        meaning: "how many seconds lie between two searches for what webhooks missed; 0 turns them off",
    },
    Variable {
        name: "RESTANTE_DRAIN_SECONDS",
        read_by: &[(Ingest, Default("20")), (Worker, Default("20"))],
        secret: false,
        bounds: Some(0..=3_600),
        meaning: "how many seconds SIGTERM waits for work under way; keep it below the grace period of \
                  whatever sends the signal",
    },
    Variable {
        name: "RESTANTE_LOG",
        read_by: &[(Ingest, Default("json")), (Worker, Default("json")), (Tool, Default("text"))],
        secret: false,
        bounds: None,
        meaning: "how log lines are written: json or text",
    },
    Variable {
        name: "RUST_LOG",
        read_by: &[(Ingest, Default("info")), (Worker, Default("info")), (Tool, Default("info,sqlx=warn"))],
        secret: false,
        bounds: None,
        meaning: "which log lines are written, as in info,restante=debug; libraries that see keys or bodies \
                  stay at info whatever it says",
    },
];

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

/// The variable of that name.
///
/// # Panics
///
/// Panics when the table lacks it, which is a mistake in this crate: `from_vars` reads every name at every
/// start, so no test passes with such a mistake.
pub(super) fn variable(name: &str) -> &'static Variable {
    VARIABLES.iter().find(|v| v.name == name).expect("every variable that is read stands in the table")
}

/// The known name that a misspelt one most likely stands for.
pub(super) fn nearest(unknown: &str) -> Option<&'static str> {
    let bare = unknown.strip_prefix("RESTANTE_").unwrap_or(unknown);
    if let Some(variable) = VARIABLES.iter().find(|v| v.name == bare) {
        return Some(variable.name);
    }
    VARIABLES
        .iter()
        .map(|v| (distance(unknown, v.name), v.name))
        .min()
        // A third of the letters: generous, since a wrong guess costs a reader one line.
        .filter(|(distance, name)| distance * 3 <= name.len())
        .map(|(_, name)| name)
}

/// How many letters have to be put in, taken out or changed (Levenshtein's distance).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let changed = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
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
    use std::collections::HashSet;

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
    fn names_are_unique_and_none_is_mistaken_for_the_file_of_another() {
        let names: HashSet<_> = VARIABLES.iter().map(|v| v.name).collect();
        assert_eq!(names.len(), VARIABLES.len());
        for variable in VARIABLES.iter().filter(|v| v.secret) {
            assert!(!names.contains(format!("{}_FILE", variable.name).as_str()));
        }
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
        .assert_eq(&help_for(Worker));
    }

    #[test]
    fn help_of_a_command_lists_its_own_variables_only() {
        expect_test::expect![[r#"
            Environment:
              DATABASE_URL (or DATABASE_URL_FILE)  [optional]
                  where the Postgres database is, as postgres://user:password@host:5432/database
        "#]]
        .assert_eq(&help_for_command(Tool, &["DATABASE_URL", "RESTANTE_LISTEN"]));
    }

    #[test]
    fn a_misspelt_name_is_recognised() {
        for (unknown, known) in [
            ("RESTANTE_CONCURENCY", Some("RESTANTE_CONCURRENCY")),
            ("RESTANTE_LEASE_SECS", Some("RESTANTE_LEASE_SECONDS")),
            ("RESTANTE_DATABASE_URL", Some("DATABASE_URL")),
            ("RESTANTE_ANTHROPIC_API_KEY", Some("ANTHROPIC_API_KEY")),
            ("RESTANTE_COLOUR_OF_THE_STAMPS", None),
        ] {
            assert_eq!(nearest(unknown), known, "{unknown}");
        }
    }
}
