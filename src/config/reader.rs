//! The reader of variables: it resolves names against the table and collects what is wrong with them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use tracing_subscriber::EnvFilter;

use super::quotes::is_in_quotes;
use super::spelling;
use super::table::{self, Need, VARIABLES};
use super::{Fault, Faults, Loaded, Log, LogFormat, Origin, Program, Setting, Warning};

/// Gives the text of the file that a `_FILE` variable names.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// U+FEFF at the beginning of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A value that was found, and nothing said about it yet.
type Found = (Zeroizing<String>, Origin);

pub(super) struct Reader<'a> {
    program: Program,
    variables: BTreeMap<String, Zeroizing<String>>,
    read_file: ReadFile<'a>,
    faults: Vec<Fault>,
    warnings: Vec<Warning>,
    settings: Vec<Setting>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        program: Program,
        variables: impl IntoIterator<Item = (String, String)>,
        read_file: ReadFile<'a>,
    ) -> Reader<'a> {
        let variables: BTreeMap<_, _> = variables
            .into_iter()
            // Compose files pass on what is unset as an empty value, so empty means absent.
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(name, value)| (name, Zeroizing::new(value)))
            .collect();
        let warnings = unknown(&variables);
        Reader { program, variables, read_file, faults: Vec::new(), warnings, settings: Vec::new() }
    }

    /// What was read, unless there was a fault. `config` may be `None` only if a fault was reported.
    pub(super) fn finish<C>(mut self, config: Option<C>) -> Result<Loaded<C>, Faults> {
        match config {
            Some(config) if self.faults.is_empty() => {
                self.settings.sort_by_key(|s| VARIABLES.iter().position(|v| v.name == s.name));
                Ok(Loaded { config, warnings: self.warnings, settings: self.settings })
            }
            _ => {
                self.faults.sort_by_key(|f| VARIABLES.iter().position(|v| f.variable.starts_with(v.name)));
                Err(Faults { program: self.program, faults: self.faults, warnings: self.warnings })
            }
        }
    }

    pub(super) fn fault(&mut self, name: &str, problem: impl Into<String>, mend: impl Into<String>) {
        let fault = Fault { variable: name.to_owned(), problem: problem.into(), mend: mend.into() };
        self.faults.push(fault);
    }

    pub(super) fn warn(&mut self, name: &str, message: impl Into<String>) {
        self.warnings.push(Warning { variable: name.to_owned(), message: message.into() });
    }

    /// A value that is read by `parse`. `Some(None)`: absent, and that is allowed. `None`: a fault was reported.
    ///
    /// `parse` gets the value without the white space around it, and says what is wrong and how to mend it;
    /// neither may repeat the value.
    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, (String, String)>,
    ) -> Option<Option<T>> {
        let Some((value, origin)) = self.found(name)? else {
            self.settings.push(Setting { name, shown: "-".to_owned(), origin: Origin::Unset });
            return Some(None);
        };
        let outcome = if is_in_quotes(value.trim()) {
            let mend = "Leave the quotes out: a shell takes them off, but a file of a secret and `docker run --env-file` keep them";
            Err(("it stands in quotes, and here they are a part of it".to_owned(), mend.to_owned()))
        } else {
            parse(value.trim())
        };
        match outcome {
            Ok(parsed) => {
                let shown = if table::variable(name).secret { "[secret]" } else { value.trim() };
                self.settings.push(Setting { name, shown: shown.to_owned(), origin });
                Some(Some(parsed))
            }
            Err((problem, mend)) => {
                self.fault(name, problem, mend + &self.or_leave_out(name));
                None
            }
        }
    }

    /// As [`Reader::parsed`], for a variable that is required or has a default.
    pub(super) fn needed<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, (String, String)>,
    ) -> Option<T> {
        self.parsed(name, parse).flatten()
    }

    /// A whole number within the bounds that the table gives.
    pub(super) fn number<N: TryFrom<u64>>(&mut self, name: &'static str) -> Option<N> {
        let bounds = table::variable(name).bounds.clone().expect("every number in the table has bounds");
        self.needed(name, |value| {
            let mend = format!("Give a whole number from {} to {}", bounds.start(), bounds.end());
            let number: u64 =
                value.parse().map_err(|_| ("it is not a whole number".to_owned(), mend.clone()))?;
            Some(number)
                .filter(|number| bounds.contains(number))
                .and_then(|number| N::try_from(number).ok())
                .ok_or_else(|| ("it is out of bounds".to_owned(), mend))
        })
    }

    pub(super) fn seconds(&mut self, name: &'static str) -> Option<Duration> {
        self.number(name).map(Duration::from_secs)
    }

    /// An address to listen on, or `Some(None)` where it is absent and may be.
    pub(super) fn address(&mut self, name: &'static str) -> Option<Option<SocketAddr>> {
        self.parsed(name, |value| {
            value.parse().map_err(|_| {
                (
                    "it is not an IP address with a port".to_owned(),
                    "Write it like 127.0.0.1:9090, 0.0.0.0:9090 for every interface, or [::]:9090".to_owned(),
                )
            })
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, [left, right]: [(&str, T); 2]) -> Option<T> {
        self.needed(name, |value| {
            [left, right].iter().find(|(word, _)| *word == value).map(|(_, choice)| *choice).ok_or_else(
                || {
                    (
                        format!("it is neither {} nor {}", left.0, right.0),
                        format!("Say {} or {}", left.0, right.0),
                    )
                },
            )
        })
    }

    pub(super) fn log(&mut self) -> Option<Log> {
        let format = self.choice("RESTANTE_LOG", [("json", LogFormat::Json), ("text", LogFormat::Text)]);
        let filter = self.needed("RUST_LOG", |value| match EnvFilter::builder().parse(value) {
            Ok(_) => Ok(value.to_owned()),
            Err(_) => Err((
                "it is not a log filter".to_owned(),
                "Write it like info, or info,restante=debug (target=level, separated by comma)".to_owned(),
            )),
        });
        Some(Log { format: format?, filter: filter? })
    }

    /// The value of a variable: its own, its file's, or its default.
    fn found(&mut self, name: &'static str) -> Option<Option<Found>> {
        let variable = table::variable(name);
        let need = variable.need(self.program).expect("the table says that this program reads the variable");
        let direct = self.variables.remove(name);
        let file_name = format!("{name}_FILE");
        let file = if variable.secret { self.variables.remove(&file_name) } else { None };

        match (direct, file, need) {
            (Some(_), Some(_), _) => {
                let problem = format!("it is set, and {file_name} is set as well");
                self.fault(name, problem, format!("Keep {name} or {file_name}, and unset the other"));
                None
            }
            (Some(value), None, _) => Some(Some((self.without_mark(name, value), Origin::Environment))),
            (None, Some(path), _) => {
                let text = self.file(&file_name, &path)?;
                Some(Some((self.without_mark(&file_name, text), Origin::File)))
            }
            (None, None, Need::Default(value)) => {
                Some(Some((Zeroizing::new(value.to_owned()), Origin::Default)))
            }
            (None, None, Need::Optional) => Some(None),
            (None, None, Need::Required) => {
                let or_file = if variable.secret { format!(" (or {file_name})") } else { String::new() };
                self.fault(name, "it is not set", format!("Set it{or_file}: {}", variable.meaning));
                None
            }
        }
    }

    fn file(&mut self, file_name: &str, path: &str) -> Option<Zeroizing<String>> {
        match (self.read_file)(Path::new(path)).map(Zeroizing::new) {
            Ok(mut text) if !text.trim_start_matches(BYTE_ORDER_MARK).trim().is_empty() => {
                // Editors and `echo` end a file with a newline that is no part of the secret.
                if text.ends_with('\n') {
                    text.pop();
                    if text.ends_with('\r') {
                        text.pop();
                    }
                }
                Some(text)
            }
            Ok(_) => {
                self.fault(file_name, "the file is empty", "Put the secret into it, and nothing else");
                None
            }
            // The path stays unsaid: sooner or later somebody puts the secret itself here.
            Err(error) => {
                let problem = format!("the file cannot be read ({})", error.kind());
                self.fault(file_name, problem, "Give the path of a text file that this program may read");
                None
            }
        }
    }

    /// A value without the byte order mark that some editors put before it, unseen.
    fn without_mark(&mut self, name: &str, value: Zeroizing<String>) -> Zeroizing<String> {
        match value.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => {
                let rest = Zeroizing::new(rest.to_owned());
                self.warn(
                    name,
                    "a byte order mark stands before it, and is left out: save it as UTF-8 without one",
                );
                rest
            }
            None => value,
        }
    }

    fn or_leave_out(&self, name: &str) -> String {
        match table::variable(name).need(self.program) {
            Some(Need::Default(default)) => format!(", or leave it out for {default}"),
            Some(Need::Optional) => ", or leave it out".to_owned(),
            Some(Need::Required) | None => String::new(),
        }
    }
}

/// One warning for each `RESTANTE_*` variable that no program reads, and for each of ours behind a byte order mark.
fn unknown(variables: &BTreeMap<String, Zeroizing<String>>) -> Vec<Warning> {
    let known = |name: &str| {
        VARIABLES.iter().any(|v| {
            name == v.name || (v.secret && name.strip_suffix("_FILE").is_some_and(|name| name == v.name))
        })
    };
    let marked = variables
        .keys()
        .filter(|name| name.strip_prefix(BYTE_ORDER_MARK).is_some_and(known))
        .map(|name| Warning {
            variable: name.trim_start_matches(BYTE_ORDER_MARK).to_owned(),
            message: "a byte order mark stands before its name, so that no program finds it: save the file as UTF-8 without one"
                .to_owned(),
        });
    variables
        .iter()
        .filter(|(name, value)| {
            name.starts_with("RESTANTE_") && !known(name) && !is_service_link(name, value)
        })
        .map(|(name, _)| {
            let message = match spelling::nearest(name) {
                Some(nearest) => format!("no program reads it; did you mean {nearest}?"),
                None => "no program reads it; see --help for those that are read".to_owned(),
            };
            Warning { variable: name.clone(), message }
        })
        .chain(marked)
        .collect()
}

/// Kubernetes puts variables of its own into every pod for each service, named after it: `RESTANTE_PORT` and
/// the like for a service called `restante`.
fn is_service_link(name: &str, value: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::super::Tool;
    use super::super::tests::{no_files, vars};
    use super::*;
    use secrecy::ExposeSecret;

    fn faults_of(variables: &[(&str, &str)], read: ReadFile<'_>) -> Vec<String> {
        let faults = Tool::from_vars(vars(variables), read).map(drop).unwrap_err();
        faults.faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_secret_comes_from_the_file_that_its_sibling_names_without_the_last_newline() {
        let read = |path: &Path| {
            assert_eq!(path, Path::new("/run/secrets/api-key"));
            Ok("sk-ant-1\r\n".to_owned())
        };

        let loaded =
            Tool::from_vars(vars(&[("ANTHROPIC_API_KEY_FILE", "/run/secrets/api-key")]), &read).unwrap();

        assert_eq!(loaded.config.api_key.unwrap().expose_secret(), "sk-ant-1");
    }

    #[test]
    fn a_secret_that_is_given_twice_is_a_fault() {
        let faults = faults_of(&[("DATABASE_URL", "postgres://a/b"), ("DATABASE_URL_FILE", "/x")], &no_files);

        assert_eq!(
            faults,
            ["DATABASE_URL: it is set, and DATABASE_URL_FILE is set as well. \
              Keep DATABASE_URL or DATABASE_URL_FILE, and unset the other."]
        );
    }

    #[test]
    fn a_file_that_is_empty_or_away_is_a_fault() {
        let empty = |_: &Path| Ok("\n".to_owned());

        assert_eq!(
            faults_of(&[("DATABASE_URL_FILE", "/x")], &empty),
            ["DATABASE_URL_FILE: the file is empty. Put the secret into it, and nothing else."]
        );
        assert_eq!(
            faults_of(&[("DATABASE_URL_FILE", "/x")], &no_files),
            ["DATABASE_URL_FILE: the file cannot be read (entity not found). \
              Give the path of a text file that this program may read."]
        );
    }

    #[test]
    fn a_byte_order_mark_is_left_out_and_told() {
        let read = |_: &Path| Ok("\u{feff}sk-ant-1\r\n".to_owned());
        let told = |variable: &str| {
            format!(
                "{variable}: a byte order mark stands before it, and is left out: save it as UTF-8 without one"
            )
        };

        for (variable, value) in [("ANTHROPIC_API_KEY_FILE", "/x"), ("ANTHROPIC_API_KEY", "\u{feff}sk-ant-1")]
        {
            let loaded = Tool::from_vars(vars(&[(variable, value)]), &read).unwrap();
            assert_eq!(loaded.config.api_key.unwrap().expose_secret(), "sk-ant-1");
            assert_eq!(loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [told(variable)]);
        }
        let only_a_mark = |_: &Path| Ok("\u{feff}\n".to_owned());
        assert_eq!(
            faults_of(&[("ANTHROPIC_API_KEY_FILE", "/x")], &only_a_mark),
            ["ANTHROPIC_API_KEY_FILE: the file is empty. Put the secret into it, and nothing else."]
        );
        let marked = Tool::from_vars(vars(&[("\u{feff}DATABASE_URL", "postgres://a/b")]), &no_files).unwrap();
        assert_eq!(
            marked.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "DATABASE_URL: a byte order mark stands before its name, so that no program finds it: save the file as \
              UTF-8 without one"
            ]
        );
    }

    #[test]
    fn a_value_in_quotes_is_a_fault_of_every_variable() {
        let quoted = |_: &Path| Ok("'sk-ant-1'\n".to_owned());
        for (name, value) in [
            ("ANTHROPIC_API_KEY", "\"sk-ant-1\""),
            ("ANTHROPIC_API_KEY_FILE", "/x"),
            ("ANTHROPIC_WEBHOOK_SECRET", "'a passphrase of mine'"),
            (
                "ANTHROPIC_WEBHOOK_SIGNING_KEY",
                "\u{201c}whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\u{201d}",
            ),
            ("DATABASE_URL", "'postgres://a/b'"),
            ("RESTANTE_LOG", "\"json\""),
        ] {
            let faults = faults_of(&[(name, value)], &quoted);
            let name = name.trim_end_matches("_FILE");
            assert!(
                faults.len() == 1 && faults[0].starts_with(&format!("{name}: it stands in quotes")),
                "{name}: {faults:?}"
            );
        }
    }

    #[test]
    fn an_empty_value_is_the_same_as_none() {
        let loaded =
            Tool::from_vars(vars(&[("DATABASE_URL", ""), ("DATABASE_URL_FILE", " ")]), &no_files).unwrap();

        assert!(loaded.config.database_url.is_none());
    }

    #[test]
    fn unknown_names_are_warned_of_and_those_of_kubernetes_are_not() {
        let loaded = Tool::from_vars(
            vars(&[
                ("RESTANTE_LISTN", "x"),
                ("RESTANTE_LISTEN_FILE", "x"),
                ("RESTANTE_PORT", "tcp://10.0.0.1:80"),
                ("RESTANTE_INGEST_SERVICE_HOST", "10.0.0.1"),
                ("RESTANTE_INGEST_PORT_8080_TCP_ADDR", "10.0.0.1"),
                ("HOME", "/root"),
            ]),
            &no_files,
        )
        .unwrap();

        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "RESTANTE_LISTEN_FILE: no program reads it; did you mean RESTANTE_LISTEN?",
                "RESTANTE_LISTN: no program reads it; did you mean RESTANTE_LISTEN?",
            ]
        );
    }

    #[test]
    fn addresses_and_filters_that_cannot_be_read_are_faults() {
        for (name, value) in [
            ("RESTANTE_OPS_LISTEN", "localhost:8080"),
            ("RESTANTE_OPS_LISTEN", ":8080"),
            ("RUST_LOG", "restante=loud"),
            ("RESTANTE_LOG", "JSON"),
        ] {
            let faults = faults_of(&[(name, value)], &no_files);
            assert!(faults.len() == 1 && faults[0].starts_with(name), "{name}={value}: {faults:?}");
        }
    }
}
