//! What the engine wants of a consumer thread: the latest wish wins, so
//! nothing queues up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tagflow_engine::source::Offset;

/// The wishes for one topic. Setting one never blocks for longer than the
/// thread takes to pick the others up.
#[derive(Debug, Default)]
pub(super) struct Control {
    changed: AtomicBool,
    wishes: Mutex<Wishes>,
}

/// What the thread should do.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Begin to read what was opened.
    pub(super) begin: bool,
    /// End.
    pub(super) stop: bool,
    /// Partitions not to be read for now.
    pub(super) paused: BTreeSet<i32>,
    /// Offsets to commit to the group.
    pub(super) commit: BTreeMap<i32, Offset>,
}

impl Control {
    /// Begins to read.
    pub(super) fn begin(&self) {
        self.wish(|wishes| wishes.begin = true);
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.wish(|wishes| wishes.stop = true);
    }

    /// Stops reading a partition.
    pub(super) fn pause(&self, partition: i32) {
        self.wish(|wishes| {
            wishes.paused.insert(partition);
        });
    }

    /// Goes on reading a partition.
    pub(super) fn resume(&self, partition: i32) {
        self.wish(|wishes| {
            wishes.paused.remove(&partition);
        });
    }

    /// Commits `offset` of a partition to the group.
    pub(super) fn commit(&self, partition: i32, offset: Offset) {
        self.wish(|wishes| {
            wishes.commit.insert(partition, offset);
        });
    }

    /// The wishes, if any has changed since the last call. Commits are handed
    /// over once; the others stand.
    pub(super) fn take(&self) -> Option<Wishes> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut wishes = self.lock();
        let taken = wishes.clone();
        wishes.commit.clear();
        Some(taken)
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.lock());
        self.changed.store(true, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_stand_and_commits_are_handed_over_once() {
        let control = Control::default();
        assert_eq!(control.take(), None);
        control.begin();
        control.pause(1);
        control.pause(2);
        control.resume(1);
        control.commit(0, 5);
        control.commit(0, 9);
        let wishes = control.take().unwrap();
        assert_eq!(wishes.paused, BTreeSet::from([2]));
        assert_eq!(wishes.commit, BTreeMap::from([(0, 9)]));
        assert_eq!(control.take(), None);
        control.stop();
        let wishes = control.take().unwrap();
        assert!(wishes.stop && wishes.begin && wishes.commit.is_empty());
        assert_eq!(wishes.paused, BTreeSet::from([2]));
    }
}
