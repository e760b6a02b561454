//! The configuration of `restante-ingest`.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;

use super::keys::{self, SIGNING_KEY, WEBHOOK_SECRET};
use super::reader::{ReadFile, Reader};
use super::{Faults, Loaded, Log, Program, SigningKey};

/// What `restante-ingest` is started with.
#[derive(Debug)]
pub struct Ingest {
    /// `DATABASE_URL`: where the database is, commonly with a password in it.
    pub database_url: SecretString,
    /// `RESTANTE_DATABASE_CONNECTIONS`: how many connections the pool opens at most.
    pub database_connections: u32,
    /// `ANTHROPIC_WEBHOOK_SIGNING_KEY`, decoded: the Standard Webhooks scheme is on unless it is empty.
    pub signing_keys: Vec<SigningKey>,
    /// `ANTHROPIC_WEBHOOK_SECRET`: the older scheme is on unless it is empty. One of the two has an entry.
    pub webhook_secrets: Vec<SigningKey>,
    /// `RESTANTE_LISTEN`: where webhooks arrive.
    pub listen: SocketAddr,
    /// `RESTANTE_OPS_LISTEN`: where `/livez`, `/readyz` and `/metrics` are answered; never the same port.
    pub ops_listen: SocketAddr,
    /// `RESTANTE_MAX_CONNECTIONS`: how many HTTP connections are open at once at most.
    pub max_connections: usize,
    /// `RESTANTE_INGEST_WAIT_SECONDS`: how long a delivery waits out a database that is away.
    pub wait: Duration,
    /// `RESTANTE_IDLE_SECONDS`: how long an idle connection is kept open.
    pub idle: Duration,
    /// `RESTANTE_LINGER_SECONDS`: how long connections are still accepted after a stop.
    pub linger: Duration,
    /// `RESTANTE_DRAIN_SECONDS`: how long a stop waits for deliveries under way.
    pub drain: Duration,
    /// `RESTANTE_LOG` and `RUST_LOG`.
    pub log: Log,
}

impl Ingest {
    /// The configuration that the variables give; `read_file` gives the text of a file that a `_FILE` variable names.
    ///
    /// # Errors
    ///
    /// Every variable that is missing or wrong, at once.
    pub fn from_vars(
        variables: impl IntoIterator<Item = (String, String)>,
        read_file: ReadFile<'_>,
    ) -> Result<Loaded<Ingest>, Faults> {
        let mut reader = Reader::new(Program::Ingest, variables, read_file);

        let database_url = reader.needed("DATABASE_URL", keys::database_url);
        let database_connections = reader.number("RESTANTE_DATABASE_CONNECTIONS");
        let signing_keys = keys::signing_keys(&mut reader);
        let webhook_secrets = keys::webhook_secrets(&mut reader);
        let listen = reader.address("RESTANTE_LISTEN").flatten();
        let ops_listen = reader.address("RESTANTE_OPS_LISTEN").flatten();
        let max_connections = reader.number("RESTANTE_MAX_CONNECTIONS");
        let wait = reader.seconds("RESTANTE_INGEST_WAIT_SECONDS");
        let idle = reader.seconds("RESTANTE_IDLE_SECONDS");
        let linger = reader.seconds("RESTANTE_LINGER_SECONDS");
        let drain = reader.seconds("RESTANTE_DRAIN_SECONDS");
        let log = reader.log();

        if signing_keys.as_ref().is_some_and(Vec::is_empty)
            && webhook_secrets.as_ref().is_some_and(Vec::is_empty)
        {
            let problem = format!("neither it nor {WEBHOOK_SECRET} is set, so no webhook could be verified");
            reader.fault(
                SIGNING_KEY,
                problem,
                format!("Set it (or {SIGNING_KEY}_FILE) to the endpoint's whsec_... key"),
            );
        }
        if listen.zip(ops_listen).is_some_and(|(listen, ops)| collide(listen, ops)) {
            let mend = "Give them different ports, so that the ops pages do not face the internet";
            reader.fault("RESTANTE_OPS_LISTEN", "it takes the same port as RESTANTE_LISTEN", mend);
        }

        let config = (|| {
            Some(Ingest {
                database_url: database_url?,
                database_connections: database_connections?,
                signing_keys: signing_keys?,
                webhook_secrets: webhook_secrets?,
                listen: listen?,
                ops_listen: ops_listen?,
                max_connections: max_connections?,
                wait: wait?,
                idle: idle?,
                linger: linger?,
                drain: drain?,
                log: log?,
            })
        })();
        reader.finish(config)
    }
}

/// Whether the second of two sockets could not be bound. Port 0 asks for any free one.
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
        assert_eq!((config.database_connections, config.max_connections), (8, 4096));
        let seconds = [config.wait, config.idle, config.linger, config.drain].map(|time| time.as_secs());
        assert_eq!(seconds, [10, 90, 5, 20]);
    }

    #[test]
    fn one_of_the_two_signature_schemes_has_to_be_on() {
        assert_eq!(
            faults(vars(&LEAST[..1])),
            ["ANTHROPIC_WEBHOOK_SIGNING_KEY: neither it nor ANTHROPIC_WEBHOOK_SECRET is set, so no webhook \
              could be verified"]
        );
    }

    #[test]
    fn the_two_listeners_have_different_ports() {
        let same = "RESTANTE_OPS_LISTEN: it takes the same port as RESTANTE_LISTEN";
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
