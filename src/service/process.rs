//! A process around a service: its arguments, its threads, its signals and its exit code.

use std::future::Future;
use std::io;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::reload::{FromVars, Reload};
use crate::config::{Log, Program, about, help_for};
use crate::telemetry::{SendTraces, TraceError};
use crate::{database, telemetry};

/// Runs a service from its variables to its exit code.
///
/// `--help` and `--version` are answered; a wrong or missing variable ends it with status 2 and every fault at once. `run`
/// gets what [`stop_on_signal`] gives; to be told to stop is no failure, however early. It gets the way to read the
/// configuration again, too.
pub fn main<C, F>(
    program: Program,
    from_vars: FromVars<C>,
    log: impl FnOnce(&C) -> Log,
    run: impl FnOnce(C, CancellationToken, Reload<C>) -> F,
) -> ExitCode
where
    C: Send + 'static,
    F: Future<Output = anyhow::Result<()>>,
{
    // Before anything else: whoever starts many programs may change their mind within the first milliseconds.
    let (runtime, stop, at_once) = match runtime(threads(program)) {
        Ok(started) => started,
        Err(error) => {
            eprintln!("{program} cannot start: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--help" | "-h") => {
            print!("{}{}", about(program), help_for(program));
            return ExitCode::SUCCESS;
        }
        Some("--version" | "-V") => {
            println!("{program} {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some(_) => {
            eprintln!("{program} takes no arguments, only variables: see {program} --help");
            return ExitCode::from(2);
        }
    }
    let mut reload = Reload::new(program, from_vars, at_once);
    let loaded = match reload.read() {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(2);
        }
    };
    let log = log(&loaded.config);
    let _flush = match telemetry::init(log.format, &log.filter) {
        Ok(flush) => flush,
        Err(error) => {
            eprintln!("{program} cannot log: {error}");
            return ExitCode::from(2);
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let traces = match traces(program, &log, &runtime) {
        Ok(traces) => traces,
        Err(error) => {
            tracing::error!("{program} ends: {}", database::told(&error));
            return ExitCode::from(2);
        }
    };
    let ended = runtime.block_on(run(loaded.config, stop, reload));
    // By tasks of the runtime.
    drop(traces);
    // A handler that blocks its thread must not keep the process from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<ToldToStop>() => {
            tracing::info!("{program} ends: {error}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{program} ends: {}", database::told(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// What this process is called among others: the name of its host or container, or `kind` and its number.
pub fn name(kind: &str) -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| format!("{kind}-{}", std::process::id()))
}

/// Begins to send traces, if there is a collector for them.
fn traces(program: Program, log: &Log, runtime: &Runtime) -> Result<Option<SendTraces>, TraceError> {
    let is_disabled =
        std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    let Some(collector) = log.collector.as_ref().filter(|_| !is_disabled) else { return Ok(None) };
    let name = std::env::var("OTEL_SERVICE_NAME").is_err().then(|| program.to_string());
    let traces = telemetry::send_traces(name, runtime.handle().clone())?;
    tracing::info!(%collector, "traces go to a collector");
    Ok(Some(traces))
}

/// How many threads a program's tasks share. A handler may block one, so a worker has some to spare. Nothing in ingest blocks,
/// and a delivery that goes from thread to thread on its way waits for each to wake up: with one thread instead of four on
/// two cores, a lone one was answered a fifth sooner.
fn threads(program: Program) -> usize {
    let cores = std::thread::available_parallelism().map_or(4, NonZero::get);
    match program {
        Program::Ingest => (cores / 2).max(1),
        _ => cores.max(4),
    }
}

/// Where the tasks of a service run, the token that a signal cancels, and what SIGHUP wakes.
fn runtime(threads: usize) -> anyhow::Result<(Runtime, CancellationToken, Arc<Notify>)> {
    // One TLS provider for the whole process; without one the first connection would panic.
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let at_once = Arc::new(Notify::new());
    let stop = {
        let _inside = runtime.enter();
        on_signal(Some(Arc::clone(&at_once)))?
    };
    Ok((runtime, stop, at_once))
}

/// A token that is cancelled by SIGTERM or SIGINT. A second one ends the process at once, with status 130. SIGHUP, SIGUSR1 and
/// SIGUSR2, by which a terminal that goes away or a rotation of logs would end it, end nothing.
///
/// # Errors
/// Where signals cannot be waited for.
pub fn stop_on_signal() -> io::Result<CancellationToken> {
    on_signal(None)
}

/// The same; a SIGHUP wakes whoever waits for `at_once`.
fn on_signal(at_once: Option<Arc<Notify>>) -> io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    for kind in [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()] {
        let mut ignored = signal(kind)?;
        let at_once = at_once.clone().filter(|_| kind == SignalKind::hangup());
        tokio::spawn(async move {
            while ignored.recv().await.is_some() {
                if let Some(at_once) = &at_once {
                    at_once.notify_one();
                    continue;
                }
                tracing::info!(
                    signal = kind.as_raw_value(),
                    "there is nothing to read anew; SIGTERM stops the program"
                );
            }
        });
    }
    tokio::spawn(async move {
        for second in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if second {
                tracing::warn!("told to stop twice: ending without waiting");
                std::process::exit(130);
            }
            tracing::info!("told to stop");
            token.cancel();
        }
    });
    Ok(stop)
}

/// Why a program ends before it has begun.
#[derive(Debug, thiserror::Error)]
#[error("told to stop before the database answered")]
pub(super) struct ToldToStop;

/// How many files this process may have open, where the system says so. Each connection is one.
pub fn open_files_max() -> Option<usize> {
    open_files_of(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn open_files_of(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_the_one_in_force() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             unlimited            unlimited            processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files_of(limits), Some(1024));
        assert_eq!(open_files_of("Max open files            unlimited   unlimited   files"), None);
        assert_eq!(open_files_of(""), None);
    }
}
