//! The subscriber of the log: which lines are written, and in which format.

use std::io::{self, IsTerminal as _};

use metrics_exporter_prometheus::BuildError;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, ParseError, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use super::lines::{Flush, Lines};

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Text,
}

/// Why the log or the metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be parsed.
    #[error("the log filter cannot be read")]
    Filter(#[from] ParseError),
    /// The thread that writes the log cannot be started.
    #[error("the thread that writes the log cannot be started")]
    Thread(#[source] io::Error),
    /// The process already has a log.
    #[error("the log cannot be set up")]
    Log(#[from] TryInitError),
    /// The process already has a recorder of metrics.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] BuildError),
}

/// Log targets (their beginnings) that print secrets at every level: sqlx warns of unknown parameters of a database URL
/// with their values, and prints lines of a password file. Nothing of them is written, whatever the filter says.
const SILENCED: [&str; 1] = ["sqlx_postgres::options"];

/// Log targets (their beginnings) of crates that see keys, headers, bodies or statements.
const CAPPED: [&str; 10] =
    ["axum", "h2", "hyper", "mio", "reqwest", "rustls", "sqlx", "tokio", "tower", "want"];

/// Starts the log of a service, on the standard output. The caller keeps the returned value until the program ends.
///
/// # Errors
///
/// [`Error::Filter`] if `filter` cannot be parsed, [`Error::Log`] if the process already has a log, [`Error::Thread`]
/// if the thread that writes it cannot be started.
pub fn init(format: LogFormat, filter: &str) -> Result<Flush, Error> {
    start(format, filter, io::stdout().is_terminal(), io::stdout())
}

/// Starts the log of a program that prints its results on the standard output; it logs to the standard error.
///
/// # Errors
///
/// As for [`init`].
pub fn init_on_stderr(format: LogFormat, filter: &str) -> Result<Flush, Error> {
    start(format, filter, io::stderr().is_terminal(), io::stderr())
}

fn start(
    format: LogFormat,
    filter: &str,
    colour: bool,
    pipe: impl io::Write + Send + 'static,
) -> Result<Flush, Error> {
    let (lines, flush) = Lines::start(pipe).map_err(Error::Thread)?;
    subscriber(format, filter, colour, move || lines.clone())?.try_init()?;
    Ok(flush)
}

fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    colour: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, ParseError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(filter)?;
    let cap = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(CAPPED.map(|target| (target, LevelFilter::INFO)))
        .with_targets(SILENCED.map(|target| (target, LevelFilter::OFF)))
        // Postgres warns of a `rollback` without a transaction, which the pool sends on every connection that comes
        // back.
        .with_target("sqlx::postgres::notice", LevelFilter::ERROR);
    // A failed write is not reported: the report would go to the standard error, and printing panics if that is
    // closed too.
    let lines = fmt::layer().with_ansi(colour).with_writer(writer).log_internal_errors(false);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    // The boxed layer comes first, because its type is a layer for the bare registry.
    Ok(tracing_subscriber::registry().with(lines).with(cap).with(filter))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A pipe that records what is written to it.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, speak: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = subscriber(format, filter, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, speak);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn libraries_that_see_secrets_stay_at_info_whatever_the_filter_says() {
        for filter in ["trace", "sqlx=trace,hyper=trace,hyper::proto=trace,reqwest=trace,restante=trace"] {
            let log = logged(LogFormat::Json, filter, || {
                tracing::debug!(target: "hyper::proto::h1", "x-api-key: sk-ant-1");
                tracing::trace!(target: "hyper_util::client", "x-api-key: sk-ant-2");
                tracing::trace!(target: "reqwest::connect", "x-api-key: sk-ant-3");
                tracing::debug!(target: "sqlx::query", "select 'sk-ant-4'");
                tracing::debug!(target: "rustls_platform_verifier", "sk-ant-5");
                tracing::info!(target: "sqlx::pool", "still heard");
                tracing::trace!(target: "restante::worker", "ours at trace");
            });

            assert!(!log.contains("sk-ant"), "{log}");
            assert!(log.contains("still heard") == (filter == "trace" || filter.contains("sqlx")), "{log}");
            assert!(log.contains("ours at trace"), "{log}");
        }
    }

    #[test]
    fn what_sqlx_says_of_a_database_url_is_never_written() {
        for filter in [
            "trace",
            "sqlx_postgres=trace,sqlx_postgres::options=trace",
            "sqlx_postgres::options::parse=trace",
        ] {
            let log = logged(LogFormat::Json, filter, || {
                let url =
                    "postgres://u:p@localhost/x?sslpassword=canary-1&passfile=canary-2&canary-3=canary-4";
                url.parse::<sqlx::postgres::PgConnectOptions>().unwrap();
                tracing::warn!(target: "sqlx_postgres::options::pgpass", line = "canary-5", "Malformed line");
            });

            assert!(!log.contains("canary"), "{log}");
        }
    }

    #[test]
    fn every_crate_that_logs_is_capped_or_known_to_see_no_secret() {
        // The log's own crates, and those that are built for tests or for other systems only.
        const EXEMPT: [&str; 7] =
            ["generator", "iana-time-zone", "jni", "loom", "tracing", "tracing-log", "tracing-subscriber"];
        let lock = include_str!("../../Cargo.lock");

        let mut logging = 0;
        for package in lock.split("[[package]]").skip(1) {
            let name = package.split('"').nth(1).unwrap();
            let logs = package.lines().any(|line| {
                let dependency = line.trim_matches([' ', '"', ',']);
                line.starts_with(" \"") && matches!(dependency.split(' ').next(), Some("log" | "tracing"))
            });
            if logs && !EXEMPT.contains(&name) && !name.starts_with("restante") {
                logging += 1;
                let target = name.replace('-', "_");
                assert!(
                    CAPPED.iter().any(|capped| target.starts_with(capped)),
                    "{name} logs: cap or exempt it"
                );
            }
        }
        assert!(logging >= 3, "reqwest, rustls and sqlx log, so the lock file was not understood");
    }

    #[test]
    fn a_json_line_has_the_message_and_the_fields_side_by_side() {
        let log = logged(LogFormat::Json, "info", || {
            tracing::info!(event.id = "whe_1", attempt = 2, "settled\nwith a second line");
        });

        assert_eq!(log.lines().count(), 1, "{log}");
        let line: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(line["message"], "settled\nwith a second line");
        assert_eq!((&line["event.id"], &line["attempt"]), (&"whe_1".into(), &2.into()));
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn text_lines_carry_no_colour_unless_a_terminal_reads_them() {
        let log = logged(LogFormat::Text, "info", || tracing::warn!(attempt = 2, "snoozed"));

        assert!(log.contains("WARN") && log.contains("snoozed attempt=2"), "{log}");
        assert!(!log.contains('\u{1b}'), "{log:?}");
    }

    #[test]
    fn a_closed_pipe_loses_lines_and_nothing_else() {
        struct Closed;
        impl io::Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }

        for format in [LogFormat::Json, LogFormat::Text] {
            let subscriber = subscriber(format, "info", false, || Closed).unwrap();
            tracing::subscriber::with_default(subscriber, || tracing::error!("nobody hears this"));
        }
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        assert!(matches!(init(LogFormat::Json, "restante=loud"), Err(Error::Filter(_))));
    }
}
