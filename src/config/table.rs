//! The table of variables: every name, who reads it, its default, its bounds and what it means.
//!
//! `--help`, `.env.example`, the faults and `restante config` all speak from it, so none of them can drift.

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
        meaning: "the whsec_... keys of the webhook endpoint, several (for a rotation) separated by commas; \
                  turns on the Standard Webhooks scheme. Ingest needs this or ANTHROPIC_WEBHOOK_SECRET",
    },
    Variable {
        name: "ANTHROPIC_WEBHOOK_SECRET",
        read_by: &[(Ingest, Optional), (Tool, Optional)],
        secret: true,
        bounds: None,
        meaning: "the raw secret of the older anthropic-signature scheme, blanks and commas included; several \
                  (for a rotation) stand one a line; turns that scheme on",
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
        name: "RESTANTE_IDLE_SECONDS",
        read_by: &[(Ingest, Default("90"))],
        secret: false,
        bounds: Some(1..=3_600),
        meaning: "how many seconds an idle HTTP connection is kept open; longer than the proxy before it keeps \
                  one, which is 60 or 75 seconds in the usual ones",
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
        name: "RESTANTE_LINGER_SECONDS",
        read_by: &[(Ingest, Default("5"))],
        secret: false,
        bounds: Some(0..=300),
        meaning: "how many seconds after SIGTERM webhooks are still taken, while /readyz says that ingest leaves \
                  and balancers hear of it; at most half of RESTANTE_DRAIN_SECONDS, which it is a part of",
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

/// The variable of that name.
///
/// # Panics
///
/// Panics when the table lacks it, which is a mistake in this crate: `from_vars` reads every name at every
/// start, so no test passes with such a mistake.
pub(super) fn variable(name: &str) -> &'static Variable {
    VARIABLES.iter().find(|v| v.name == name).expect("every variable that is read stands in the table")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_none_is_mistaken_for_the_file_of_another() {
        let names: HashSet<_> = VARIABLES.iter().map(|v| v.name).collect();
        assert_eq!(names.len(), VARIABLES.len());
        for variable in VARIABLES.iter().filter(|v| v.secret) {
            assert!(!names.contains(format!("{}_FILE", variable.name).as_str()));
        }
    }
}
