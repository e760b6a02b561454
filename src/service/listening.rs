//! The ops listener of a service: `/livez`, `/readyz` and `/metrics`.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use chrono::Utc;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::readiness;
use super::standing::Standing;
use crate::config::{Need, Program, RESTANTE_OPS_LISTEN};
use crate::database::Waiting;
use crate::event::ANTHROPIC;
use crate::ingest::Journal;
use crate::ops::{self, Check, Note};
use crate::outbox::trouble::{self, Cause};
use crate::outbox::{breaker, budget, health};
use crate::{database, telemetry};

/// Binds an address. The error names the variable and the address.
///
/// # Errors
/// Where the address is taken or not ours.
pub async fn bind(variable: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{variable}: cannot listen on {address}"))
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

/// Answers the ops listener of ingest in the background until `ended` is cancelled. `draining` makes it not ready, and so does
/// whatever keeps it from taking deliveries. A journal that takes events makes up for a database that does not. `configuration` says
/// what of the files, and which login of the database, is not in force.
///
/// # Errors
/// Where the address is taken, unless it is the default one; or metrics are recorded elsewhere.
pub async fn serve_ingest_ops(
    address: SocketAddr,
    pool: PgPool,
    journal: Option<Journal>,
    configuration: (Standing, Waiting),
    draining: CancellationToken,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let mut check = readiness::check(Program::Ingest, pool);
    let (standing, login) = configuration;
    let mut notes = vec![standing.note(login)];
    if let Some(journal) = journal {
        let makes_up = journal.clone();
        check = check.or_else(move || !makes_up.backlog().is_full);
        notes.push(Note::new("journal", move || {
            let told = journal.backlog().told(Utc::now());
            std::future::ready(told.map(Into::into))
        }));
    }
    serve_ops(check, Shown { notes, more: Router::new() }, address, draining, ended).await
}

/// The same for a worker.
pub(super) async fn serve_worker_ops(
    address: SocketAddr,
    pool: PgPool,
    more: Router,
    configuration: (Standing, Waiting),
    draining: CancellationToken,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let (standing, login) = configuration;
    let notes = vec![
        note_of_trouble(pool.clone()),
        note_of_breakers(pool.clone()),
        note_of_calls(pool.clone()),
        note_of_alarms(pool.clone()),
        standing.note(login),
    ];
    let shown = Shown { notes, more };
    serve_ops(readiness::check(Program::Worker, pool), shown, address, draining, ended).await
}

/// What waits because something is wrong with us, or with the API, in one line.
fn note_of_trouble(pool: PgPool) -> Note {
    Note::new("trouble", move || {
        let pool = pool.clone();
        async move {
            let Cause { text, account, events } = trouble::most_frequent(&pool).await.ok().flatten()?;
            let noun = if events == 1 { "event waits" } else { "events wait" };
            let of_account = account
                .filter(|account| account != ANTHROPIC)
                .map_or_else(String::new, |account| format!(" (account `{account}`)"));
            Some(format!("{events} {noun} because of us{of_account}: {text}").into())
        }
    })
}

/// The accounts whom the API does not answer, in one line.
fn note_of_breakers(pool: PgPool) -> Note {
    Note::new("api", move || {
        let pool = pool.clone();
        async move {
            let open = breaker::open_ones(&pool).await.ok()?;
            (!open.is_empty())
                .then(|| format!("what needs the API is not claimed: {}", open.join("; ")).into())
        }
    })
}

/// How many calls go to the API, in one line.
fn note_of_calls(pool: PgPool) -> Note {
    Note::new("calls", move || {
        let pool = pool.clone();
        async move {
            let used = budget::in_words(&pool).await.ok()?;
            (!used.is_empty()).then(|| used.join("; ").into())
        }
    })
}

/// The alarms that are raised, in one line.
fn note_of_alarms(pool: PgPool) -> Note {
    Note::new("health", move || {
        let pool = pool.clone();
        async move {
            let alarms = health::open_alarms(&pool).await.ok()?;
            (!alarms.is_empty()).then(|| format!("act on {}: see restante.health", alarms.join(", ")).into())
        }
    })
}

/// What the ops listener of a service shows beside what every one shows.
struct Shown {
    notes: Vec<Note>,
    more: Router,
}

async fn serve_ops(
    check: Check,
    shown: Shown,
    address: SocketAddr,
    draining: CancellationToken,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let Shown { notes, more } = shown;
    let Some(listener) = bind_ops(address, &ops_defaults()).await? else { return Ok(()) };
    tracing::info!(address = %listener.local_addr()?, "answering /livez, /readyz and /metrics");
    let checks = vec![check, Check::not_draining(draining)];
    let recorder = telemetry::recorder()?;
    telemetry::start_configuration_at_zero();
    telemetry::note_build(env!("CARGO_PKG_VERSION"), database::schema_version_known());
    tokio::spawn(async move {
        if let Err(error) = ops::serve(listener, checks, notes, recorder, more, ended).await {
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
}
