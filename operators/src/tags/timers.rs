//! When something happens to keys by itself.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use tagflow_engine::state::KeyHash;

/// How wide a bucket is.
const BUCKET_US: i64 = 60_000_000;

/// Times with the keys to which something happens then: a queue in which nearly all
/// lie unsorted, in buckets of a minute, until theirs is the next (a calendar queue:
/// Brown, *A Fast O(1) Priority Queue Implementation for the Simulation Event Set
/// Problem*, 1988).
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The first bucket, and all that came to lie before its end. Empty only if the
    /// later ones are.
    near: BinaryHeap<Reverse<(i64, KeyHash)>>,
    /// The number of the first bucket.
    bucket: i64,
    later: BTreeMap<i64, Vec<(i64, KeyHash)>>,
    len: usize,
}

impl Timers {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds one.
    pub(super) fn push(&mut self, at: i64, key: KeyHash) {
        let bucket = at.div_euclid(BUCKET_US);
        if self.len == 0 {
            self.bucket = bucket;
        }
        self.len += 1;
        if bucket <= self.bucket {
            self.near.push(Reverse((at, key)));
        } else {
            self.later.entry(bucket).or_default().push((at, key));
        }
    }

    /// The first one.
    pub(super) fn first(&self) -> Option<(i64, KeyHash)> {
        self.near.peek().map(|Reverse(first)| *first)
    }

    /// Takes the first one out, if it is at `to` or before.
    pub(super) fn take_until(&mut self, to: i64) -> Option<(i64, KeyHash)> {
        self.first().filter(|(at, _)| *at <= to)?;
        let Reverse(first) = self.near.pop()?;
        self.len -= 1;
        if self.near.is_empty()
            && let Some((bucket, timers)) = self.later.pop_first()
        {
            self.bucket = bucket;
            self.near = timers.into_iter().map(Reverse).collect();
        }
        Some(first)
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        // A bucket has room for half as many again, as it grows by doubling.
        (self.len + self.len / 2) * size_of::<(i64, KeyHash)>()
    }
}

impl FromIterator<(i64, KeyHash)> for Timers {
    fn from_iter<T: IntoIterator<Item = (i64, KeyHash)>>(timers: T) -> Self {
        let mut all = Self::default();
        for (at, key) in timers {
            all.push(at, key);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn key(number: u64) -> KeyHash {
        KeyHash {
            high: number,
            low: number,
        }
    }

    proptest! {
        /// Whatever is put in and taken out in between, the earliest comes first.
        #[test]
        fn the_earliest_comes_first(steps in vec((-300_i64..300, 0_u64..4, any::<bool>()), 0..200)) {
            let (mut timers, mut naive) = (Timers::default(), BinaryHeap::new());
            for (seconds, number, takes) in steps {
                let at = seconds * 1_000_000;
                if takes {
                    let expected = naive.peek().copied();
                    let expected = expected.filter(|Reverse((it, _))| *it <= at);
                    if expected.is_some() {
                        naive.pop();
                    }
                    prop_assert_eq!(timers.take_until(at), expected.map(|Reverse(it)| it));
                } else {
                    timers.push(at, key(number));
                    naive.push(Reverse((at, key(number))));
                }
                prop_assert_eq!(timers.first(), naive.peek().map(|Reverse(it)| *it));
                prop_assert_eq!(timers.len(), naive.len());
            }
        }
    }
}
