//! The accounts: the clients of the API by name, each with a key, an origin and a health of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::{Client, Error, Settings};
use crate::event::ANTHROPIC;

/// A workspace or an organization, and how the API is called for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The name of its configuration.
    pub name: String,
    /// How the API is called.
    pub settings: Settings,
}

impl Account {
    /// The account `anthropic`.
    pub fn anthropic(settings: Settings) -> Self {
        Self { name: ANTHROPIC.to_owned(), settings }
    }
}

/// The clients of all accounts. Clones share them, so that a new configuration reaches every holder.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clients: RwLock<BTreeMap<String, Client>>,
    changes: watch::Sender<u64>,
}

impl Accounts {
    /// The clients of these accounts; they do not connect yet.
    ///
    /// # Errors
    /// As for [`Client::new`].
    pub fn new(accounts: Vec<Account>) -> Result<Accounts, Error> {
        let clients = clients(accounts)?;
        Ok(Self(Arc::new(Shared { clients: RwLock::new(clients), changes: watch::Sender::new(0) })))
    }

    /// The client of an account, if it is configured.
    pub fn client(&self, account: &str) -> Option<Client> {
        self.0.clients.read().unwrap_or_else(PoisonError::into_inner).get(account).cloned()
    }

    /// The names of the accounts.
    pub fn names(&self) -> Vec<String> {
        self.0.clients.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// From now on these are the accounts.
    ///
    /// # Errors
    /// As for [`Client::new`]; then nothing changes.
    pub fn replace(&self, accounts: Vec<Account>) -> Result<(), Error> {
        let clients = clients(accounts)?;
        *self.0.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
        self.0.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// Changes whenever the accounts are [replaced](Accounts::replace).
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

impl From<Client> for Accounts {
    /// The one account `anthropic`.
    fn from(client: Client) -> Self {
        let clients = BTreeMap::from([(ANTHROPIC.to_owned(), client)]);
        Self(Arc::new(Shared { clients: RwLock::new(clients), changes: watch::Sender::new(0) }))
    }
}

fn clients(accounts: Vec<Account>) -> Result<BTreeMap<String, Client>, Error> {
    accounts.into_iter().map(|account| Ok((account.name, Client::new(account.settings)?))).collect()
}
