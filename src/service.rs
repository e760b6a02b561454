//! What both services do around their engine: read the environment, log, answer the ops listener, obey signals.
//!
//! The only module of the library that reads the environment and waits for signals; it decides nothing. A worker with
//! handlers of its own calls [`worker()`] and has everything that `restante-worker` has.

mod listening;
mod message_stream;
mod process;
mod readiness;
mod reload;
mod standing;
mod watched;

use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use secrecy::ExposeSecret;
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Program, RESTANTE_OPS_DATABASE_URL, RESTANTE_OPS_USERS, RESTANTE_STREAM_TOKEN};
use crate::database::Address;
use crate::ingest::Journal;
use crate::registry::Registry;
use crate::{api, database, handlers, page, telemetry, worker};

/// What `restante-worker` was told by its variables, as a worker of your own gets it.
pub use crate::config::Worker as Config;

#[doc(hidden)]
pub use listening::{bind, serve_ingest_ops};
#[doc(hidden)]
pub use process::{main, name, open_files_max, stop_on_signal};
#[doc(hidden)]
pub use reload::{FromVars, Reload, Replaced, environment};
#[doc(hidden)]
pub use standing::Standing;

use listening::serve_worker_ops;
use process::ToldToStop;

/// How long a service waits at its start for a database that is starting too.
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);

/// The same where a journal can take its place. Senders wait meanwhile.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(1);

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
        |config, stop, reload| work(config, stop, reload, registry),
    )
}

async fn work(
    config: config::Worker,
    stop: CancellationToken,
    reload: Reload<config::Worker>,
    registry: impl AsyncFnOnce(&config::Worker, &PgPool) -> anyhow::Result<Registry>,
) -> anyhow::Result<()> {
    let (address, mut login) = Address::new(config.worker.database_url.now());
    let pool = database(&address, "restante-worker", config.database_connections, &stop).await?;
    let ended = CancellationToken::new();
    let _kept = database::keep_at(&pool, &address)?;
    let token = config.stream_token.as_ref().map(message_stream::Token::new);
    let more = match &token {
        Some(token) => message_stream::router(&address, token.clone())?,
        None => Router::new(),
    };
    let users = page::Users::new(config.ops_users.clone());
    let own =
        config.ops_database_url.clone().map(|url| Address::of(RESTANTE_OPS_DATABASE_URL.facts.name, url));
    let (of_page, mut login_of_page) = own.unzip();
    let more = more.merge(page::router(page::Settings {
        address: of_page.unwrap_or_else(|| address.clone()),
        users: users.clone(),
        replay: config.ops_replay,
        listens_at: config.ops_listen,
    })?);
    let configuration = (reload.standing(), login.waiting());
    serve_worker_ops(config.ops_listen, pool.clone(), more, configuration, stop.clone(), ended.clone())
        .await?;

    let registry = registry(&config, &pool).await?;
    telemetry::start_worker_at_zero(
        &registry.event_types().collect::<Vec<_>>(),
        &handlers::resource_kinds().collect::<Vec<_>>(),
    );
    for account in &config.accounts {
        tracing::info!(account = account.name, base_url = %account.settings.base_url, "the Claude API is called");
    }
    let mut accounts = config.accounts.clone();
    let api = api::Accounts::new(config.accounts)?;
    reload.start(stop.clone(), {
        let api = api.clone();
        move |config| {
            login.offer(config.worker.database_url.now());
            if let Some((login, url)) = login_of_page.as_mut().zip(config.ops_database_url) {
                login.offer(url);
            }
            let mut replaced = Replaced::default();
            // First what may fail, so that nothing of a configuration is in force of which it is said that the former one is.
            if config.accounts != accounts {
                let [before, after] =
                    [&accounts, &config.accounts].map(|accounts| api::keys_of_accounts(accounts));
                api.replace(config.accounts.clone())?;
                accounts = config.accounts;
                replaced = Replaced { names: api.names(), before, after };
            }
            if users.replace(config.ops_users) {
                replaced.names.push(RESTANTE_OPS_USERS.facts.name.to_owned());
            }
            if token.as_ref().zip(config.stream_token).is_some_and(|(token, new)| token.replace(&new)) {
                replaced.names.push(RESTANTE_STREAM_TOKEN.facts.name.to_owned());
            }
            Ok(Some(replaced).filter(|replaced| !replaced.names.is_empty()))
        }
    });
    let settings = worker::Settings { name: name("worker"), database_url: address, ..config.worker };
    worker::run(settings, pool, registry, api, stop).await?;
    ended.cancel();
    Ok(())
}

/// What this machine, or its container, is called.
#[doc(hidden)]
pub fn machine() -> String {
    let told = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    told.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "-".to_owned())
}

/// A pool on a database that answers and has the schema of this program. Waits a minute for one that is starting.
///
/// # Errors
/// What is wrong with the database, and what to do about it.
#[doc(hidden)]
pub async fn database(
    address: &Address,
    name: &str,
    connections: u32,
    stop: &CancellationToken,
) -> anyhow::Result<PgPool> {
    let pool = pool(address, name, connections)?;
    let _kept = database::keep_at(&pool, address)?;
    tokio::select! {
        ready = database::ready(&pool, DATABASE_PATIENCE) => ready?,
        () = stop.cancelled() => return Err(ToldToStop.into()),
    }
    tell_of(&pool, name, connections);
    Ok(pool)
}

/// The same for an ingest with a journal, which takes deliveries without a database too: if it does not answer within a moment, the
/// journal is turned on.
///
/// # Errors
/// What is wrong with the database, and what to do about it, unless it is that it does not answer.
#[doc(hidden)]
pub async fn database_or_journal(
    address: &Address,
    name: &str,
    connections: u32,
    journal: &Journal,
    stop: &CancellationToken,
) -> anyhow::Result<PgPool> {
    let pool = pool(address, name, connections)?;
    let _kept = database::keep_at(&pool, address)?;
    let ready = tokio::select! {
        ready = timeout(2 * JOURNAL_PATIENCE, database::ready(&pool, JOURNAL_PATIENCE)) => ready,
        () = stop.cancelled() => return Err(ToldToStop.into()),
    };
    match ready {
        Ok(Ok(())) => tell_of(&pool, name, connections),
        Ok(Err(error @ database::Error::Unreachable(_))) => {
            tracing::warn!(error = database::told(&error), "{name} starts without its database");
            journal.turn_on().await;
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => {
            tracing::warn!("{name} starts without its database, which does not answer");
            journal.turn_on().await;
        }
    }
    Ok(pool)
}

fn pool(address: &Address, name: &str, connections: u32) -> anyhow::Result<PgPool> {
    let url = address.now();
    let pool = database::pool(&url, name, connections)?;
    let unused = database::servers(url.expose_secret()).map(|servers| servers.unused);
    if let Ok(unused) = unused
        && !unused.is_empty()
    {
        tracing::warn!("DATABASE_URL: these parameters mean nothing here: {}", unused.join(", "));
    }
    Ok(pool)
}

fn tell_of(pool: &PgPool, name: &str, connections: u32) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        schema = database::schema_version_known(),
        database = database::place(pool),
        connections,
        "{name} {} has its database",
        env!("CARGO_PKG_VERSION")
    );
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

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
