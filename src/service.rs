//! What both services do around their engine: read the environment, log, answer the ops listener, obey signals.
//!
//! The only module of the library that reads the environment and waits for signals; it decides nothing. A worker with
//! handlers of its own calls [`worker()`] and has everything that `restante-worker` has.

mod readiness;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::config::{
    self, Faults, Loaded, Log, Need, Program, RESTANTE_OPS_LISTEN, ReadFile, about, help_for,
};
use crate::ops::{self, Check, Note};
use crate::outbox::trouble;
use crate::registry::Registry;
use crate::{api, database, telemetry, worker};

/// What `restante-worker` was told by its variables, as a worker of your own gets it.
pub use crate::config::Worker as Config;

/// How long a service waits at its start for a database that is starting too.
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);

/// Runs a service from its variables to its exit code.
///
/// `--help` and `--version` are answered; a wrong or missing variable ends it with status 2 and every fault at once. `run`
/// gets what [`stop_on_signal`] gives; to be told to stop is no failure, however early.
#[doc(hidden)]
pub fn main<C, F>(
    program: Program,
    from_vars: impl FnOnce(Vec<(String, String)>, ReadFile<'_>) -> Result<Loaded<C>, Faults>,
    log: impl FnOnce(&C) -> Log,
    run: impl FnOnce(C, CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    // Before anything else: whoever starts many programs may change their mind within the first milliseconds.
    let (runtime, stop) = match runtime(threads(program)) {
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
    let loaded = match from_vars(environment(), &|path: &Path| std::fs::read_to_string(path)) {
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
    let ended = runtime.block_on(run(loaded.config, stop));
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

/// Runs a worker with these handlers, from the variables of `restante-worker` to the exit code. It is all that `main` has
/// to do:
///
/// ```no_run
/// # use restante::handler::{self, Context, Handler};
/// # use restante::{registry::Registry, service};
/// # struct ReserveStock;
/// # impl Handler for ReserveStock {
/// #     const EVENT_TYPES: &'static [&'static str] = &["order.placed"];
/// #     type Payload = serde_json::Value;
/// #     async fn handle(&self, _: &mut Context<'_>, _: Self::Payload) -> handler::Result { Ok(()) }
/// # }
/// fn main() -> std::process::ExitCode {
///     service::worker(async |_config, _pool| Ok(Registry::new().subscribe("orders", ReserveStock)))
/// }
/// ```
///
/// `registry` is called once, when the database answers and has the schema of this library; what it says went wrong ends
/// the program. It is the place for migrations and clients of the worker's own.
pub fn worker(registry: impl AsyncFnOnce(&config::Worker, &PgPool) -> anyhow::Result<Registry>) -> ExitCode {
    main(
        Program::Worker,
        config::Worker::from_vars,
        |config| config.log.clone(),
        |config, stop| work(config, stop, registry),
    )
}

async fn work(
    config: config::Worker,
    stop: CancellationToken,
    registry: impl AsyncFnOnce(&config::Worker, &PgPool) -> anyhow::Result<Registry>,
) -> anyhow::Result<()> {
    let url = &config.worker.database_url;
    let pool = database(url, "restante-worker", config.database_connections, &stop).await?;
    let ended = CancellationToken::new();
    let _primary = database::keep_on_primary(&pool, url)?;
    let notes = vec![note_of_trouble(pool.clone())];
    serve_ops_with(notes, Program::Worker, config.ops_listen, pool.clone(), stop.clone(), ended.clone())
        .await?;

    let registry = registry(&config, &pool).await?;
    telemetry::start_worker_at_zero(&registry.event_types().collect::<Vec<_>>());
    tracing::info!(base_url = %config.api.base_url, "the Claude API is called");
    let api = api::Client::new(config.api)?;
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| format!("worker-{}", std::process::id()));
    worker::run(worker::Settings { name, ..config.worker }, pool, registry, api, stop).await?;
    ended.cancel();
    Ok(())
}

/// Every variable that is text.
#[doc(hidden)]
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
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

/// Where the tasks of a service run, and the token that a signal cancels.
fn runtime(threads: usize) -> anyhow::Result<(Runtime, CancellationToken)> {
    // One TLS provider for the whole process; without one the first connection would panic.
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let stop = {
        let _inside = runtime.enter();
        stop_on_signal()?
    };
    Ok((runtime, stop))
}

/// A token that is cancelled by SIGTERM or SIGINT. A second one ends the process at once, with status 130. SIGHUP, SIGUSR1 and
/// SIGUSR2, by which a terminal that goes away or a rotation of logs would end it, end nothing.
///
/// # Errors
/// Where signals cannot be waited for.
#[doc(hidden)]
pub fn stop_on_signal() -> io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    for kind in [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()] {
        let mut ignored = signal(kind)?;
        tokio::spawn(async move {
            while ignored.recv().await.is_some() {
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

/// Binds an address. The error names the variable and the address.
///
/// # Errors
/// Where the address is taken or not ours.
#[doc(hidden)]
pub async fn bind(variable: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{variable}: cannot listen on {address}"))
}

/// A pool on a database that answers and has the schema of this program. Waits a minute for one that is starting.
///
/// # Errors
/// What is wrong with the database, and what to do about it.
#[doc(hidden)]
pub async fn database(
    url: &secrecy::SecretString,
    name: &str,
    connections: u32,
    stop: &CancellationToken,
) -> anyhow::Result<PgPool> {
    let pool = database::pool(url, name, connections)?;
    let unused = database::servers(secrecy::ExposeSecret::expose_secret(url)).map(|servers| servers.unused);
    if let Ok(unused) = unused
        && !unused.is_empty()
    {
        tracing::warn!("DATABASE_URL: these parameters mean nothing here: {}", unused.join(", "));
    }
    let _primary = database::keep_on_primary(&pool, url)?;
    tokio::select! {
        ready = database::ready(&pool, DATABASE_PATIENCE) => ready?,
        () = stop.cancelled() => return Err(ToldToStop.into()),
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        schema = database::schema_version_known(),
        database = database::place(&pool),
        connections,
        "{name} {} has its database",
        env!("CARGO_PKG_VERSION")
    );
    Ok(pool)
}

/// Why a program ends before it has begun.
#[derive(Debug, thiserror::Error)]
#[error("told to stop before the database answered")]
struct ToldToStop;

/// How many files this process may have open, where the system says so. Each connection is one.
#[doc(hidden)]
pub fn open_files_max() -> Option<usize> {
    open_files_of(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn open_files_of(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Where services answer unless they are told otherwise, as the table of variables says.
fn ops_defaults() -> Vec<String> {
    let needs = RESTANTE_OPS_LISTEN.facts.read_by.iter();
    needs
        .filter_map(|(_, need)| match need {
            Need::Default(address) => Some((*address).to_owned()),
            _ => None,
        })
        .collect()
}

/// The ops listener. Nobody asked for the default address, so a second worker on one machine is not refused over it:
/// then there is none, and a warning that says how to have one.
async fn bind_ops(address: SocketAddr, defaults: &[String]) -> anyhow::Result<Option<TcpListener>> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && defaults.contains(&address.to_string()) => {
            tracing::warn!(
                %address,
                "somebody else answers at the default address: no /livez, /readyz and /metrics here. \
                 Give this process a RESTANTE_OPS_LISTEN of its own"
            );
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("RESTANTE_OPS_LISTEN: cannot listen on {address}")),
    }
}

/// Answers the ops listener in the background until `ended` is cancelled. `draining` makes the service not ready, and so does
/// whatever keeps it from its work.
///
/// # Errors
/// Where the address is taken, unless it is the default one; or metrics are recorded elsewhere.
#[doc(hidden)]
pub async fn serve_ops(
    program: Program,
    address: SocketAddr,
    pool: PgPool,
    draining: CancellationToken,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    serve_ops_with(Vec::new(), program, address, pool, draining, ended).await
}

/// What waits because something is wrong with us, or with the API, in one line.
fn note_of_trouble(pool: PgPool) -> Note {
    Note::new("trouble", move || {
        let pool = pool.clone();
        async move {
            let (cause, events) = trouble::most_frequent(&pool).await.ok().flatten()?;
            let noun = if events == 1 { "event waits" } else { "events wait" };
            Some(format!("{events} {noun} because of us: {cause}").into())
        }
    })
}

async fn serve_ops_with(
    notes: Vec<Note>,
    program: Program,
    address: SocketAddr,
    pool: PgPool,
    draining: CancellationToken,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let Some(listener) = bind_ops(address, &ops_defaults()).await? else { return Ok(()) };
    tracing::info!(address = %listener.local_addr()?, "answering /livez, /readyz and /metrics");
    let checks = vec![readiness::check(program, pool), Check::not_draining(draining)];
    let recorder = telemetry::recorder()?;
    telemetry::note_build(env!("CARGO_PKG_VERSION"), database::schema_version_known());
    tokio::spawn(async move {
        if let Err(error) = ops::serve(listener, checks, notes, recorder, Router::new(), ended).await {
            tracing::error!(%error, "the ops listener has ended");
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_a_default_ops_address_of_its_own() {
        assert_eq!(ops_defaults(), ["127.0.0.1:9091", "127.0.0.1:9092"]);
    }

    #[tokio::test]
    async fn a_second_process_at_the_default_ops_address_goes_on_without_and_at_another_it_is_refused() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();

        assert!(bind_ops(address, &[address.to_string()]).await.unwrap().is_none());
        let refused = bind_ops(address, &["127.0.0.1:1".to_owned()]).await.unwrap_err();
        assert!(refused.to_string().starts_with("RESTANTE_OPS_LISTEN: cannot listen on"), "{refused}");
    }

    #[test]
    fn the_limit_of_open_files_is_the_one_in_force() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             unlimited            unlimited            processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files_of(limits), Some(1024));
        assert_eq!(open_files_of("Max open files            unlimited   unlimited   files"), None);
        assert_eq!(open_files_of(""), None);
    }

    #[test]
    fn the_usual_settings_of_a_worker_are_the_defaults_of_its_variables() {
        let variables = [("DATABASE_URL", "postgres://localhost/x"), ("ANTHROPIC_API_KEY", "sk-key")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let no_files = |_: &Path| Err(io::ErrorKind::NotFound.into());
        let config = config::Worker::from_vars(variables, &no_files).unwrap().config;

        let usual = worker::Settings::new("worker", config.worker.database_url);

        assert_eq!(
            (usual.concurrency, usual.lease, usual.drain),
            (config.worker.concurrency, config.worker.lease, config.worker.drain)
        );
    }
}
