//! Keys with their times, by slices of time.

use std::{collections::BTreeMap, ops::Range};

use hashbrown::HashTable;
use tagflow_engine::{
    Result,
    state::{KeyHash, Parts, Restore, Snapshot, StatePart},
};

use super::stored;

/// How many slices cover the time that is remembered. Expired entries stay for up to one
/// slice more, and a look-up searches this many slices.
pub(super) const SLICES: i64 = 8;

/// A set of keys with their times. A slice of time is forgotten as a whole, in memory and
/// in the store.
///
/// An entry takes 24 bytes (hash and time), and 6 to 12 bytes of the index that
/// leads to it.
pub(super) struct Slices {
    width_us: i64,
    by_start: BTreeMap<i64, Slice>,
    /// Stored parts of slices forgotten since the last snapshot.
    removed: Vec<String>,
}

/// The keys of a slice: an append-only log, so a snapshot only stores its new end.
#[derive(Default)]
struct Slice {
    entries: Vec<(KeyHash, i64)>,
    /// Positions in `entries`.
    index: HashTable<u32>,
    /// The entries of each part, from the start of `entries`.
    parts: Parts<Range<usize>>,
}

impl Slices {
    /// Remembers times for at least `reach_us`.
    pub(super) fn new(reach_us: i64) -> Self {
        Self {
            width_us: (reach_us / SLICES).max(1),
            by_start: BTreeMap::new(),
            removed: Vec::new(),
        }
    }

    /// Whether the set contains `key` with a time from `from` to `to`, both included.
    pub(super) fn contains(&self, key: KeyHash, from: i64, to: i64) -> bool {
        let slices = self.by_start.range(self.slice_of(from)..=self.slice_of(to));
        slices
            .into_iter()
            .any(|(_, slice)| slice.contains(key, from, to))
    }

    /// Adds `key` with `time`.
    pub(super) fn insert(&mut self, key: KeyHash, time: i64) {
        let slice = self.slice_of(time);
        self.by_start.entry(slice).or_default().insert(key, time);
    }

    /// Forgets slices that end before `time`.
    pub(super) fn forget_before(&mut self, time: i64) {
        let first = self.slice_of(time);
        while let Some(slice) = self.by_start.first_entry()
            && *slice.key() < first
        {
            self.removed.extend(slice.remove().parts.take_names());
        }
    }

    /// Stores new entries as one part per slice. A part absorbs the parts before it that
    /// are not larger. So a slice has few parts, and an entry is stored again only each
    /// time the size of its part doubles.
    pub(super) fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.removed.append(&mut self.removed);
        for (start, slice) in &mut self.by_start {
            let Slice { entries, parts, .. } = slice;
            let stored = parts.iter().last().map_or(0, |stored| stored.end);
            if stored == entries.len() {
                continue;
            }
            parts.push(stored..entries.len());
            if let Some((_, oldest)) = parts.take_newest(1, Range::len).first() {
                parts.push(oldest.start..entries.len());
            }
            parts.snapshot(format_args!("slice{start}-"), snapshot, |part| {
                stored::rows(entries[part.clone()].iter().copied())
            })?;
        }
        Ok(())
    }

    /// Restores the entries from snapshots.
    pub(super) fn restore(&mut self, parts: Vec<StatePart>, lanes: Restore) -> Result<()> {
        for part in parts {
            let entries = stored::entries(&part)?;
            let Some(&(_, time)) = entries.first() else {
                continue;
            };
            let slice = self.slice_of(time);
            let slice = self.by_start.entry(slice).or_default();
            let start = slice.entries.len();
            for (key, time) in entries {
                slice.insert(key, time);
            }
            if lanes == Restore::InPlace {
                let entries = start..slice.entries.len();
                slice.parts.restore(part.key, lanes, entries);
            }
        }
        Ok(())
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.by_start.values().map(Slice::bytes).sum()
    }

    fn slice_of(&self, time: i64) -> i64 {
        time.div_euclid(self.width_us)
    }
}

impl Slice {
    fn contains(&self, key: KeyHash, from: i64, to: i64) -> bool {
        let is_it = |place: &u32| {
            let (known, time) = self.entries[*place as usize];
            known == key && (from..=to).contains(&time)
        };
        self.index.find(key.low, is_it).is_some()
    }

    fn insert(&mut self, key: KeyHash, time: i64) {
        if self.entries.len() == self.entries.capacity() {
            // Not doubled: these entries are most of the state.
            self.entries.reserve_exact(self.entries.len() / 8 + 64);
        }
        let place = u32::try_from(self.entries.len()).expect("a slice has less than 2^32 keys");
        self.entries.push((key, time));
        let entries = &self.entries;
        self.index
            .insert_unique(key.low, place, |place| entries[*place as usize].0.low);
    }

    fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(KeyHash, i64)>() + self.index.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> KeyHash {
        KeyHash {
            high: number,
            low: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    #[test]
    fn keys_are_found_within_their_time() {
        let mut slices = Slices::new(80);
        slices.insert(key(1), -5);
        slices.insert(key(1), 200);
        slices.insert(key(2), 100);
        assert!(slices.contains(key(1), -5, -5));
        assert!(slices.contains(key(1), -100, 100));
        assert!(!slices.contains(key(1), -4, 199));
        assert!(!slices.contains(key(3), i64::MIN, i64::MAX));
        slices.forget_before(100);
        assert!(!slices.contains(key(1), i64::MIN, 199));
        assert!(slices.contains(key(2), 100, 100));
    }

    #[test]
    fn a_snapshot_puts_what_is_new_and_merges_what_is_small() {
        let mut slices = Slices::new(8_000_000);
        let mut stored = 0;
        let mut written = 0;
        for round in 0..64 {
            for number in 0..100 {
                slices.insert(key(round * 100 + number), 5);
            }
            let mut snapshot = Snapshot::default();
            slices.snapshot(&mut snapshot).unwrap();
            let part = snapshot.put.pop().unwrap();
            assert!(snapshot.put.is_empty());
            written += part.load().unwrap().rows.num_rows();
            stored = stored + 1 - snapshot.removed.len();
            assert!(stored <= 7, "{stored} parts");
        }
        assert!(written <= 6_400 * 7, "{written} entries written");
        let mut unchanged = Snapshot::default();
        slices.snapshot(&mut unchanged).unwrap();
        assert!(unchanged.is_empty());
        slices.forget_before(i64::MAX);
        slices.snapshot(&mut unchanged).unwrap();
        assert_eq!(unchanged.removed.len(), stored);
    }

    /// The size that the reference documents for 24 hours over 50 million ids.
    #[test]
    fn an_id_takes_less_than_forty_bytes() {
        for count in [1_000_000_u64, 5_000_000] {
            let mut slices = Slices::new(86_400_000_000);
            for number in 0..count {
                let time = number * 86_400_000_000 / count;
                slices.insert(key(number), time as i64);
            }
            let per_id = slices.bytes() as f64 / count as f64;
            println!("{count} ids: {per_id:.1} bytes each");
            assert!(per_id < 40.0, "{per_id}");
        }
    }
}
