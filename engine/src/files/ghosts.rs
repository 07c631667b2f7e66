//! Replaced files that a late copy may restore.
//!
//! A killed owner may have a copy under way. The store may finish it long after a successor has
//! replaced the file, and the old rows become visible again. Each successor therefore keeps the
//! names of the files that were not known to be published at its takeover, and repeats them in the
//! notes of its commits. With each commit it deletes again those that commits have removed, for
//! [`REMEMBERED`].

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::{CommittedFile, RemovedFile};
use crate::EventTime;

/// How long a file is remembered. Stores abandon a copy sooner.
const REMEMBERED: Duration = Duration::from_mins(15);

/// The highest number of remembered files, the newest.
const MOST: usize = 1000;

/// A file that a former owner may still be copying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ghost {
    /// Its published path, relative to the table's folder.
    #[serde(rename = "final")]
    pub published: String,
    /// When its owner was replaced.
    pub since: EventTime,
    /// Whether a commit has removed it: then it is deleted whenever it exists.
    pub removed: bool,
}

impl Ghost {
    fn file(&self) -> RemovedFile {
        RemovedFile {
            published: self.published.clone(),
        }
    }
}

/// The remembered files.
#[derive(Debug)]
pub(super) struct Ghosts {
    /// Those that notes repeat.
    known: Vec<Ghost>,
    /// The files that the last commits before the takeover removed, and the time of the takeover:
    /// an older build did not repeat them.
    replaced: (EventTime, Vec<RemovedFile>),
}

impl Default for Ghosts {
    fn default() -> Self {
        Self {
            known: Vec::new(),
            replaced: (EventTime::MIN, Vec::new()),
        }
    }
}

impl Ghosts {
    /// After a takeover. `inherited` are those of the last note, `undelivered` the files that
    /// earlier owners may be copying, and `replaced` the files that the last commits removed.
    pub(super) fn new(
        now: EventTime,
        inherited: Vec<Ghost>,
        undelivered: &[CommittedFile],
        replaced: Vec<RemovedFile>,
    ) -> Self {
        let before: BTreeSet<RemovedFile> = inherited.iter().map(Ghost::file).collect();
        let mut ghosts = Self {
            known: inherited,
            replaced: (now, replaced),
        };
        for file in undelivered {
            let published = file.published.clone();
            if !before.contains(&RemovedFile {
                published: published.clone(),
            }) {
                ghosts.known.push(Ghost {
                    published,
                    since: now,
                    removed: false,
                });
            }
        }
        ghosts
    }

    /// Marks files that a commit removes.
    pub(super) fn removed(&mut self, files: &[RemovedFile]) {
        if self.known.is_empty() {
            return;
        }
        let files: BTreeSet<&RemovedFile> = files.iter().collect();
        for ghost in &mut self.known {
            ghost.removed |= files.contains(&ghost.file());
        }
    }

    /// Those to repeat in a record.
    pub(super) fn hand_on(&mut self, now: EventTime) -> Vec<Ghost> {
        self.known
            .retain(|ghost| now.since(ghost.since) < REMEMBERED);
        let surplus = self.known.len().saturating_sub(MOST);
        self.known.drain(..surplus);
        self.known.clone()
    }

    /// The files to delete again.
    pub(super) fn due(&mut self, now: EventTime) -> Vec<RemovedFile> {
        if now.since(self.replaced.0) >= REMEMBERED {
            self.replaced.1.clear();
        }
        let known = self.known.iter().filter(|ghost| ghost.removed);
        known
            .map(Ghost::file)
            .chain(self.replaced.1.iter().cloned())
            .collect()
    }
}
