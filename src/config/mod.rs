//! The configuration: the variables of a program, checked as a whole before anything starts.
//!
//! Each program has one plain struct. Its `from_vars` builds it from variables that the caller took from the
//! environment; nothing here reads the environment or a disk by itself. `table` declares each variable once,
//! and `vars` reads it. `file` reads the senders and accounts of the file that RESTANTE_CONFIG names. The structs
//! contain the settings of the parts that the program starts, such as `ingest::Limits`, so no code maps one to the other,
//! and a field has the name of its variable.
//!
//! Two rules hold throughout. All faults are reported at once, each with its fix. And no fault or warning repeats a
//! value, not even that of a variable that is not secret: an operator may have put a key into the wrong variable, and
//! the output of a failed start often ends up in a ticket.

use std::fmt;

use url::Url;

use crate::telemetry::LogFormat;

mod faults;
mod file;
mod help;
mod ingest;
mod keys;
mod placeholder;
mod quotes;
mod secret_file;
mod settings;
mod shown;
mod spelling;
mod table;
mod texts;
mod tool;
mod variable;
mod vars;
mod worker;

pub use self::faults::{Fault, Faults, Place, Warning};
pub use self::file::{FILE_KEYS, FileKey, Kind};
pub use self::help::{about, help_for, help_for_command};
pub use self::ingest::Ingest;
pub use self::keys::SigningKey;
pub use self::table::*;
pub use self::tool::Tool;
pub use self::variable::{Need, Var, Variable};
pub use self::vars::ReadFile;
pub use self::worker::Worker;

/// U+FEFF, which some editors put invisibly at the beginning of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Which program reads a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `restante-ingest`.
    Ingest,
    /// `restante-worker`.
    Worker,
    /// `restante`, the hand tool.
    Tool,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Program::Ingest => "restante-ingest",
            Program::Worker => "restante-worker",
            Program::Tool => "restante",
        })
    }
}

/// What is logged and traced, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How lines are written.
    pub format: LogFormat,
    /// A filter as `tracing_subscriber::EnvFilter` reads it; it is known to parse.
    pub filter: String,
    /// Where traces go, by OTLP over HTTP; no traces without it.
    pub collector: Option<Url>,
}

/// A valid configuration, with its warnings and its origins.
#[derive(Debug)]
pub struct Loaded<C> {
    /// The configuration.
    pub config: C,
    /// Likely mistakes that do not prevent the start.
    pub warnings: Vec<Warning>,
    /// Every variable of the program with the value in force, in the order of [`VARIABLES`].
    pub settings: Vec<Setting>,
    /// The senders or the accounts that the program has, a line each, with the secrets left out.
    pub parties: Vec<String>,
}

impl<C> Loaded<C> {
    /// The values in force, one line per variable and per sender or account, without the secrets.
    pub fn describe(&self) -> String {
        let width = self.settings.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
        let settings = self.settings.iter();
        settings
            .map(|Setting { name, shown, origin }| format!("{name:width$}  {shown}  ({origin})\n"))
            .chain(self.parties.iter().map(|party| format!("{party}\n")))
            .collect()
    }
}

/// The value in force for one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// Its value; for a secret only that it is set.
    pub shown: String,
    /// Where the value comes from.
    pub origin: Origin,
}

/// Where the value of a variable comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The variable itself.
    Environment,
    /// The file that the variable's `_FILE` sibling names.
    File,
    /// The table's default.
    Default,
    /// Nowhere: it is optional and absent.
    Unset,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Environment => "environment",
            Origin::File => "file",
            Origin::Default => "default",
            Origin::Unset => "unset",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    /// The fewest variables with which every program starts.
    pub(in crate::config) const LEAST: [(&str, &str); 3] = [
        ("DATABASE_URL", "postgres://restante:pw@db/restante"),
        ("ANTHROPIC_API_KEY", "sk-ant-test"),
        ("ANTHROPIC_WEBHOOK_SECRET", "s3cret"),
    ];

    pub(super) fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    pub(super) fn with(more: &[(&str, &str)]) -> Vec<(String, String)> {
        vars(&[&LEAST[..], more].concat())
    }

    pub(super) fn no_files(_: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    #[test]
    fn every_variable_that_a_program_reads_is_in_the_table_and_the_other_way_round() {
        let read = |program: Program| -> Vec<_> {
            VARIABLES.iter().filter(|v| v.need(program).is_some()).map(|v| v.name).collect()
        };
        let described = |settings: Vec<Setting>| -> Vec<_> { settings.iter().map(|s| s.name).collect() };

        let ingest = Ingest::from_vars(with(&[]), &no_files).unwrap();
        let worker = Worker::from_vars(with(&[]), &no_files).unwrap();
        let tool = Tool::from_vars(with(&[]), &no_files).unwrap();

        assert_eq!(described(ingest.settings), read(Program::Ingest));
        assert_eq!(described(worker.settings), read(Program::Worker));
        assert_eq!(described(tool.settings), read(Program::Tool));
    }

    #[test]
    fn a_setting_has_the_name_of_its_variable() {
        let mut settings = 0;
        for line in [include_str!("ingest.rs"), include_str!("worker.rs"), include_str!("tool.rs")]
            .into_iter()
            .flat_map(str::lines)
        {
            let Some((setting, variable)) = line.split_once("vars.get(&RESTANTE_") else { continue };
            let setting = setting.trim().trim_start_matches("let ").trim_end_matches([' ', ':', '=']);
            let (variable, _) = variable.split_once(')').unwrap();
            assert_eq!(setting, variable.trim_end_matches("_SECONDS").to_lowercase());
            settings += 1;
        }
        assert!(settings > 10, "{settings}: the test looks in the wrong place");
    }

    #[test]
    fn what_is_in_force_is_described_without_the_secrets() {
        let read = |_: &Path| Ok("sk-ant-from-a-file\n".to_owned());
        let environment: Vec<_> = with(&[("RESTANTE_LEASE_SECONDS", "2"), ("ANTHROPIC_API_KEY_FILE", "/k")])
            .into_iter()
            .filter(|(name, _)| name != "ANTHROPIC_API_KEY")
            .collect();

        let loaded = Worker::from_vars(environment, &read).unwrap();

        expect_test::expect![[r#"
            DATABASE_URL                      [secret]  (environment)
            RESTANTE_DATABASE_CONNECTIONS     16  (default)
            RESTANTE_CONFIG                   -  (unset)
            ANTHROPIC_API_KEY                 [secret]  (file)
            ANTHROPIC_ADMIN_API_KEY           -  (unset)
            ANTHROPIC_BASE_URL                https://api.anthropic.com  (default)
            ANTHROPIC_VERSION                 2023-06-01  (default)
            ANTHROPIC_BETA                    -  (unset)
            RESTANTE_API_AUTH                 x-api-key  (default)
            RESTANTE_OPS_LISTEN               127.0.0.1:9092  (default)
            RESTANTE_STREAM_TOKEN             -  (unset)
            RESTANTE_OPS_USERS                -  (unset)
            RESTANTE_OPS_DATABASE_URL         -  (unset)
            RESTANTE_OPS_REPLAY               false  (default)
            RESTANTE_CONCURRENCY              64  (default)
            RESTANTE_LEASE_SECONDS            2  (environment)
            RESTANTE_BATCH_POLL_SECONDS       60  (default)
            RESTANTE_RECONCILE_SECONDS        300  (default)
            RESTANTE_BATCH_DELETE_AFTER       0  (default)
            RESTANTE_ALLOW_PRIVATE_ENDPOINTS  false  (default)
            RESTANTE_DRAIN_SECONDS            20  (default)
            RESTANTE_LOG                      json  (default)
            RUST_LOG                          info  (default)
            OTEL_EXPORTER_OTLP_ENDPOINT       -  (unset)
            account anthropic: https://api.anthropic.com/, x-api-key, version 2023-06-01, betas none, admin key no, workspace -, proxy -, fingerprints short
        "#]]
        .assert_eq(&loaded.describe());
        let debug = format!("{loaded:?}");
        assert!(!debug.contains("sk-ant") && !debug.contains("pw@"), "{debug}");
    }
}
