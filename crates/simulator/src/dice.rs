//! Numbers and ids that look random but depend only on a seed and a name, so they are the same in any order and on any machine.

use std::sync::atomic::{AtomicU64, Ordering};

/// Gives out ids, none of them twice.
pub(super) struct Mint {
    pub(super) seed: u64,
    next: AtomicU64,
}

impl Mint {
    pub(super) fn new(seed: u64) -> Mint {
        Mint { seed, next: AtomicU64::new(1) }
    }

    /// Returns a new number at each call.
    pub(super) fn serial(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a new [`id`] at each call.
    pub(super) fn id(&self, prefix: &str) -> String {
        id(self.seed, prefix, self.serial())
    }

    /// Returns a new [`event_id`] at each call.
    pub(super) fn event_id(&self) -> String {
        event_id(self.seed, self.serial())
    }
}

/// A number from 0 to below 1 for this name.
pub(super) fn roll(seed: u64, topic: &str, name: &str) -> f64 {
    // The upper 53 bits fill the mantissa of a double exactly.
    (number(seed, topic, name) >> 11) as f64 / (1_u64 << 53) as f64
}

/// A 64-bit number for this name.
pub(super) fn number(seed: u64, topic: &str, name: &str) -> u64 {
    // FNV-1a over both; the NUL keeps ("ab", "c") apart from ("a", "bc"). The mixer evens out FNV's bias.
    let bytes = topic.bytes().chain([0]).chain(name.bytes());
    mix(bytes.fold(mix(seed) ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// An id in the API's style: the prefix, `01`, and 22 characters that no other `serial` of the prefix gives.
pub(super) fn id(seed: u64, prefix: &str, serial: u64) -> String {
    format!("{prefix}01{:014x}{serial:08x}", number(seed, prefix, &serial.to_string()) >> 8)
}

/// The id of a webhook event in the newer form: `whe_` and 32 hexadecimal digits.
pub(super) fn event_id(seed: u64, serial: u64) -> String {
    format!("whe_{:016x}{serial:016x}", number(seed, "whe_", &serial.to_string()))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixer_gives_the_published_first_numbers_of_splitmix64() {
        // The generator seeded with 0 adds the golden gamma before each number; these are its first two.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn rolls_spread_evenly() {
        let mut tenths = [0; 10];
        for name in 0..10_000 {
            tenths[(roll(1, "spread", &name.to_string()) * 10.0) as usize] += 1;
        }

        assert!(tenths.iter().all(|count| (900..1100).contains(count)), "{tenths:?}");
    }

    #[test]
    fn ids_have_the_shape_of_the_apis() {
        assert_eq!(id(1, "msgbatch_", 0).len(), "msgbatch_".len() + 24);
        assert_eq!(event_id(1, 0).len(), 36);
        assert_ne!(id(1, "msgbatch_", 0), id(2, "msgbatch_", 0));
    }
}
