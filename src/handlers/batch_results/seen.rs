//! The set of results that are stored already, in a few bytes each.
//!
//! It keeps a 64-bit hash of each `custom_id`, not the text. With 100,000 results two hashes are equal in one download
//! of about 4,000,000,000, and no sender can provoke that, because the hash has random keys. If it happens, one result
//! is taken for another and left out. Then the count at the end is too low, and the next attempt hashes with other
//! keys: an attempt may be lost, but never a result.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// The most results to reserve memory for at the start, which is as many as a batch may have. With more the set grows
/// by copying.
const ROOM_MAX: usize = 100_000;

/// The set.
#[derive(Debug)]
pub(super) struct Seen<S = RandomState> {
    hashes: HashSet<u64, S>,
}

impl Seen {
    /// An empty set with room for `results`.
    pub(super) fn of(results: usize) -> Self {
        Seen::with_hasher(results, RandomState::new())
    }
}

impl<S: BuildHasher> Seen<S> {
    fn with_hasher(results: usize, hasher: S) -> Self {
        Self { hashes: HashSet::with_capacity_and_hasher(results.min(ROOM_MAX), hasher) }
    }

    /// Adds a result. Returns false if `custom_id` was added before, or, with negligible probability, another one with
    /// the same hash.
    pub(super) fn insert(&mut self, custom_id: &str) -> bool {
        let hash = self.hashes.hasher().hash_one(custom_id);
        self.hashes.insert(hash)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, Hasher};

    use super::*;

    /// Hashes everything alike.
    #[derive(Default)]
    struct Alike;

    impl Hasher for Alike {
        fn write(&mut self, _bytes: &[u8]) {}

        fn finish(&self) -> u64 {
            7
        }
    }

    #[test]
    fn a_result_is_new_once() {
        let mut seen = Seen::of(2);
        assert!(seen.insert("a") && seen.insert("b") && seen.insert("") && seen.insert("é"));
        assert!(!seen.insert("a") && !seen.insert(""));
    }

    #[test]
    fn every_one_of_a_million_is_new() {
        let mut seen = Seen::of(1_000_000);
        assert!((0..1_000_000).all(|number| seen.insert(&format!("request-{number}"))));
    }

    #[test]
    fn what_passes_for_another_does_so_with_these_keys_only() {
        let mut alike = Seen::with_hasher(2, BuildHasherDefault::<Alike>::default());
        assert!(alike.insert("a") && !alike.insert("b"));

        let [first, second] = [Seen::of(0), Seen::of(0)].map(|seen| seen.hashes.hasher().hash_one("a"));
        assert_ne!(first, second);
    }
}
