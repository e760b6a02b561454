//! The configuration of `restante-ingest`.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::file::File;
use super::settings::{keys, log};
use super::table::*;
use super::vars::{ReadFile, Vars, all};
use super::{Faults, Loaded, Log, Program, shown};
use crate::ingest::{Limits, Sender};
use crate::signature::Keys;

/// The configuration that `restante-ingest` starts with.
#[derive(Debug)]
pub struct Ingest {
    /// `DATABASE_URL`: where the database is, usually with a password in it.
    pub database_url: SecretString,
    /// `RESTANTE_DATABASE_CONNECTIONS`: how many connections the pool opens at most.
    pub database_connections: u32,
    /// Who sends deliveries; each has at least one key.
    pub senders: Vec<Sender>,
    /// `RESTANTE_LISTEN`: where webhooks arrive.
    pub listen: SocketAddr,
    /// `RESTANTE_OPS_LISTEN`: where `/livez`, `/readyz` and `/metrics` are answered; never the same port.
    pub ops_listen: SocketAddr,
    /// `RESTANTE_JOURNAL_DIR`: where events are kept while the database is away; `None` if nowhere.
    pub journal_dir: Option<PathBuf>,
    /// `RESTANTE_JOURNAL_BYTES_MAX`: how many bytes they may take up there.
    pub journal_bytes_max: u64,
    /// Bounds on what one sender, or all of them, can use up.
    pub limits: Limits,
    /// `RESTANTE_LOG`, `RUST_LOG` and `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub log: Log,
}

impl Ingest {
    /// Reads the configuration from the variables; `read_file` returns the text of a file that a `_FILE` variable
    /// names.
    ///
    /// # Errors
    ///
    /// All variables that are missing or wrong, at once.
    pub fn from_vars(
        variables: impl IntoIterator<Item = (String, String)>,
        read_file: ReadFile<'_>,
    ) -> Result<Loaded<Ingest>, Faults> {
        let mut vars = Vars::new(Program::Ingest, variables, read_file);
        let file = File::read(&mut vars);
        let keys = keys(&mut vars);
        let has_keys = keys.as_ref().is_none_or(|keys| !keys.standard.is_empty() || !keys.older.is_empty());
        if !has_keys && !file.has_senders {
            let (key, secret) =
                (ANTHROPIC_WEBHOOK_SIGNING_KEY.facts.name, ANTHROPIC_WEBHOOK_SECRET.facts.name);
            let problem = format!("neither it nor {secret} is set, so no webhook can be verified");
            vars.fault(key, problem, format!("Set it (or {key}_FILE) to the endpoint's whsec_... key"));
        }
        let senders = keys.map(|keys| {
            let of_environment = has_keys.then(|| Sender::anthropic(keys));
            of_environment.into_iter().chain(file.senders).collect::<Vec<_>>()
        });
        for sender in senders.iter().flatten() {
            vars.show(shown::sender(sender));
        }
        warn_of_shared_keys(senders.as_deref().unwrap_or_default(), &mut vars);
        let listen = vars.get(&RESTANTE_LISTEN);
        let ops_listen = vars.get(&RESTANTE_OPS_LISTEN);
        if listen.zip(ops_listen).is_some_and(|(listen, ops)| collide(listen, ops)) {
            let problem = format!("it has the same port as {}", RESTANTE_LISTEN.facts.name);
            let mend = "Give them different ports, so that the ops pages are not on the internet";
            vars.fault(RESTANTE_OPS_LISTEN.facts.name, problem, mend);
        }
        let config = all!(Ingest {
            database_url: vars.get(&DATABASE_URL),
            database_connections: vars.get(&RESTANTE_DATABASE_CONNECTIONS),
            senders,
            listen,
            ops_listen,
            journal_dir: vars.find(&RESTANTE_JOURNAL_DIR),
            journal_bytes_max: vars.get(&RESTANTE_JOURNAL_BYTES_MAX),
            limits: all!(Limits {
                max_connections: vars.get(&RESTANTE_MAX_CONNECTIONS),
                ingest_wait: vars.get(&RESTANTE_INGEST_WAIT_SECONDS),
                idle: vars.get(&RESTANTE_IDLE_SECONDS),
                linger: vars.get(&RESTANTE_LINGER_SECONDS),
                drain: vars.get(&RESTANTE_DRAIN_SECONDS),
                ..Limits::default()
            }),
            log: log(&mut vars),
        });
        vars.finish(config)
    }
}

/// Warns of a key that two senders have: who signs for one of them can sign for the other.
fn warn_of_shared_keys(senders: &[Sender], vars: &mut Vars<'_>) {
    fn keys(sender: &Sender) -> HashSet<&[u8]> {
        let Keys { standard, svix, older } = &sender.keys;
        let all = [standard, svix, older].into_iter().flatten();
        all.map(ExposeSecret::expose_secret).collect()
    }
    for (index, one) in senders.iter().enumerate() {
        for other in &senders[index + 1..] {
            if !keys(one).is_disjoint(&keys(other)) {
                let message = format!(
                    "the senders {} and {} have the same key, so who can sign for one can sign for both",
                    one.name, other.name
                );
                vars.warn(RESTANTE_CONFIG.facts.name, message);
            }
        }
    }
}

/// Whether two sockets cannot both be bound. Port 0 asks for any free port.
fn collide(left: SocketAddr, right: SocketAddr) -> bool {
    left.port() != 0
        && left.port() == right.port()
        && (left.ip() == right.ip() || left.ip().is_unspecified() || right.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LEAST, no_files, vars, with};
    use super::*;

    fn faults(variables: Vec<(String, String)>) -> Vec<String> {
        let faults = Ingest::from_vars(variables, &no_files).map(drop).unwrap_err();
        faults.faults.iter().map(|fault| format!("{}: {}", fault.variable, fault.problem)).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let config = Ingest::from_vars(with(&[]), &no_files).unwrap().config;

        assert_eq!(config.listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(config.ops_listen, "127.0.0.1:9091".parse().unwrap());
        assert_eq!((config.database_connections, config.limits.max_connections), (8, 4096));
        let Limits { ingest_wait, idle, linger, drain, .. } = config.limits;
        assert_eq!([ingest_wait, idle, linger, drain].map(|time| time.as_secs()), [10, 90, 5, 20]);
    }

    #[test]
    fn the_usual_limits_are_the_defaults_of_the_variables() {
        assert_eq!(Ingest::from_vars(with(&[]), &no_files).unwrap().config.limits, Limits::default());
    }

    #[test]
    fn one_of_the_two_signature_schemes_has_to_be_on() {
        assert_eq!(
            faults(vars(&LEAST[..1])),
            ["ANTHROPIC_WEBHOOK_SIGNING_KEY: neither it nor ANTHROPIC_WEBHOOK_SECRET is set, so no webhook \
              can be verified"]
        );
    }

    #[test]
    fn the_two_listeners_have_different_ports() {
        let same = "RESTANTE_OPS_LISTEN: it has the same port as RESTANTE_LISTEN";
        assert_eq!(faults(with(&[("RESTANTE_OPS_LISTEN", "127.0.0.1:8080")])), [same]);
        assert_eq!(faults(with(&[("RESTANTE_LISTEN", "[::]:9091")])), [same]);

        for free in [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.2:80", "127.0.0.1:80")] {
            let variables = with(&[("RESTANTE_LISTEN", free.0), ("RESTANTE_OPS_LISTEN", free.1)]);
            assert!(Ingest::from_vars(variables, &no_files).is_ok(), "{free:?}");
        }
    }

    #[test]
    fn what_only_the_worker_reads_is_not_looked_at() {
        assert!(Ingest::from_vars(with(&[("RESTANTE_CONCURRENCY", "many")]), &no_files).is_ok());
    }
}
