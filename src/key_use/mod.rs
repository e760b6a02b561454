//! The keys that a process has, and when each was used last.
//!
//! A key is known by its [`Fingerprint`], never by itself. A process counts uses here, and reports them a few times a minute, so
//! that an operator sees which services have a new key, and whether anybody still needs the old one.

mod fingerprint;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

pub use fingerprint::Fingerprint;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Deliveries of a sender are signed with it.
    Signing,
    /// The API of an account is called with it.
    Api,
    /// What belongs to the organization of an account is read with it.
    Admin,
}

impl Kind {
    /// A short name that stays the same.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Signing => "signing",
            Kind::Api => "api",
            Kind::Admin => "admin",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Kind::Signing => "signing key",
            Kind::Api => "API key",
            Kind::Admin => "Admin key",
        }
    }
}

/// A key, by what may be shown of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What it is for.
    pub kind: Kind,
    /// The name of the sender whose deliveries are signed with it, or of the account whose key it is.
    pub party: String,
    /// Which key it is.
    pub fingerprint: Fingerprint,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of {}", self.kind.noun(), self.fingerprint, self.party)
    }
}

/// What happened to a key since the last report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Which key.
    pub key: Key,
    /// The process has it, and uses it from now on.
    pub is_held: bool,
    /// How often it was used.
    pub uses: i64,
    /// When it was used last, by the clock of the process.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When no other key of the process would have done.
    pub last_needed_at: Option<DateTime<Utc>>,
}

/// The uses of all keys of a process since the last report. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Uses(Arc<Mutex<BTreeMap<Key, Counted>>>);

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    is_held: bool,
    uses: i64,
    last_used_at: Option<DateTime<Utc>>,
    last_needed_at: Option<DateTime<Utc>>,
}

impl Uses {
    /// From now on the process has these keys and no others.
    pub fn hold(&self, keys: &BTreeSet<Key>) {
        let mut counts = self.lock();
        for (key, counted) in counts.iter_mut() {
            counted.is_held = keys.contains(key);
        }
        for key in keys {
            counts.entry(key.clone()).or_default().is_held = true;
        }
    }

    /// Notes a use. `is_needed` says that no other key would have done.
    pub fn note(&self, key: &Key, at: DateTime<Utc>, is_needed: bool) {
        let last_needed_at = is_needed.then_some(at);
        self.add(key, Counted { is_held: false, uses: 1, last_used_at: Some(at), last_needed_at });
    }

    fn add(&self, key: &Key, more: Counted) {
        let mut counts = self.lock();
        if !counts.contains_key(key) {
            // A request that began with a key may end after the key was replaced.
            counts.insert(key.clone(), Counted::default());
        }
        let Some(counted) = counts.get_mut(key) else { return };
        counted.uses += more.uses;
        counted.last_used_at = counted.last_used_at.max(more.last_used_at);
        counted.last_needed_at = counted.last_needed_at.max(more.last_needed_at);
    }

    /// What is to be reported: every key that the process has, and those that were used or went since the last report. The counts
    /// begin anew.
    pub fn take(&self) -> Vec<Use> {
        let mut counts = self.lock();
        let taken = std::mem::take(&mut *counts);
        for key in taken.iter().filter(|(_, counted)| counted.is_held).map(|(key, _)| key) {
            counts.insert(key.clone(), Counted { is_held: true, ..Counted::default() });
        }
        taken
            .into_iter()
            .map(|(key, Counted { is_held, uses, last_used_at, last_needed_at })| Use {
                key,
                is_held,
                uses,
                last_used_at,
                last_needed_at,
            })
            .collect()
    }

    /// Adds what could not be reported, for the next report.
    pub fn give_back(&self, uses: Vec<Use>) {
        for Use { key, is_held: _, uses, last_used_at, last_needed_at } in uses {
            self.add(&key, Counted { is_held: false, uses, last_used_at, last_needed_at });
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Counted>> {
        // No holder can panic between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which keys came and which went, each in a line; empty where none did.
pub fn difference(before: &BTreeSet<Key>, after: &BTreeSet<Key>) -> (String, String) {
    let said = |keys: Vec<String>| keys.join(", ");
    (
        said(after.difference(before).map(Key::to_string).collect()),
        said(before.difference(after).map(Key::to_string).collect()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Key { kind: Kind::Signing, party: "one".to_owned(), fingerprint: Fingerprint::of(&[byte; 32]) }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn a_key_that_went_is_reported_once_more_and_a_report_that_failed_is_not_lost() {
        let uses = Uses::default();
        uses.hold(&BTreeSet::from([key(1), key(2)]));
        uses.note(&key(1), at(5), false);
        uses.note(&key(1), at(3), true);
        uses.hold(&BTreeSet::from([key(2)]));

        let first = uses.take();
        assert_eq!(first.len(), 2);
        uses.note(&key(1), at(7), true);
        uses.give_back(first);

        let second = uses.take();
        let went = second.iter().find(|used| used.key == key(1)).unwrap();
        assert_eq!(
            (went.is_held, went.uses, went.last_used_at, went.last_needed_at),
            (false, 3, Some(at(7)), Some(at(7)))
        );
        let third = uses.take();
        assert_eq!(third.iter().map(|used| &used.key).collect::<Vec<_>>(), [&key(2)]);
        assert!(third[0].is_held && third[0].uses == 0);
    }

    #[test]
    fn what_came_and_went_is_said_without_a_key() {
        let (came, went) = difference(&BTreeSet::from([key(1)]), &BTreeSet::from([key(1), key(2)]));
        assert_eq!((came, went), (key(2).to_string(), String::new()));
        assert!(key(2).to_string().starts_with("signing key "));
    }
}
