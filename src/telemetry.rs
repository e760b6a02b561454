//! The log and the metrics: what a running program says about itself.
//!
//! Log lines go to the standard output, one whole line per write, for a container's collector takes that as it
//! is, while several of them file everything from the standard error under errors. The hand tool has its
//! answers on the standard output and so logs to the standard error.
//!
//! Neither may cost an event: a pipe that is closed or full loses lines and nothing else. And neither may show a
//! secret, so the libraries that see keys, headers and bodies stay at `info` whatever `RUST_LOG` asks for:
//! below that level some of them print what passes through them, and no list of ours would keep up with where.
//! Metrics carry labels of known, few values only; event types pass through [`event_type_label`].

use std::io::{self, IsTerminal as _};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, ParseError, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

pub use self::lines::Flush;
use self::lines::Lines;
use crate::config::LogFormat;

mod lines;

/// Why the log or the metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is none.
    #[error("the log filter cannot be read")]
    Filter(#[from] ParseError),
    /// The thread that writes the log cannot be started.
    #[error("the log's thread cannot be started")]
    Thread(#[source] io::Error),
    /// The process has a log already.
    #[error("the log cannot be set up")]
    Log(#[from] TryInitError),
    /// The process records its metrics elsewhere already.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] BuildError),
}

/// Crates that see keys, headers, bodies or statements, as the beginnings of their log targets.
const CAPPED: [&str; 10] =
    ["axum", "h2", "hyper", "mio", "reqwest", "rustls", "sqlx", "tokio", "tower", "want"];

/// Starts the log of a service, on the standard output. The caller keeps what it gets until the program ends.
///
/// # Errors
///
/// `filter` cannot be read, the process has a log already, or its thread cannot be started.
pub fn init(format: LogFormat, filter: &str) -> Result<Flush, Error> {
    start(format, filter, io::stdout().is_terminal(), io::stdout())
}

/// Starts the log of a program whose standard output is taken, on the standard error.
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
        // Postgres warns of each `rollback` without a transaction, which every connection gets when it goes back to its pool.
        .with_target("sqlx::postgres::notice", LevelFilter::ERROR);
    // A failed write is not reported: the report would go to the standard error, and a print there panics when
    // that is closed too.
    let lines = fmt::layer().with_ansi(colour).with_writer(writer).log_internal_errors(false);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    // The innermost comes first, since the boxed layer is one for the bare registry.
    Ok(tracing_subscriber::registry().with(lines).with(cap).with(filter))
}

/// The names of all metrics. Their labels are named in what [`recorder`] says of each.
pub mod metric {
    /// Deliveries answered, by `answer`.
    pub const DELIVERIES_TOTAL: &str = "restante_deliveries_total";
    /// From the head of a delivery to its answer, in seconds.
    pub const ACK_SECONDS: &str = "restante_ack_seconds";
    /// Events claimed.
    pub const CLAIMS_TOTAL: &str = "restante_claims_total";
    /// Attempts that ended, by `outcome`.
    pub const ATTEMPTS_TOTAL: &str = "restante_attempts_total";
    /// How long an attempt took, in seconds, by `event_type`.
    pub const ATTEMPT_SECONDS: &str = "restante_attempt_seconds";
    /// Attempts whose lease somebody else had by the time they ended.
    pub const LOST_LEASES_TOTAL: &str = "restante_lost_leases_total";
    /// Batch results stored.
    pub const RESULTS_ROWS_TOTAL: &str = "restante_results_rows_total";
    /// Bytes of batch results stored.
    pub const RESULTS_BYTES_TOTAL: &str = "restante_results_bytes_total";
    /// The age of the oldest event that is not finished, in seconds.
    pub const OLDEST_UNFINISHED_EVENT_SECONDS: &str = "restante_oldest_unfinished_event_seconds";
    /// Log lines dropped since nobody read the pipe.
    pub const LOG_LINES_DROPPED_TOTAL: &str = "restante_log_lines_dropped_total";
    /// Events that are not finished, by `status`.
    pub const EVENTS_UNFINISHED: &str = "restante_events_unfinished";
}

/// The label of an event's type: itself where it is one of `known`, else `other`.
///
/// Types come from outside, and every new value of a label is a new series for good: whoever can sign a
/// webhook could fill the memory of this process and of the Prometheus behind it. `known` is commonly the list
/// of types that a handler is registered for.
pub fn event_type_label(known: &[&'static str], event_type: &str) -> &'static str {
    known.iter().find(|known| **known == event_type).copied().unwrap_or("other")
}

/// Starts recording metrics for the whole process, and gives the handle that renders them.
///
/// No listener comes with it: `ops` serves what the handle renders.
///
/// # Errors
///
/// The process records its metrics elsewhere already.
pub fn recorder() -> Result<PrometheusHandle, Error> {
    let handle = builder()?.install_recorder()?;
    describe();
    Ok(handle)
}

/// With fixed buckets, histograms of several processes can be added up, which quantiles can't.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    // From a commit on a local disk to the ten seconds that a delivery waits out an outage, and beyond.
    const ACK: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];
    // From a lookup to the download of a large batch.
    const ATTEMPT: &[f64] = &[0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0];
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(metric::ACK_SECONDS.to_owned()), ACK)?
        .set_buckets_for_metric(Matcher::Full(metric::ATTEMPT_SECONDS.to_owned()), ATTEMPT)
}

fn describe() {
    use metric::*;

    describe_counter!(DELIVERIES_TOTAL, Unit::Count, "Deliveries answered, by answer");
    describe_histogram!(ACK_SECONDS, Unit::Seconds, "From the head of a delivery to its answer");
    describe_counter!(CLAIMS_TOTAL, Unit::Count, "Events claimed");
    describe_counter!(ATTEMPTS_TOTAL, Unit::Count, "Attempts that ended, by outcome");
    describe_histogram!(ATTEMPT_SECONDS, Unit::Seconds, "How long an attempt took, by event_type");
    describe_counter!(LOST_LEASES_TOTAL, Unit::Count, "Attempts that ended after their lease was lost");
    describe_counter!(RESULTS_ROWS_TOTAL, Unit::Count, "Batch results stored");
    describe_counter!(RESULTS_BYTES_TOTAL, Unit::Bytes, "Bytes of batch results stored");
    describe_counter!(LOG_LINES_DROPPED_TOTAL, Unit::Count, "Log lines dropped since nobody read them");
    describe_gauge!(OLDEST_UNFINISHED_EVENT_SECONDS, Unit::Seconds, "Age of the oldest unfinished event");
    describe_gauge!(
        EVENTS_UNFINISHED,
        Unit::Count,
        "Events that are not finished, by status, each counted up to about 10,000"
    );
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A pipe that keeps what is written to it.
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
    fn every_crate_that_logs_is_capped_or_known_to_see_no_secret() {
        // The log's own crates, this one, and those that are built for tests or for other systems only.
        const EXEMPT: [&str; 8] = [
            "generator",
            "iana-time-zone",
            "jni",
            "loom",
            "restante",
            "tracing",
            "tracing-log",
            "tracing-subscriber",
        ];
        let lock = include_str!("../Cargo.lock");

        let mut logging = 0;
        for package in lock.split("[[package]]").skip(1) {
            let name = package.split('"').nth(1).unwrap();
            let logs = package.lines().any(|line| {
                let dependency = line.trim_matches([' ', '"', ',']);
                line.starts_with(" \"") && matches!(dependency.split(' ').next(), Some("log" | "tracing"))
            });
            if logs && !EXEMPT.contains(&name) {
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

    #[test]
    fn metrics_are_rendered_with_their_help_and_in_buckets() {
        let recorder = builder().unwrap().build_recorder();

        metrics::with_local_recorder(&recorder, || {
            describe();
            metrics::counter!(metric::DELIVERIES_TOTAL, "answer" => "204").increment(3);
            metrics::histogram!(metric::ACK_SECONDS).record(0.004);
            metrics::gauge!(metric::EVENTS_UNFINISHED, "status" => "dead").set(1.0);
        });

        let text = recorder.handle().render();
        for line in [
            "# HELP restante_deliveries_total Deliveries answered, by answer",
            "# TYPE restante_deliveries_total counter",
            "restante_deliveries_total{answer=\"204\"} 3",
            "# TYPE restante_ack_seconds histogram",
            "restante_ack_seconds_bucket{le=\"0.0025\"} 0",
            "restante_ack_seconds_bucket{le=\"0.005\"} 1",
            "restante_events_unfinished{status=\"dead\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn an_unknown_event_type_gets_no_label_of_its_own() {
        let known = ["session.created", "session.deleted"];

        assert_eq!(event_type_label(&known, "session.deleted"), "session.deleted");
        assert_eq!(event_type_label(&known, "session.made_up"), "other");
    }
}
