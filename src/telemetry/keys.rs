//! The metrics of keys: which ones the process has, and when each was used last.

use std::collections::BTreeSet;

use metrics::gauge;

use super::names::{OTHER, metric};
use crate::key_use::{Fingerprint, Use};

/// So many keys have series of their own. A series stays for as long as the process runs, and each rotation brings a new key.
const FINGERPRINTS_MAX: usize = 64;

/// Sets the gauges of keys, from what is reported to the database.
#[derive(Debug, Default)]
pub struct KeyGauges {
    known: BTreeSet<Fingerprint>,
}

impl KeyGauges {
    /// Sets the gauges of these keys.
    pub fn set(&mut self, uses: &[Use]) {
        for Use { key, is_held, last_used_at, .. } in uses {
            let labels = [
                ("kind", key.kind.as_str().to_owned()),
                ("party", key.party.clone()),
                ("fingerprint", self.label(key.fingerprint)),
            ];
            gauge!(metric::KEY_LOADED, &labels).set(if *is_held { 1.0 } else { 0.0 });
            if let Some(at) = last_used_at {
                gauge!(metric::KEY_LAST_USED_TIMESTAMP_SECONDS, &labels).set(at.timestamp() as f64);
            }
        }
    }

    fn label(&mut self, fingerprint: Fingerprint) -> String {
        if self.known.len() < FINGERPRINTS_MAX {
            self.known.insert(fingerprint);
        }
        if self.known.contains(&fingerprint) { fingerprint.to_string() } else { OTHER.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ever_new_keys_do_not_become_ever_new_series() {
        let mut gauges = KeyGauges::default();
        let labels: BTreeSet<String> =
            (0..200).map(|nth: u8| gauges.label(Fingerprint::of(&[nth; 32]))).collect();

        assert_eq!(labels.len(), FINGERPRINTS_MAX + 1);
        assert!(labels.contains(OTHER));
        assert_eq!(gauges.label(Fingerprint::of(&[0; 32])), Fingerprint::of(&[0; 32]).to_string());
    }
}
