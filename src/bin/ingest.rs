//! `restante-ingest`: receives signed webhooks and commits each to the outbox before it answers 2xx.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use restante::database::Address;
use restante::internals::config::{Ingest, Program, RESTANTE_LISTEN};
use restante::internals::ingest::{self, Journal, OutboxStore, Sender, Senders};
use restante::internals::signature::Keys;
use restante::internals::telemetry;
use restante::service::{Reload, Replaced};
use restante::{database, service};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    service::main(Program::Ingest, Ingest::from_vars, |config| config.log.clone(), run)
}

async fn run(mut config: Ingest, stop: CancellationToken, reload: Reload<Ingest>) -> anyhow::Result<()> {
    let listener = service::bind(RESTANTE_LISTEN.facts.name, config.listen).await?;
    let journal = config.journal_dir.take().map(|folder| Journal::open(&folder, config.journal_bytes_max));
    let journal = journal.transpose()?;
    let (address, mut login) = Address::new(config.database_url.clone());
    let (name, connections) = ("restante-ingest", config.database_connections);
    let pool = match &journal {
        None => service::database(&address, name, connections, &stop).await?,
        Some(journal) => service::database_or_journal(&address, name, connections, journal, &stop).await?,
    };
    let ended = CancellationToken::new();
    let _kept = database::keep_at(&pool, &address)?;
    let configuration = (reload.standing(), login.waiting());
    let (ops_stop, ops_end) = (stop.clone(), ended.clone());
    service::serve_ingest_ops(
        config.ops_listen,
        pool.clone(),
        journal.clone(),
        configuration,
        ops_stop,
        ops_end,
    )
    .await?;
    telemetry::start_ingest_at_zero(config.senders.iter().map(|sender| sender.name.as_str()));
    config.limits.max_connections = max_connections(&config);
    let schemes = schemes(&config.senders);
    tracing::info!(address = %listener.local_addr()?, schemes, "receiving deliveries");

    let (senders, replace) = Senders::new(config.senders);
    reload.start(stop.clone(), move |config| {
        login.offer(config.database_url);
        Ok(replaced(&replace, config.senders))
    });
    let machine = service::machine();
    let settings = ingest::Settings { limits: config.limits, senders, now: unix_seconds, journal, machine };
    let store = OutboxStore::new(pool.clone(), &service::name("ingest"), ended.clone());
    let drained = ingest::run(settings, listener, store, stop).await;
    ended.cancel();
    pool.close().await;
    anyhow::ensure!(
        drained,
        "some requests or commits did not end within RESTANTE_DRAIN_SECONDS and were cut; their senders got no 2xx"
    );
    Ok(())
}

/// Replaces the senders where they differ.
fn replaced(replace: &watch::Sender<Arc<[Sender]>>, senders: Vec<Sender>) -> Option<Replaced> {
    if **replace.borrow() == senders[..] {
        return None;
    }
    let names: Vec<_> = senders.iter().map(|sender| sender.name.clone()).collect();
    telemetry::start_ingest_at_zero(names.iter().map(String::as_str));
    let after = ingest::keys(&senders);
    let before = replace.send_replace(senders.into());
    Some(Replaced { names, before: ingest::keys(&before), after })
}

/// The schemes that are on. With several senders, each scheme list follows the name of its sender.
fn schemes(senders: &[Sender]) -> String {
    let of = |sender: &Sender| {
        let Keys { standard, svix, older } = &sender.keys;
        let on = [("standard", standard), ("svix", svix), ("older", older)];
        let on: Vec<_> =
            on.into_iter().filter(|(_, keys)| !keys.is_empty()).map(|(scheme, _)| scheme).collect();
        on.join(", ")
    };
    match senders {
        [sender] => of(sender),
        _ => senders
            .iter()
            .map(|sender| format!("{}: {}", sender.name, of(sender)))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// The configured number of connections, or fewer if the limit of open files is lower. An HTTP connection that is not
/// accepted yet only waits, but if no file can be opened, a connection to the database may fail.
fn max_connections(config: &Ingest) -> usize {
    /// Listeners, the log, the ops pages, and the connections that a pool is replacing.
    const OTHER_FILES: usize = 32;
    let Some(files) = service::open_files_max() else { return config.limits.max_connections };
    let others = OTHER_FILES + config.database_connections as usize;
    let room = files.saturating_sub(others).max(1);
    if room < config.limits.max_connections {
        tracing::info!(
            connections = room,
            open_files = files,
            "ingest accepts fewer connections than RESTANTE_MAX_CONNECTIONS says, because of the limit of open files: \
             raise `ulimit -n`, or LimitNOFILE of systemd"
        );
    }
    room.min(config.limits.max_connections)
}

fn unix_seconds() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}
