//! The committables of a table: files to add and files to remove.

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{Table, paths};
use crate::{Error, Result, committer::Committable, sink::PreparedCommit, state::Snapshot};

/// The content of a [`Committable`] of a table, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// A staged file of a commit whose number is not known yet.
    Stage {
        /// Its path, relative to the table's folder.
        staged: String,
        /// The Hive folder to publish it in.
        folder: String,
        /// Its published name without the suffix, if its sink has chosen one.
        name: Option<String>,
        /// SHA-256 of its bytes, in hex.
        sha256: String,
    },
    /// A staged file of a record.
    Add {
        /// Its path, relative to the table's folder.
        staged: String,
        /// Its published path, relative to the table's folder.
        #[serde(rename = "final")]
        published: String,
        /// SHA-256 of its bytes, in hex.
        sha256: String,
    },
    /// A published file of an earlier commit.
    Remove(RemovedFile),
}

impl Change {
    /// The change in a committable.
    ///
    /// # Errors
    /// `Data` if the content is none.
    pub fn read(committable: &Committable) -> Result<Self> {
        serde_json::from_str(&committable.content).map_err(|error| {
            let content = &committable.content;
            Error::data(format!("`{content}` does not describe a file of a table"))
                .with_source(error)
        })
    }

    /// The committable of a change with this number of rows and bytes.
    ///
    /// # Errors
    /// `Internal`, never in practice.
    pub fn committable(&self, rows: u64, bytes: u64) -> Result<Committable> {
        let content = serde_json::to_string(self)
            .map_err(|error| Error::internal("cannot write a change as JSON").with_source(error))?;
        Ok(Committable {
            rows,
            bytes,
            content,
        })
    }
}

/// A published file to remove. Its name is never used again, so a second or late deletion does no
/// harm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovedFile {
    /// Its published path, relative to the table's folder.
    #[serde(rename = "final")]
    pub published: String,
}

/// A finished file in the staging folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile {
    /// Its path in the store.
    pub staged: Path,
    /// The Hive folder to publish it in, relative to the table's root: `dt=2026-01-05`. Empty for
    /// an unpartitioned table.
    pub folder: Path,
    /// Its published name without the suffix, if a later commit may remove it. The name is unique
    /// and begins with [`SinkContext::log`](crate::sink::SinkContext::log) and `-`. Other files are
    /// named after their commit.
    pub name: Option<String>,
    /// The number of rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// A file that a commit publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedFile {
    /// Its staged path, relative to the table's folder.
    pub staged: String,
    /// Its published path, relative to the table's folder.
    pub published: String,
    /// The number of rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// The files that the committables of a record add and remove.
///
/// # Errors
/// `Data` if a committable does not describe a file.
pub fn changes(committables: &[Committable]) -> Result<(Vec<CommittedFile>, Vec<RemovedFile>)> {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for committable in committables {
        match Change::read(committable)? {
            Change::Add {
                staged,
                published,
                sha256,
            } => added.push(CommittedFile {
                staged,
                published,
                rows: committable.rows,
                bytes: committable.bytes,
                sha256,
            }),
            Change::Remove(file) => removed.push(file),
            Change::Stage { staged, .. } => {
                return Err(Error::data(format!(
                    "a record names `{staged}` without its published path"
                )));
            }
        }
    }
    Ok((added, removed))
}

/// The result of a sink of files at a barrier.
#[derive(Debug, Default)]
pub struct PreparedFiles {
    /// Finished, uploaded, not yet visible files.
    pub files: Vec<StagedFile>,
    /// Files of earlier commits that the new files replace. They are deleted once the new files are
    /// visible.
    pub removed: Vec<RemovedFile>,
    /// Rows that stay in open files.
    pub snapshot: Snapshot,
}

impl PreparedFiles {
    /// The result for the runtime. `root` is the table's folder in the store.
    ///
    /// # Errors
    /// `Internal` if a file was staged outside the folder.
    pub fn into_commit(self, root: &Path) -> Result<PreparedCommit> {
        let mut committables = Vec::with_capacity(self.files.len() + self.removed.len());
        for file in self.files {
            let staged = paths::relative(root, &file.staged).ok_or_else(|| {
                Error::internal(format!("`{}` was staged outside its table", file.staged))
            })?;
            let change = Change::Stage {
                staged,
                folder: file.folder.to_string(),
                name: file.name,
                sha256: file.sha256,
            };
            committables.push(change.committable(file.rows, file.bytes)?);
        }
        for file in self.removed {
            committables.push(Change::Remove(file).committable(0, 0)?);
        }
        Ok(PreparedCommit {
            committables,
            snapshot: self.snapshot,
        })
    }
}

/// The files that a sink has staged and removed, from its committables before a commit. `root` is
/// the table's folder in the store.
///
/// # Errors
/// `Data` if a committable does not describe a staged or removed file.
pub fn prepared(
    committables: &[Committable],
    root: &Path,
) -> Result<(Vec<StagedFile>, Vec<RemovedFile>)> {
    let (mut files, mut removed) = (Vec::new(), Vec::new());
    for committable in committables {
        match Change::read(committable)? {
            Change::Stage {
                staged,
                folder,
                name,
                sha256,
            } => files.push(StagedFile {
                staged: paths::absolute(root, &staged),
                folder: paths::absolute(&Path::default(), &folder),
                name,
                rows: committable.rows,
                bytes: committable.bytes,
                sha256,
            }),
            Change::Remove(file) => removed.push(file),
            Change::Add { staged, .. } => {
                return Err(Error::data(format!("`{staged}` is in a commit already")));
            }
        }
    }
    Ok((files, removed))
}

/// Names the files of one commit.
pub(super) struct Naming<'a> {
    /// The part of a generated name before the number: `main-67e55044-12`.
    pub(super) prefix: String,
    /// The part after it.
    pub(super) unique: String,
    pub(super) table: &'a Table,
}

impl Naming<'_> {
    /// Sets the published paths of staged files.
    pub(super) fn seal(&self, committables: Vec<Committable>) -> Result<Vec<Committable>> {
        let mut number = 0;
        let mut sealed = Vec::with_capacity(committables.len());
        for committable in committables {
            let Change::Stage {
                staged,
                folder,
                name,
                sha256,
            } = Change::read(&committable)?
            else {
                sealed.push(committable);
                continue;
            };
            let name = name.unwrap_or_else(|| format!("{}-{number}-{}", self.prefix, self.unique));
            number += 1;
            let file = format!("{name}.{}", self.table.suffix);
            // Not `Path::from`: it would encode the folder twice.
            let published = paths::absolute(&Path::default(), &folder).join(file);
            let change = Change::Add {
                staged,
                published: published.to_string(),
                sha256,
            };
            sealed.push(change.committable(committable.rows, committable.bytes)?);
        }
        Ok(sealed)
    }
}
