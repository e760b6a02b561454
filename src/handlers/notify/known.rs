//! The endpoints that a worker knows: read once for many notifications, and anew for each that was stored after that.
//!
//! What an operator changes holds at once for what is stored afterwards, because both times are the database's. What was stored
//! before may be sent by the old row for [`FRESH`] more. A row that is disabled, or gone, is never remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Mutex as Turn;

use crate::handler::Context;

use super::endpoint::{self, Endpoint};

/// For how long a row that was read serves what was stored before. Where notifications go out by the thousand in a second, a
/// read for each costs more than the delivery; four reads a second cost nothing.
const FRESH: Duration = Duration::from_millis(250);

/// The most endpoints that are remembered.
const ENDPOINTS_MAX: usize = 1000;

/// Who reads an endpoint holds its turn meanwhile, and those behind it find the row.
type Row = Arc<Turn<Option<Arc<Endpoint>>>>;

/// The endpoints, by their names.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<String, Row>>);

impl Known {
    /// The endpoint of this name, if there is one, at least as new as the database was at `stored_at`.
    ///
    /// # Errors
    /// The database is away or did not answer.
    pub(super) async fn endpoint(
        &self,
        cx: &Context<'_>,
        name: &str,
        stored_at: DateTime<Utc>,
    ) -> sqlx::Result<Option<Arc<Endpoint>>> {
        let row = self.row(name);
        let mut known = row.lock().await;
        if let Some(endpoint) = known.as_ref().filter(|endpoint| endpoint.serves(stored_at, FRESH)) {
            return Ok(Some(Arc::clone(endpoint)));
        }
        *known = None;
        let found = endpoint::endpoint(&mut *cx.connection().await?, name).await?.map(Arc::new);
        *known = found.clone().filter(|endpoint| endpoint.is_enabled);
        Ok(found)
    }

    fn row(&self, name: &str) -> Row {
        // Nobody panics while holding it.
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.get(name) {
            return Arc::clone(row);
        }
        if rows.len() >= ENDPOINTS_MAX {
            // Those that somebody reads or waits for stay.
            rows.retain(|_, row| Arc::strong_count(row) > 1);
        }
        Arc::clone(rows.entry(name.to_owned()).or_default())
    }
}
