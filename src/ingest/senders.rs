//! The senders: where the deliveries of each arrive, and what they are verified and told apart by.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::envelope;
use crate::event::{ANTHROPIC, NewEvent};
use crate::key_use::{Key, Kind};
use crate::signature::Keys;

/// A sender of webhooks.
#[derive(Clone, Debug, PartialEq)]
pub struct Sender {
    /// The name of its configuration. Its deliveries arrive at `/webhooks/NAME`.
    pub name: String,
    /// The keys of its deliveries.
    pub keys: Keys,
    /// What its types begin with in the outbox, such as `openai.`; empty for types as they came.
    pub type_prefix: String,
    /// The account that its events belong to; none for a sender that is not the Claude API.
    pub account: Option<String>,
}

impl Sender {
    /// The sender `anthropic`, which belongs to the account `anthropic`.
    pub fn anthropic(keys: Keys) -> Self {
        let name = ANTHROPIC.to_owned();
        Self { account: Some(name.clone()), name, keys, type_prefix: String::new() }
    }

    /// Its keys, by what may be shown of them.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        let fingerprints = self.keys.fingerprints().into_iter();
        fingerprints.map(|fingerprint| Key { kind: Kind::Signing, party: self.name.clone(), fingerprint })
    }

    /// An event of this sender.
    pub(super) fn stamp(&self, mut event: NewEvent) -> NewEvent {
        event.sender.clone_from(&self.name);
        event.account.clone_from(&self.account);
        // What cannot be read has no type of the sender's.
        if event.event_type != envelope::UNREADABLE {
            event.event_type.insert_str(0, &self.type_prefix);
        }
        event
    }
}

/// The senders that are configured now. A new configuration replaces all of them at once.
#[derive(Clone, Debug)]
pub struct Senders(watch::Receiver<Arc<[Sender]>>);

impl Senders {
    /// Senders, and the way to replace them.
    pub fn new(senders: Vec<Sender>) -> (Self, watch::Sender<Arc<[Sender]>>) {
        let (replace, current) = watch::channel(senders.into());
        (Self(current), replace)
    }

    /// The senders at this moment.
    pub(super) fn now(&self) -> Arc<[Sender]> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits until they are replaced; for ever where nobody can replace them any more.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The keys of senders, by what may be shown of them.
pub fn keys(senders: &[Sender]) -> BTreeSet<Key> {
    senders.iter().flat_map(Sender::keys).collect()
}
