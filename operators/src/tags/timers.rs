//! Timers of keys.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

/// The width of a bucket.
const BUCKET_US: i64 = 60_000_000;

/// Times with the hashes of the keys whose timers fire then. It is a calendar queue
/// (Brown, *A Fast O(1) Priority Queue Implementation for the Simulation Event Set
/// Problem*, 1988): nearly all timers are unsorted, in buckets of a minute, until their
/// bucket is the next.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The first bucket, and all timers added before its end. Empty only if the later
    /// buckets are.
    near: BinaryHeap<Reverse<(i64, u64)>>,
    /// The number of the first bucket.
    bucket: i64,
    later: BTreeMap<i64, Vec<Timer>>,
    len: usize,
}

/// A time and a hash in twelve bytes, because each key has one or two timers.
#[derive(Debug, Clone, Copy)]
#[repr(Rust, packed(4))]
struct Timer {
    /// The offset from the start of the bucket, in microseconds.
    offset: u32,
    hash: u64,
}

impl Timers {
    /// The number of timers.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a timer.
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

    /// The first timer.
    pub(super) fn first(&self) -> Option<(i64, u64)> {
        self.near.peek().map(|Reverse(first)| *first)
    }

    /// Removes and returns the first timer, if it is at or before `to`.
    pub(super) fn take_until(&mut self, to: i64) -> Option<(i64, u64)> {
        self.first().filter(|(at, _)| *at <= to)?;
        let Reverse(first) = self.near.pop()?;
        self.len -= 1;
        if self.near.is_empty()
            && let Some((bucket, timers)) = self.later.pop_first()
        {
            self.bucket = bucket;
            // The time is in range, even if the start of the bucket is not.
            let start = bucket.wrapping_mul(BUCKET_US);
            let timers = timers.into_iter();
            let timers = timers.map(|timer| (start.wrapping_add(timer.offset.into()), timer.hash));
            self.near = timers.map(Reverse).collect();
        }
        Some(first)
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        // A bucket grows by doubling: on average it has unused room for half its length.
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
        /// The earliest timer is always first, also between additions and removals.
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
