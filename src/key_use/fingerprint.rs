//! A short name for a key, which says nothing of the key.

use std::fmt;

use sha2::{Digest, Sha256};

/// Set before the key, so that the fingerprint is no hash that anybody else has of it.
const DOMAIN: &[u8] = b"restante key fingerprint v1\0";

/// How much of the hash is the fingerprint, in bytes. Two keys of one sender have the same once in four billion pairs.
const BYTES: usize = 4;

/// Random bytes of this length cannot be guessed, so that nobody can try guesses against a fingerprint.
const RANDOM_BYTES_MIN: usize = 16;

/// The same for text: the least that Standard Webhooks recommends for a secret.
const TEXT_BYTES_MIN: usize = 24;

/// Eight hexadecimal digits, by which people and rows tell keys apart; `short` for any key that could be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(Option<[u8; BYTES]>);

impl Fingerprint {
    /// That of a key of random bytes.
    pub fn of(key: &[u8]) -> Self {
        Self::unless_shorter_than(RANDOM_BYTES_MIN, key)
    }

    /// That of a key that is text, and perhaps a passphrase.
    pub fn of_text(key: &[u8]) -> Self {
        Self::unless_shorter_than(TEXT_BYTES_MIN, key)
    }

    fn unless_shorter_than(least: usize, key: &[u8]) -> Self {
        if key.len() < least {
            return Self(None);
        }
        let hash = Sha256::new().chain_update(DOMAIN).chain_update(key).finalize();
        Self(hash.first_chunk().copied())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => f.write_str(&hex::encode(bytes)),
            None => f.write_str("short"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_stays_the_same_for_ever() {
        // Rows and dashboards keep it: sha256sum of the domain and 32 zero bytes begins like this.
        assert_eq!(Fingerprint::of(&[0; 32]).to_string(), "444c1798");
        assert_eq!(Fingerprint::of(&[0; 32]), Fingerprint::of_text(&[0; 32]));
        assert_ne!(Fingerprint::of(&[0; 32]), Fingerprint::of(&[1; 32]));
    }

    #[test]
    fn a_key_that_could_be_guessed_has_none_of_its_own() {
        assert_eq!(Fingerprint::of(&[7; 15]).to_string(), "short");
        assert_eq!(Fingerprint::of_text(b"s3cret"), Fingerprint::of_text(b"another, of 23 bytes..."));
        assert_ne!(Fingerprint::of_text(b"another, of 24 bytes...."), Fingerprint::of_text(b"s3cret"));
    }
}
