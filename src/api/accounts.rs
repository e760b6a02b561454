//! The accounts: the clients of the API by name, each with a key, an origin and a health of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::{Notify, watch};

use super::health::Health;
use super::keys::keys_of;
use super::missing::Missing;
use super::wire::Wire;
use super::{Budget, Client, Error, Settings};
use crate::event::ANTHROPIC;
use crate::key_use::{Key, Uses};

/// So many accounts that are not configured are remembered, so that each is told of once.
const MISSING_MAX: usize = 1000;

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
    clients: RwLock<Clients>,
    /// Those that events have named and that are not configured.
    missing: Mutex<BTreeMap<Option<String>, Client>>,
    changes: watch::Sender<u64>,
    uses: Uses,
    /// What the workers of this outbox have together.
    shared: OnceLock<SharedByWorkers>,
}

/// What the accounts of all workers have together.
#[derive(Debug)]
pub(crate) struct SharedByWorkers {
    /// Where calls get their places.
    pub(crate) budget: Arc<dyn Budget>,
    /// Notified when there is news for the breaker.
    pub(crate) breaker_news: Arc<Notify>,
}

type Clients = BTreeMap<String, Configured>;

#[derive(Debug)]
struct Configured {
    client: Client,
    /// What it was made of, where that is known.
    settings: Option<Settings>,
}

impl Accounts {
    /// The clients of these accounts; they do not connect yet.
    ///
    /// # Errors
    /// As for [`Client::new`], and [`Error::Settings`] where two have the same name.
    pub fn new(accounts: Vec<Account>) -> Result<Accounts, Error> {
        let uses = Uses::default();
        uses.hold(&keys(&accounts));
        Ok(Self::of(clients(accounts, &Clients::new(), &uses)?, uses))
    }

    fn of(clients: Clients, uses: Uses) -> Self {
        Self(Arc::new(Shared {
            clients: RwLock::new(clients),
            missing: Mutex::default(),
            changes: watch::Sender::new(0),
            shared: OnceLock::new(),
            uses,
        }))
    }

    /// The client of an account, if it is configured.
    pub fn client(&self, account: &str) -> Option<Client> {
        self.clients().get(account).map(|configured| configured.client.clone())
    }

    /// The client for an event of this account; for one that belongs to none, that of `anthropic`, or of the only account
    /// that there is. Where there is no such client, one that answers every call with [`Error::NotConfigured`].
    pub fn client_for(&self, account: Option<&str>) -> Client {
        self.configured_for(account).unwrap_or_else(|| self.missing(account))
    }

    /// Is there a client for an event of this account, or of none?
    pub(crate) fn is_configured_for(&self, account: Option<&str>) -> bool {
        self.configured_for(account).is_some()
    }

    fn configured_for(&self, account: Option<&str>) -> Option<Client> {
        match account {
            Some(account) => self.client(account),
            None => self.client_for_any(),
        }
    }

    fn client_for_any(&self) -> Option<Client> {
        let clients = self.clients();
        let only = || clients.values().next().filter(|_| clients.len() == 1);
        clients.get(ANTHROPIC).or_else(only).map(|configured| configured.client.clone())
    }

    fn missing(&self, account: Option<&str>) -> Client {
        let missing = || Client(Err(Arc::new(account.map_or_else(Missing::any, Missing::account))));
        let mut known = self.0.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let account = account.map(str::to_owned);
        if known.len() >= MISSING_MAX && !known.contains_key(&account) {
            return missing();
        }
        known.entry(account).or_insert_with(missing).clone()
    }

    /// The names of the accounts.
    pub fn names(&self) -> Vec<String> {
        self.clients().keys().cloned().collect()
    }

    /// From now on these are the accounts. The clients of those whose settings are the same go on as they are.
    ///
    /// # Errors
    /// As for [`Accounts::new`]; then nothing changes.
    pub fn replace(&self, accounts: Vec<Account>) -> Result<(), Error> {
        let keys = keys(&accounts);
        let clients = clients(accounts, &self.clients(), &self.0.uses)?;
        self.0.uses.hold(&keys);
        share(&clients, self.0.shared.get());
        *self.0.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
        self.0.missing.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.0.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// The keys of all accounts, and what they were used for.
    pub(crate) fn key_uses(&self) -> &Uses {
        &self.0.uses
    }

    /// From now on the accounts share this with those of other workers. The first one stays.
    pub(crate) fn share(&self, shared: SharedByWorkers) {
        share(&self.clients(), Some(self.0.shared.get_or_init(|| shared)));
    }

    /// The name of the account whose client answers for events that belong to none.
    pub(crate) fn default_name(&self) -> Option<String> {
        let clients = self.clients();
        let only = || clients.keys().next().filter(|_| clients.len() == 1);
        clients.keys().find(|name| *name == ANTHROPIC).or_else(only).cloned()
    }

    /// Changes whenever the accounts are [replaced](Accounts::replace).
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn clients(&self) -> RwLockReadGuard<'_, Clients> {
        self.0.clients.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Client> for Accounts {
    /// The one account `anthropic`.
    fn from(client: Client) -> Self {
        let uses = client.wire().map(|wire| wire.uses.clone()).unwrap_or_default();
        let clients = Clients::from([(ANTHROPIC.to_owned(), Configured { client, settings: None })]);
        Self::of(clients, uses)
    }
}

/// The keys of accounts, by what may be shown of them.
pub fn keys(accounts: &[Account]) -> BTreeSet<Key> {
    accounts.iter().flat_map(|account| keys_of(&account.name, &account.settings)).collect()
}

fn share(clients: &Clients, shared: Option<&SharedByWorkers>) {
    if let Some(shared) = shared {
        clients.values().for_each(|configured| configured.client.share(shared));
    }
}

/// The clients of the accounts: those that are there already where their settings are the same, and else new ones.
fn clients(accounts: Vec<Account>, before: &Clients, uses: &Uses) -> Result<Clients, Error> {
    let mut clients = Clients::new();
    for Account { name, settings } in accounts {
        let kept = before.get(&name).filter(|kept| kept.settings.as_ref() == Some(&settings));
        let client = match kept {
            Some(kept) => kept.client.clone(),
            None => {
                let health = Health::of(Some(&name).filter(|name| *name != ANTHROPIC).cloned());
                Client(Ok(Arc::new(Wire::new(&name, settings.clone(), health, uses.clone())?)))
            }
        };
        if clients.insert(name, Configured { client, settings: Some(settings) }).is_some() {
            return Err(Error::Settings("two accounts have the same name"));
        }
    }
    Ok(clients)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, key: &str) -> Account {
        let settings = Settings::new("https://api.example".parse().unwrap(), key.into());
        Account { name: name.to_owned(), settings }
    }

    fn accounts<const N: usize>(names: [&str; N]) -> Accounts {
        Accounts::new(names.map(|name| account(name, "sk-key")).into()).unwrap()
    }

    fn is_same_client(one: &Client, other: &Client) -> bool {
        matches!((&one.0, &other.0), (Ok(one), Ok(other)) if Arc::ptr_eq(one, other))
    }

    async fn answer(client: &Client) -> Error {
        client.get_json(&["v1", "sessions", "a"], &[], &[]).await.unwrap_err()
    }

    #[tokio::test]
    async fn an_account_that_is_not_configured_answers_every_call_with_that_and_is_told_of_once() {
        let accounts = accounts(["anthropic"]);
        for is_first in [true, false] {
            let error = answer(&accounts.client_for(Some("staging"))).await;
            assert!(error.to_string().starts_with("the account `staging` is not configured: "), "{error}");
            assert!(error.is_trouble());
            assert!(matches!(error, Error::NotConfigured { is_first: told, .. } if told == is_first));
        }
        let error = accounts.client_for(Some("staging")).batches(None, 1).await.unwrap_err();
        assert_eq!(error.kind(), "not_configured");

        accounts.replace(vec![account("anthropic", "sk-key")]).unwrap();
        let error = answer(&accounts.client_for(Some("staging"))).await;
        assert!(matches!(error, Error::NotConfigured { is_first: true, .. }), "told of anew");
    }

    #[tokio::test]
    async fn an_event_of_no_account_gets_that_of_the_environment_or_the_only_one() {
        let both = accounts(["anthropic", "staging"]);
        assert!(is_same_client(&both.client_for(None), &both.client("anthropic").unwrap()));
        let one = accounts(["staging"]);
        assert!(is_same_client(&one.client_for(None), &one.client("staging").unwrap()));

        for several in [accounts(["production", "staging"]), accounts([])] {
            let error = answer(&several.client_for(None)).await;
            assert!(error.to_string().starts_with("no account is configured"), "{error}");
        }
    }

    #[test]
    fn a_new_configuration_reaches_every_holder_and_leaves_alone_what_it_does_not_change() {
        let holder = accounts(["anthropic", "staging"]);
        let (before, mut changes) = (holder.clone(), holder.changes());
        changes.mark_unchanged();
        let [kept, replaced] = ["anthropic", "staging"].map(|name| holder.client(name).unwrap());

        holder.replace(vec![account("anthropic", "sk-key"), account("staging", "sk-new")]).unwrap();

        assert!(changes.has_changed().unwrap());
        assert!(is_same_client(&before.client("anthropic").unwrap(), &kept));
        assert!(!is_same_client(&before.client("staging").unwrap(), &replaced));
        assert!(holder.replace(vec![account("a", "")]).is_err());
        assert_eq!(before.names(), ["anthropic", "staging"]);
    }

    #[test]
    fn two_accounts_of_one_name_are_refused() {
        let error = Accounts::new(vec![account("a", "sk-1"), account("a", "sk-2")]).unwrap_err();
        assert_eq!(error.to_string(), "two accounts have the same name");
    }
}
