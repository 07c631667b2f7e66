//! The totals of a table, for audits after old commits are collected.

use serde::{Deserialize, Serialize};

use super::{CommittedFile, FileSets, Ghost, RemovedFile};
use crate::{Error, Result, committer::Past};

/// The note of a table in a checkpoint, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The totals of all commits; `None` if the log began before they were counted.
    pub totals: Option<TableTotals>,
    /// Files that a former owner may still be copying.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ghosts: Vec<Ghost>,
}

impl Note {
    /// The note of the last commit.
    ///
    /// # Errors
    /// `Data` if it is damaged.
    pub fn read(past: Past<'_>) -> Result<Self> {
        match past {
            Past::Nothing => Ok(Self {
                totals: Some(TableTotals::default()),
                ghosts: Vec::new(),
            }),
            Past::Unknown => Ok(Self::default()),
            Past::Note(text) => serde_json::from_str(text).map_err(|error| {
                Error::data(format!("`{text}` is not the note of a table")).with_source(error)
            }),
        }
    }

    /// Its text in a checkpoint.
    ///
    /// # Errors
    /// `Internal`, never in practice.
    pub fn write(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::internal("cannot write a note as JSON").with_source(error))
    }
}

/// The totals of the files that the commits of a log have added to and removed from a table. They
/// describe the expected files after the commits themselves are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableTotals {
    /// The number of published files.
    pub files: u64,
    /// The rows of these files.
    pub rows: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The number of these files that later commits removed.
    pub removed: u64,
    /// A hash of the set of these files; `None` if some were removed, or if the log began before
    /// this existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sets: Option<FileSets>,
}

impl Default for TableTotals {
    /// The totals of a table without files.
    fn default() -> Self {
        Self {
            files: 0,
            rows: 0,
            bytes: 0,
            removed: 0,
            sets: Some(FileSets::default()),
        }
    }
}

impl TableTotals {
    /// Whether commits have put files into a table. A log of an older build did not count them: it
    /// has run, so the table belongs to it.
    ///
    /// # Errors
    /// `Data` if the note is damaged.
    pub(super) fn were_added(past: Past<'_>) -> Result<bool> {
        let totals = Note::read(past)?.totals;
        Ok(totals.is_none_or(|totals| totals.files > 0))
    }

    /// The number of visible files of a table; `None` if there is none.
    ///
    /// # Errors
    /// `Data` if the note is damaged.
    pub fn visible_files(past: Past<'_>) -> Result<Option<u64>> {
        let files = match Note::read(past)?.totals {
            Some(totals) => totals.files.saturating_sub(totals.removed),
            // A log of an older build did not count them.
            None => 1,
        };
        Ok(Some(files).filter(|files| *files > 0))
    }

    /// The totals after a commit with these changes.
    #[must_use]
    pub fn after(mut self, files: &[CommittedFile], removed: &[RemovedFile]) -> Self {
        for file in files {
            self.files += 1;
            self.rows += file.rows;
            self.bytes += file.bytes;
            if let Some(sets) = &mut self.sets {
                sets.add(file);
            }
        }
        if !removed.is_empty() {
            self.removed += removed.len() as u64;
            self.sets = None;
        }
        self
    }
}
