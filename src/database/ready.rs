//! Waits for a database that is starting, and checks that it is usable.

use std::time::Duration;

use backoff::{ExponentialBuilder, Retryable};
use sqlx::PgPool;

use super::pool::{farewell, open, unreachable};
use super::schema::check_schema;
use super::session::{self, Session};
use super::why::Why;
use super::{Error, is_unavailable};

/// Waits up to `patience` for the database, then checks that it is usable: its schema is the one that this program
/// knows, and each connection has a session of its own.
///
/// # Errors
/// [`Error::Unreachable`] after `patience`; [`Error::TransactionPooler`], [`Error::SchemaOlder`] and [`Error::SchemaNewer`],
/// which say what to do.
pub async fn ready(pool: &PgPool, patience: Duration) -> Result<(), Error> {
    // Not through the pool, which would only report a timeout. The pool's server may change from one try to the next.
    let one_try = || async { open(&pool.connect_options(), Session::Service).await };
    let mut connection = one_try
        .retry(ExponentialBuilder::default().with_total_delay(Some(patience)).without_max_times())
        .when(is_unavailable)
        .notify(|error, wait| {
            let error = Why::of(error, &pool.connect_options());
            tracing::warn!(%error, retry_in_ms = wait.as_millis(), "the database does not answer yet; trying again");
        })
        .await
        .map_err(|error| unreachable(&error, &pool.connect_options()))?;
    // If the server lets in only one connection, this cannot be checked.
    if let Ok(mut other) = one_try().await {
        session::stays(&mut connection, &mut other).await?;
        farewell(other).await;
    }
    check_schema(&mut connection).await?;
    farewell(connection).await;
    Ok(())
}
