//! Checks the API when a worker starts, and when the API answers again after trouble. Logs what is wrong in one line.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::event::ANTHROPIC;

/// Checks, and logs what is wrong, until `stop`.
pub(super) async fn run(accounts: api::Accounts, stop: CancellationToken) {
    let Some(api) = accounts.client(ANTHROPIC) else { return };
    let watch = async {
        let mut recoveries = api.recoveries();
        look(&api).await;
        while recoveries.changed().await.is_ok() {
            look(&api).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = watch => {}
    }
}

/// How long a check may take. Attempts run meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lists one batch: that is free of charge, and it is the call a worker needs most.
async fn look(api: &api::Client) {
    let (error, advice) = match timeout(PATIENCE, api.batches(None, 1)).await {
        Ok(Ok(_)) => return tracing::info!("the API accepts the key"),
        Ok(Err(error)) => {
            let advice = error.advice();
            (format!("{:#}", anyhow::Error::from(error)), advice)
        }
        Err(_) => ("it has not answered within 10 s".to_owned(), "check ANTHROPIC_BASE_URL"),
    };
    tracing::error!(error, advice, "the check of the API failed; the worker goes on");
}
