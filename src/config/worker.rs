//! The configuration of `restante-worker`.

use std::net::SocketAddr;

use secrecy::SecretString;

use super::file::File;
use super::settings::{api, log};
use super::table::*;
use super::vars::{ReadFile, Vars, all};
use super::{Faults, Loaded, Log, Program, shown};
use crate::api::Account;
use crate::page::User;
use crate::{handlers, worker};

/// The configuration that `restante-worker` starts with.
#[derive(Debug)]
pub struct Worker {
    /// `RESTANTE_DATABASE_CONNECTIONS`: how many connections the pool opens at most.
    pub database_connections: u32,
    /// How the Claude API is called, for each account.
    pub accounts: Vec<Account>,
    /// `RESTANTE_OPS_LISTEN`: where `/livez`, `/readyz` and `/metrics` are answered.
    pub ops_listen: SocketAddr,
    /// `RESTANTE_STREAM_TOKEN`: what readers of messages show; without one there is no such endpoint.
    pub stream_token: Option<SecretString>,
    /// `RESTANTE_OPS_USERS`: who may look at the ops page; without any, only this machine.
    pub ops_users: Vec<User>,
    /// `RESTANTE_OPS_DATABASE_URL`: the login of the ops page; without one, that of `DATABASE_URL`.
    pub ops_database_url: Option<SecretString>,
    /// `RESTANTE_OPS_REPLAY`: whether dead letters can be replayed on the ops page.
    pub ops_replay: bool,
    /// The settings of the worker. The caller that starts it sets the name of its process.
    pub worker: worker::Settings,
    /// The settings of the built-in handlers.
    pub handlers: handlers::Settings,
    /// `RESTANTE_LOG`, `RUST_LOG` and `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub log: Log,
}

impl Worker {
    /// Reads the configuration from the variables; `read_file` returns the text of a file that a `_FILE` variable
    /// names.
    ///
    /// # Errors
    ///
    /// All variables that are missing or wrong, at once.
    pub fn from_vars(
        variables: impl IntoIterator<Item = (String, String)>,
        read_file: ReadFile<'_>,
    ) -> Result<Loaded<Worker>, Faults> {
        let mut vars = Vars::new(Program::Worker, variables, read_file);
        let file = File::read(&mut vars);
        if file.has_accounts {
            vars.excuse(&ANTHROPIC_API_KEY.facts);
        }
        let accounts = api(&mut vars).map(|settings| {
            let of_environment = settings.map(Account::anthropic);
            of_environment.into_iter().chain(file.accounts).collect::<Vec<_>>()
        });
        for account in accounts.iter().flatten() {
            vars.show(shown::account(account));
        }
        let usual = vars.get(&DATABASE_URL).map(|url| worker::Settings::new("worker", url));
        let config = all!(Worker {
            database_connections: vars.get(&RESTANTE_DATABASE_CONNECTIONS),
            accounts,
            ops_listen: vars.get(&RESTANTE_OPS_LISTEN),
            stream_token: vars.find(&RESTANTE_STREAM_TOKEN),
            ops_users: vars.list(&RESTANTE_OPS_USERS),
            ops_database_url: vars.find(&RESTANTE_OPS_DATABASE_URL),
            ops_replay: vars.get(&RESTANTE_OPS_REPLAY),
            worker: all!(worker::Settings {
                concurrency: vars.get(&RESTANTE_CONCURRENCY),
                lease: vars.get(&RESTANTE_LEASE_SECONDS),
                drain: vars.get(&RESTANTE_DRAIN_SECONDS),
                batch_delete_after: vars.get(&RESTANTE_BATCH_DELETE_AFTER),
                ..usual?
            }),
            handlers: all!(handlers::Settings {
                batch_poll: vars.get(&RESTANTE_BATCH_POLL_SECONDS),
                reconcile: vars.get(&RESTANTE_RECONCILE_SECONDS),
                allow_private_endpoints: vars.get(&RESTANTE_ALLOW_PRIVATE_ENDPOINTS),
            }),
            log: log(&mut vars),
        });
        vars.finish(config)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{no_files, with};
    use super::*;
    use crate::api::Auth;

    fn load(name: &str, value: &str) -> Result<Loaded<Worker>, Faults> {
        Worker::from_vars(with(&[(name, value)]), &no_files)
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let config = Worker::from_vars(with(&[]), &no_files).unwrap().config;

        assert_eq!(config.accounts[0].settings.base_url.as_str(), "https://api.anthropic.com/");
        assert_eq!(
            (config.accounts[0].settings.version.as_str(), config.accounts[0].settings.auth),
            ("2023-06-01", Auth::XApiKey)
        );
        assert!(config.accounts[0].settings.betas.is_empty());
        assert_eq!((config.worker.concurrency, config.database_connections), (64, 16));
        assert_eq!(
            (config.worker.lease, config.handlers.reconcile),
            (Duration::from_secs(30), Some(Duration::from_secs(300)))
        );
    }

    #[test]
    fn reconciling_is_off_at_zero() {
        assert_eq!(load("RESTANTE_RECONCILE_SECONDS", "0").unwrap().config.handlers.reconcile, None);
    }

    #[test]
    fn no_batch_is_deleted_unless_somebody_wants_it() {
        let of = |value| load("RESTANTE_BATCH_DELETE_AFTER", value).unwrap().config.worker.batch_delete_after;
        assert_eq!((of("0"), of("3600")), (None, Some(Duration::from_secs(3600))));
        assert_eq!(Worker::from_vars(with(&[]), &no_files).unwrap().config.worker.batch_delete_after, None);
    }

    #[test]
    fn numbers_out_of_bounds_are_faults() {
        for (name, bad) in [
            ("RESTANTE_CONCURRENCY", "0"),
            ("RESTANTE_CONCURRENCY", "10001"),
            ("RESTANTE_LEASE_SECONDS", "-1"),
            ("RESTANTE_LEASE_SECONDS", "1.5"),
            ("RESTANTE_BATCH_POLL_SECONDS", "0"),
            ("RESTANTE_DATABASE_CONNECTIONS", "99999999999999999999"),
        ] {
            assert!(load(name, bad).is_err(), "{name}={bad}");
        }
    }
}
