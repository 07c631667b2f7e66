//! A few times for each recently active key.

use std::collections::HashMap;

use tagflow_engine::{
    Result,
    state::{KeyHash, Parts, Restore, Snapshot, StatePart},
};

use super::stored;

/// With more stored parts than this, all keys are stored again as one part.
const MAX_PARTS: usize = 8;

/// The times of each key. A key is forgotten `reach_us` after its last time.
pub(super) struct Table<T> {
    reach_us: i64,
    keys: HashMap<KeyHash, Entry<T>>,
    /// The latest time in each part. A key's times are those in the last part that contains the
    /// key.
    parts: Parts<i64>,
    watermark: i64,
    swept: i64,
}

struct Entry<T> {
    times: T,
    is_stored: bool,
}

/// The times of a key, ascending.
pub(super) trait Times: Default {
    /// Adds a time, which is not before the others.
    fn push(&mut self, time: i64);
    /// The times.
    fn iter(&self) -> impl Iterator<Item = i64> + Clone;
    /// Heap bytes.
    fn bytes(&self) -> usize;

    /// The last time.
    fn last(&self) -> i64 {
        self.iter().last().unwrap_or(i64::MIN)
    }
}

impl<T: Times> Table<T> {
    pub(super) fn new(reach_us: i64) -> Self {
        Self {
            reach_us,
            keys: HashMap::new(),
            parts: Parts::default(),
            watermark: i64::MIN,
            swept: i64::MIN,
        }
    }

    /// The times of `key`, if known.
    pub(super) fn get(&self, key: KeyHash) -> Option<&T> {
        self.keys.get(&key).map(|entry| &entry.times)
    }

    /// The times of `key`, mutable.
    pub(super) fn change(&mut self, key: KeyHash) -> &mut T {
        let entry = self.keys.entry(key).or_insert_with(|| Entry {
            times: T::default(),
            is_stored: false,
        });
        entry.is_stored = false;
        &mut entry.times
    }

    /// Occasionally drops keys that no row from `watermark` on can need.
    pub(super) fn advance(&mut self, watermark: i64) {
        self.watermark = watermark;
        if watermark.saturating_sub(self.swept) > self.reach_us / 4 {
            self.swept = watermark;
            let reach_us = self.reach_us;
            self.keys
                .retain(|_, entry| is_known(entry.times.last(), reach_us, watermark));
        }
    }

    /// Adds the keys that changed.
    pub(super) fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let (reach_us, watermark) = (self.reach_us, self.watermark);
        self.parts
            .remove_if(|_, last| !is_known(*last, reach_us, watermark));
        let mut keys = self.keys.values();
        let put_all = self.parts.len() >= MAX_PARTS && keys.any(|entry| !entry.is_stored);
        if put_all {
            self.parts.take_all();
        }
        let changed = self.keys.iter();
        let changed = changed.filter(|(_, entry)| put_all || !entry.is_stored);
        let last = changed.clone().map(|(_, entry)| entry.times.last()).max();
        if let Some(last) = last {
            self.parts.push(last);
        }
        self.parts.snapshot("keys-", snapshot, |_| {
            let changed = changed.clone();
            stored::rows(
                changed.flat_map(|(key, entry)| entry.times.iter().map(|time| (*key, time))),
            )
        })?;
        if last.is_some() {
            let keys = self.keys.values_mut();
            keys.for_each(|entry| entry.is_stored = true);
        }
        Ok(())
    }

    /// Restores the keys from snapshots.
    pub(super) fn restore(&mut self, parts: Vec<StatePart>, lanes: Restore) -> Result<()> {
        for part in parts {
            let mut latest = i64::MIN;
            let mut before = None;
            for (key, time) in stored::entries(&part)? {
                let entry = self.keys.entry(key).or_insert_with(|| Entry {
                    times: T::default(),
                    is_stored: lanes == Restore::InPlace,
                });
                // The rows of a key are adjacent. The first of them replaces the key's
                // times from earlier parts.
                if before.replace(key) != Some(key) {
                    entry.times = T::default();
                }
                entry.times.push(time);
                latest = latest.max(time);
            }
            if lanes == Restore::InPlace {
                self.parts.restore(part.key, lanes, latest);
            }
        }
        Ok(())
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        let each = size_of::<(KeyHash, Entry<T>)>() + 1;
        let outside = self.keys.values().map(|entry| entry.times.bytes());
        self.keys.capacity() * each * 8 / 7 + outside.sum::<usize>()
    }
}

/// Whether a row at or after the watermark can need a key with this last time.
fn is_known(last: i64, reach_us: i64, watermark: i64) -> bool {
    last.saturating_add(reach_us) >= watermark
}
