//! Ids that repeat in each run of a test.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::{Builder, Uuid};

use crate::ids::Ids;

/// The same ids for the same seed, in the order of the calls.
#[derive(Debug)]
pub struct SeededIds {
    seed: u64,
    given: AtomicU64,
}

impl SeededIds {
    /// The ids of `seed`; another seed has others.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            given: AtomicU64::new(0),
        }
    }
}

impl Ids for SeededIds {
    fn unique(&self) -> Uuid {
        let given = self.given.fetch_add(1, Ordering::Relaxed);
        let half = |salt: u64| mixed(self.seed ^ mixed(given.wrapping_add(salt)));
        let bytes = (u128::from(half(0)) << 64) | u128::from(half(1 << 63));
        Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid()
    }
}

/// The finalizer of `SplitMix64`.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
