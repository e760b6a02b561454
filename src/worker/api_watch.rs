//! Checks the API when a worker starts, and when the API answers again after trouble. Logs what is wrong in one line.

use std::future::pending;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::event::ANTHROPIC;

/// Checks each account, and logs what is wrong, until `stop`.
pub(super) async fn run(accounts: api::Accounts, stop: CancellationToken) {
    let mut changes = accounts.changes();
    loop {
        let names = accounts.names();
        let is_only_one = names == [ANTHROPIC];
        let watches = names.iter().filter_map(|name| {
            let api = accounts.client(name)?;
            Some(watch(api, (!is_only_one).then_some(name)))
        });
        tokio::select! {
            () = stop.cancelled() => return,
            // The configuration was read again: each account is checked as at the start.
            _ = changes.changed() => {}
            () = async { join_all(watches).await; pending().await } => {}
        }
    }
}

/// Checks one account. The lines name it, unless there is only `anthropic`.
async fn watch(api: api::Client, account: Option<&String>) {
    let mut recoveries = api.recoveries();
    look(&api, account).await;
    while recoveries.changed().await.is_ok() {
        look(&api, account).await;
    }
}

/// How long a check may take. Attempts run meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lists one batch: that is free of charge, and it is the call a worker needs most.
async fn look(api: &api::Client, account: Option<&String>) {
    let (error, advice) = match timeout(PATIENCE, api.batches(None, 1)).await {
        Ok(Ok(_)) => return tracing::info!(account, "the API accepts the key"),
        // Others have the places that its limit leaves, so it answers.
        Ok(Err(api::Error::OutOfTurn { .. })) => return,
        Ok(Err(error)) => {
            let advice = error.advice();
            (format!("{:#}", anyhow::Error::from(error)), advice)
        }
        Err(_) => ("it has not answered within 10 s".to_owned(), "check ANTHROPIC_BASE_URL"),
    };
    tracing::error!(account, error, advice, "the check of the API failed; the worker goes on");
}
