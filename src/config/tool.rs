//! The configuration of `restante`, the hand tool.

use std::net::SocketAddr;

use secrecy::SecretString;

use super::reader::{ReadFile, Reader};
use super::{Api, Faults, Loaded, Log, Program, SigningKey, keys};

/// What the hand tool is started with. Which of it a command needs, the command says.
#[derive(Debug)]
pub struct Tool {
    /// `DATABASE_URL`: where the database is, commonly with a password in it.
    pub database_url: Option<SecretString>,
    /// `ANTHROPIC_WEBHOOK_SIGNING_KEY`, decoded.
    pub signing_keys: Vec<SigningKey>,
    /// `ANTHROPIC_WEBHOOK_SECRET`.
    pub webhook_secrets: Vec<SigningKey>,
    /// `ANTHROPIC_API_KEY`: the key that the API is called with.
    pub api_key: Option<SecretString>,
    /// How the API is called, apart from the key.
    pub api: Api,
    /// `RESTANTE_OPS_LISTEN`: the ops listener to ask, where it is not the default one.
    pub ops_listen: Option<SocketAddr>,
    /// `RESTANTE_LOG` and `RUST_LOG`.
    pub log: Log,
}

impl Tool {
    /// The configuration that the variables give; `read_file` gives the text of a file that a `_FILE` variable names.
    ///
    /// # Errors
    ///
    /// Every variable that is wrong, at once. None is missing: a command asks for what it needs.
    pub fn from_vars(
        variables: impl IntoIterator<Item = (String, String)>,
        read_file: ReadFile<'_>,
    ) -> Result<Loaded<Tool>, Faults> {
        let mut reader = Reader::new(Program::Tool, variables, read_file);

        let database_url = reader.parsed("DATABASE_URL", keys::database_url);
        let signing_keys = keys::signing_keys(&mut reader);
        let webhook_secrets = keys::webhook_secrets(&mut reader);
        let api_key = reader.parsed("ANTHROPIC_API_KEY", keys::api_key);
        let api = Api::read(&mut reader);
        let ops_listen = reader.address("RESTANTE_OPS_LISTEN");
        let log = reader.log();

        let config = (|| {
            Some(Tool {
                database_url: database_url?,
                signing_keys: signing_keys?,
                webhook_secrets: webhook_secrets?,
                api_key: api_key?,
                api: api?,
                ops_listen: ops_listen?,
                log: log?,
            })
        })();
        reader.finish(config)
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogFormat;
    use super::super::tests::{no_files, vars};
    use super::*;

    #[test]
    fn an_empty_environment_is_enough() {
        let config = Tool::from_vars(vars(&[]), &no_files).unwrap().config;

        assert!(config.database_url.is_none() && config.api_key.is_none() && config.ops_listen.is_none());
        assert_eq!(config.log.format, LogFormat::Text);
    }

    #[test]
    fn what_is_set_has_to_be_right() {
        assert!(Tool::from_vars(vars(&[("DATABASE_URL", "mysql://x/y")]), &no_files).is_err());
    }
}
