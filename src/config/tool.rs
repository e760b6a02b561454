//! The configuration of `restante`, the hand tool.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use super::file::File;
use super::settings::{api, keys, log};
use super::table::*;
use super::vars::{ReadFile, Vars, all};
use super::{Faults, Loaded, Log, Program};
use crate::signature::Keys;

/// The configuration of the hand tool. Each command checks that what it needs is there.
#[derive(Debug)]
pub struct Tool {
    /// `DATABASE_URL`: where the database is, usually with a password in it.
    pub database_url: Option<SecretString>,
    /// The keys that deliveries are signed with.
    pub keys: Keys,
    /// How the Claude API is called; `None` without a key for it.
    pub api: Option<crate::api::Settings>,
    /// `RESTANTE_OPS_LISTEN`: the ops listener to ask, if it is not the default one.
    pub ops_listen: Option<SocketAddr>,
    /// `RESTANTE_JOURNAL_DIR`: the journal of an ingest on this machine.
    pub journal_dir: Option<PathBuf>,
    /// `RESTANTE_JOURNAL_BYTES_MAX`: how many bytes it may have.
    pub journal_bytes_max: u64,
    /// `RESTANTE_PUBLIC_URL`: where the sender delivers webhooks.
    pub public_url: Option<Url>,
    /// `RESTANTE_LOG` and `RUST_LOG`.
    pub log: Log,
}

impl Tool {
    /// Reads the configuration from the variables; `read_file` returns the text of a file that a `_FILE` variable
    /// names.
    ///
    /// # Errors
    ///
    /// All variables that are wrong, at once. A missing one is no error here: each command checks for what it needs.
    pub fn from_vars(
        variables: impl IntoIterator<Item = (String, String)>,
        read_file: ReadFile<'_>,
    ) -> Result<Loaded<Tool>, Faults> {
        let mut vars = Vars::new(Program::Tool, variables, read_file);
        // A command that needs a secret of it says so; here its mistakes are told.
        let _only_examined = File::read(&mut vars);
        let config = all!(Tool {
            database_url: vars.find(&DATABASE_URL),
            keys: keys(&mut vars),
            api: api(&mut vars),
            ops_listen: vars.find(&RESTANTE_OPS_LISTEN),
            journal_dir: vars.find(&RESTANTE_JOURNAL_DIR),
            journal_bytes_max: vars.get(&RESTANTE_JOURNAL_BYTES_MAX),
            public_url: vars.find(&RESTANTE_PUBLIC_URL),
            log: log(&mut vars),
        });
        vars.finish(config)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{no_files, vars};
    use super::*;
    use crate::telemetry::LogFormat;

    #[test]
    fn an_empty_environment_is_enough() {
        let config = Tool::from_vars(vars(&[]), &no_files).unwrap().config;

        assert!(config.database_url.is_none() && config.api.is_none() && config.ops_listen.is_none());
        assert_eq!(config.log.format, LogFormat::Text);
    }

    #[test]
    fn what_is_set_has_to_be_right() {
        assert!(Tool::from_vars(vars(&[("DATABASE_URL", "mysql://x/y")]), &no_files).is_err());
    }
}
