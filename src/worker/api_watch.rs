//! A look at the API when a worker starts, and when it answers again after trouble: what is wrong is said in one line.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::event::ANTHROPIC;

/// Looks, and says what is wrong, until `stop`.
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

/// How long the look waits. Work goes on without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lists one batch: free of charge, and what a worker needs most.
async fn look(api: &api::Client) {
    let (error, advice) = match timeout(PATIENCE, api.batches(None, 1)).await {
        Ok(Ok(_)) => return tracing::info!("the API takes the key"),
        Ok(Err(error)) => {
            let advice = error.advice();
            (format!("{:#}", anyhow::Error::from(error)), advice)
        }
        Err(_) => ("it has not answered within 10 s".to_owned(), "check ANTHROPIC_BASE_URL"),
    };
    tracing::error!(error, advice, "the API was asked, and did not answer as it should; work goes on");
}
