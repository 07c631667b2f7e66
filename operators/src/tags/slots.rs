//! A hash table that grows in small steps.

use hashbrown::{HashTable, hash_table::Entry};
use tagflow_engine::state::KeyHash;

/// The number of shards.
const SHARDS: usize = 64;

/// A value that knows its key.
pub(super) trait Keyed {
    /// The key.
    fn key(&self) -> KeyHash;
}

/// Values by key. A single table doubles at once, and for a moment the old and the new
/// table take three times the memory. Here each shard gets a different share of the keys,
/// from one part to two parts. So the shards double one after the other, and the memory
/// grows about evenly with the number of keys.
pub(super) struct Slots<T>(Vec<HashTable<T>>);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| HashTable::new()).collect())
    }
}

impl<T: Keyed> Slots<T> {
    /// The value of `key`.
    pub(super) fn get(&self, key: KeyHash) -> Option<&T> {
        self.0[shard(key.low)].find(key.low, |it| it.key() == key)
    }

    /// The value of `key`, to be changed.
    pub(super) fn get_mut(&mut self, key: KeyHash) -> Option<&mut T> {
        self.0[shard(key.low)].find_mut(key.low, |it| it.key() == key)
    }

    /// The place of `key`.
    pub(super) fn entry(&mut self, key: KeyHash) -> Entry<'_, T> {
        self.0[shard(key.low)].entry(key.low, |it| it.key() == key, |it| it.key().low)
    }

    /// The values whose key has this lower half.
    pub(super) fn with_low(&self, low: u64) -> impl Iterator<Item = &T> {
        let found = self.0[shard(low)].iter_hash(low);
        found.filter(move |it| it.key().low == low)
    }
}

impl<T> Slots<T> {
    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(HashTable::len).sum()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(HashTable::is_empty)
    }

    /// All values, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    /// All values, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten()
    }

    /// Keeps the values for which `keep` is true.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        for shard in &mut self.0 {
            shard.retain(&mut keep);
        }
    }

    /// Bytes in memory, without those that the values own.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(HashTable::allocation_size).sum()
    }
}

/// The shard of a hash `h` that is even from 0 to 1: `log2(1 + h)` of all shards.
fn shard(hash: u64) -> usize {
    // The table uses the lowest and the highest bits.
    usize::from(SHARD_OF[(hash >> 40) as usize % SHARD_OF.len()])
}

/// The shard of each 1,024th of the hashes.
static SHARD_OF: [u8; 1024] = shards();

const fn shards() -> [u8; 1024] {
    // Each bound is the one before times the 64th root of 2.
    const ROOT: f64 = 1.010_889_286_051_700_5;
    let mut shards = [0; 1024];
    let (mut shard, mut bound) = (0, ROOT);
    let mut place = 0;
    while place < shards.len() {
        let share = 1.0 + place as f64 / shards.len() as f64;
        while share >= bound && shard + 1 < SHARDS as u8 {
            shard += 1;
            bound *= ROOT;
        }
        shards[place] = shard;
        place += 1;
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keyed for KeyHash {
        fn key(&self) -> KeyHash {
            *self
        }
    }

    fn key(number: u64) -> KeyHash {
        KeyHash {
            high: number,
            // An even hash: splitmix64.
            low: {
                let mut it = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                it ^ (it >> 31)
            },
        }
    }

    #[test]
    fn each_value_is_found_by_its_key() {
        let mut slots = Slots::default();
        for number in 0..5_000 {
            slots.entry(key(number)).insert(key(number));
        }
        assert_eq!((slots.len(), slots.is_empty()), (5_000, false));
        for number in 0..5_000 {
            let key = key(number);
            assert_eq!(slots.get(key), Some(&key));
            assert_eq!(slots.get_mut(key), Some(&mut key.clone()));
            assert_eq!(slots.with_low(key.low).count(), 1);
        }
        assert_eq!(slots.get(key(5_000)), None);
        assert_eq!(
            (slots.iter().count(), slots.iter_mut().count()),
            (5_000, 5_000)
        );
        slots.retain(|it| it.high < 10);
        assert_eq!(slots.len(), 10);
    }

    #[test]
    fn memory_grows_with_the_number_of_values_and_in_small_steps() {
        let mut slots = Slots::default();
        let mut before = 0;
        for number in 0..300_000 {
            slots.entry(key(number)).insert(key(number));
            let bytes = slots.bytes();
            if number > 20_000 {
                assert!(
                    bytes - before <= bytes / 25,
                    "{before} to {bytes} at {number}"
                );
                let each = bytes / slots.len();
                assert!((18..32).contains(&each), "{each} bytes a value at {number}");
            }
            before = bytes;
        }
    }
}
