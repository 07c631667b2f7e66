//! Commands of the engine to a consumer thread. The latest value wins, so nothing queues up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tagflow_engine::source::Offset;

/// The commands for one topic. Setting one blocks no longer than the thread takes to read the
/// others.
#[derive(Debug, Default)]
pub(super) struct Control {
    changed: AtomicBool,
    wishes: Mutex<Commands>,
}

/// The requested state of the thread.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Commands {
    /// Start to read the opened topic.
    pub(super) begin: bool,
    /// Stop.
    pub(super) stop: bool,
    /// The paused partitions.
    pub(super) paused: BTreeSet<i32>,
    /// Offsets to commit to the group.
    pub(super) commit: BTreeMap<i32, Offset>,
}

impl Control {
    /// Starts reading.
    pub(super) fn begin(&self) {
        self.wish(|wishes| wishes.begin = true);
    }

    /// Stops the thread.
    pub(super) fn stop(&self) {
        self.wish(|wishes| wishes.stop = true);
    }

    /// Pauses a partition.
    pub(super) fn pause(&self, partition: i32) {
        self.wish(|wishes| {
            wishes.paused.insert(partition);
        });
    }

    /// Resumes a partition.
    pub(super) fn resume(&self, partition: i32) {
        self.wish(|wishes| {
            wishes.paused.remove(&partition);
        });
    }

    /// Resumes all partitions: the paused ones no longer exist.
    pub(super) fn forget_pauses(&self) {
        self.wish(|wishes| wishes.paused.clear());
    }

    /// Commits `offset` of a partition to the group.
    pub(super) fn commit(&self, partition: i32, offset: Offset) {
        self.wish(|wishes| {
            wishes.commit.insert(partition, offset);
        });
    }

    /// The commands, if any has changed since the last call. Each commit is returned once; the
    /// other commands stay.
    pub(super) fn take(&self) -> Option<Commands> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut wishes = self.lock();
        let taken = wishes.clone();
        wishes.commit.clear();
        Some(taken)
    }

    fn wish(&self, change: impl FnOnce(&mut Commands)) {
        change(&mut self.lock());
        self.changed.store(true, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Commands> {
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
