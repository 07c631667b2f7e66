//! When something happens to keys by itself.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

/// How wide a bucket is.
const BUCKET_US: i64 = 60_000_000;

/// Times with the hashes of the keys to which something happens then: a queue in which
/// nearly all lie unsorted, in buckets of a minute, until theirs is the next (a calendar
/// queue: Brown, *A Fast O(1) Priority Queue Implementation for the Simulation Event Set
/// Problem*, 1988).
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The first bucket, and all that came to lie before its end. Empty only if the
    /// later ones are.
    near: BinaryHeap<Reverse<(i64, u64)>>,
    /// The number of the first bucket.
    bucket: i64,
    later: BTreeMap<i64, Vec<Timer>>,
    len: usize,
}

/// A time and a hash in twelve bytes, because there are one or two for each key.
#[derive(Debug, Clone, Copy)]
#[repr(Rust, packed(4))]
struct Timer {
    /// From the start of the bucket, in microseconds.
    offset: u32,
    hash: u64,
}

impl Timers {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds one.
    pub(super) fn push(&mut self, at: i64, hash: u64) {
        let bucket = at.div_euclid(BUCKET_US);
        if self.len == 0 {
            self.bucket = bucket;
        }
        self.len += 1;
        if bucket <= self.bucket {
            self.near.push(Reverse((at, hash)));
        } else {
            let offset = at.rem_euclid(BUCKET_US) as u32;
            let timers = self.later.entry(bucket).or_default();
            timers.push(Timer { offset, hash });
        }
    }

    /// The first one.
    pub(super) fn first(&self) -> Option<(i64, u64)> {
        self.near.peek().map(|Reverse(first)| *first)
    }

    /// Takes the first one out, if it is at `to` or before.
    pub(super) fn take_until(&mut self, to: i64) -> Option<(i64, u64)> {
        self.first().filter(|(at, _)| *at <= to)?;
        let Reverse(first) = self.near.pop()?;
        self.len -= 1;
        if self.near.is_empty()
            && let Some((bucket, timers)) = self.later.pop_first()
        {
            self.bucket = bucket;
            // The time is in range, if the start is not.
            let start = bucket.wrapping_mul(BUCKET_US);
            let timers = timers.into_iter();
            let timers = timers.map(|timer| (start.wrapping_add(timer.offset.into()), timer.hash));
            self.near = timers.map(Reverse).collect();
        }
        Some(first)
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        // A bucket has room for half as many again, as it grows by doubling.
        (self.len + self.len / 2) * size_of::<Timer>()
    }
}

impl FromIterator<(i64, u64)> for Timers {
    fn from_iter<T: IntoIterator<Item = (i64, u64)>>(timers: T) -> Self {
        let mut all = Self::default();
        for (at, hash) in timers {
            all.push(at, hash);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// Whatever is put in and taken out in between, the earliest comes first.
        #[test]
        fn the_earliest_comes_first(steps in vec((-300_i64..300, 0_u64..4, any::<bool>()), 0..200)) {
            let (mut timers, mut naive) = (Timers::default(), BinaryHeap::new());
            for (seconds, number, takes) in steps {
                let at = seconds * 1_000_000 + 7;
                if takes {
                    let expected = naive.peek().copied();
                    let expected = expected.filter(|Reverse((it, _))| *it <= at);
                    if expected.is_some() {
                        naive.pop();
                    }
                    prop_assert_eq!(timers.take_until(at), expected.map(|Reverse(it)| it));
                } else {
                    timers.push(at, number);
                    naive.push(Reverse((at, number)));
                }
                prop_assert_eq!(timers.first(), naive.peek().map(|Reverse(it)| *it));
                prop_assert_eq!(timers.len(), naive.len());
            }
        }
    }
}
