//! How many batches a worker stores at once: some of each account, so that slow downloads of one do not hold up another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// How many batches of an account a worker stores at once. One keeps Postgres busy if its download is quick; each takes
/// about 15 megabytes of memory.
const TURNS: usize = 2;

/// The turns of each account that has asked for one.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<String, Arc<Semaphore>>>);

impl Turns {
    /// The turns of an account.
    pub(super) fn of(&self, account: &str) -> Arc<Semaphore> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(accounts.entry(account.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(TURNS))))
    }
}
