//! How ingest reports to the database beside the deliveries: a report that fails is sent again, and holds up nothing.

use std::time::Duration;

use tokio::time::timeout;

use super::commit::StoreError;
use crate::database;

/// How long a report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause before the last report is sent again, since no later one says the same. Right after a restart of the database, each
/// connection from before fails once.
pub(super) const LAST_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Sends one report. Returns false if the database did not take it in time; the log says so, and calls the report `name`.
pub(super) async fn arrives(name: &str, report: impl Future<Output = Result<(), StoreError>>) -> bool {
    let problem = match timeout(REPORT_TIMEOUT, report).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => database::told(&error),
        Err(elapsed) => elapsed.to_string(),
    };
    tracing::debug!(
        report = name,
        error = problem,
        "the database did not take a report of ingest; it is sent again"
    );
    false
}
