//! Fails a test that leaves events running at its end, because a worker that has ended must leave none.

#![expect(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, PgConnection};
use tokio::runtime::Builder;

/// Checks when it is dropped.
pub(crate) struct NothingRuns {
    database: SecretString,
    /// The owners whose events may be running, because the test itself has claimed them.
    claimants: Mutex<BTreeSet<String>>,
    may_be_otherwise: AtomicBool,
}

impl NothingRuns {
    pub(crate) fn on(database: SecretString) -> Self {
        Self { database, claimants: Mutex::default(), may_be_otherwise: AtomicBool::new(false) }
    }

    /// Allows events to run that this owner has claimed.
    pub(crate) fn but_for(&self, claimant: &str) {
        self.claimants.lock().unwrap().insert(claimant.to_owned());
    }

    /// Allows any event to run.
    pub(crate) fn may_be_otherwise(&self) {
        self.may_be_otherwise.store(true, Ordering::Relaxed);
    }
}

impl Drop for NothingRuns {
    fn drop(&mut self) {
        // A test that has already failed has said why.
        if std::thread::panicking() || self.may_be_otherwise.load(Ordering::Relaxed) {
            return;
        }
        let claimants: Vec<String> = self.claimants.lock().unwrap().iter().cloned().collect();
        let database = self.database.clone();
        // On a thread of its own, because the test's runtime waits for this.
        let running = std::thread::spawn(move || running(&database, &claimants)).join().unwrap();
        // If the test has dropped its database or stopped its server, there is nothing to check.
        assert_eq!(running.unwrap_or_default(), Vec::<String>::new(), "the test leaves events running");
    }
}

/// The events that are running, and whose they are, but for those of the claimants.
fn running(database: &SecretString, claimants: &[String]) -> sqlx::Result<Vec<String>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect(database.expose_secret()).await?;
        sqlx::query_scalar(
            "select format('%s of %s', event_id, lease_owner) from restante.outbox_live
              where status = 'running' and lease_owner <> all ($1)",
        )
        .bind(claimants)
        .fetch_all(&mut connection)
        .await
    })
}
