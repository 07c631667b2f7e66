//! S9: from the staging folder into the table.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;

use super::{
    decide::{self, Copied, FileStep, PublishStep},
    paths::{self, Paths},
    record::{Attempt, FileRef, Record},
    store::LogStore,
};
use crate::{
    Clock, Error, Result,
    sink::{RemovedFile, StagedFile, Table},
};

/// How many files are copied at a time.
const COPIES: usize = 8;

/// The tables that a pipeline writes.
pub(super) struct Publisher {
    tables: BTreeMap<Arc<str>, Place>,
    task: String,
    staging: Path,
}

/// Where a table lies.
struct Place {
    store: LogStore,
    root: Path,
}

impl Publisher {
    pub(super) fn new(tables: Vec<Table>, paths: &Paths, clock: &Arc<dyn Clock>) -> Self {
        let place = |table: Table| {
            let store = LogStore::new(table.store, Arc::clone(clock));
            (
                table.url,
                Place {
                    store,
                    root: table.root,
                },
            )
        };
        Self {
            tables: tables.into_iter().map(place).collect(),
            task: paths.task().to_owned(),
            staging: paths.staging(),
        }
    }

    /// Where the owner by `claim_seq` stages files, from a table's folder.
    pub(super) fn staging(&self, claim_seq: u64) -> Path {
        self.staging.clone().join(claim_seq.to_string())
    }

    /// Gives staged files the names that commit `seq` will publish them under.
    pub(super) fn name(
        &self,
        staged: Vec<StagedFile>,
        seq: u64,
        attempt: Attempt,
    ) -> Result<Vec<FileRef>> {
        let unique = attempt.short();
        let name = |(n, file): (usize, StagedFile)| {
            let place = self.tables.get(&file.table).ok_or_else(|| {
                Error::internal(format!("a file was staged for `{}`, no table", file.table))
            })?;
            let staged = paths::relative(&place.root, &file.staged).ok_or_else(|| {
                Error::internal(format!("`{}` was staged outside its table", file.staged))
            })?;
            let own_name = file.name;
            let name = own_name.unwrap_or_else(|| format!("{}-{seq}-{n}-{unique}", self.task));
            let published = file.folder.join(format!("{name}.parquet"));
            Ok(FileRef {
                table: file.table,
                staged,
                published: published.to_string(),
                rows: file.rows,
                bytes: file.bytes,
                sha256: file.sha256,
            })
        };
        staged.into_iter().enumerate().map(name).collect()
    }

    /// Makes the files of these commits visible, but for those that another of
    /// them removes; then deletes what was staged, and the files that are
    /// replaced. May be repeated, by anyone: the records fix names and bytes.
    pub(super) async fn publish(&self, commits: &VecDeque<Record>) -> Result<()> {
        let mut step = PublishStep::Copy;
        loop {
            match step {
                PublishStep::Copy => self.copy(commits).await?,
                PublishStep::Unstage => {
                    let files = commits.iter().flat_map(|commit| &commit.files);
                    self.delete(files.map(|file| (&file.table, &file.staged)))
                        .await?;
                }
                PublishStep::Remove => {
                    let files = commits.iter().flat_map(|commit| commit.removed.clone());
                    self.remove(&files.collect::<Vec<_>>()).await?;
                }
                PublishStep::Done => return Ok(()),
            }
            step = decide::after_publish_step(step);
        }
    }

    async fn copy(&self, commits: &VecDeque<Record>) -> Result<()> {
        let removed = commits.iter().flat_map(|commit| commit.removed.clone());
        let files = commits.iter().flat_map(|commit| {
            let files = commit.files.iter();
            files.map(|file| (file.as_removed(), (commit.seq, file)))
        });
        let copies: Vec<_> = decide::to_copy(files, &removed.collect())
            .into_iter()
            .map(|(seq, file)| self.publish_file(seq, file))
            .collect();
        stream::iter(copies)
            .buffer_unordered(COPIES)
            .try_collect::<()>()
            .await
    }

    /// Deletes published files that were replaced. May be repeated: an owner that was
    /// stopped while it copied one may have put it back since, where a store lets a
    /// write take effect long after it was given up.
    pub(super) async fn remove(&self, files: &[RemovedFile]) -> Result<()> {
        let files = files.iter();
        self.delete(files.map(|file| (&file.table, &file.published)))
            .await
    }

    /// Deletes files of the tables, by their paths from the tables' folders.
    async fn delete<'a>(
        &self,
        files: impl Iterator<Item = (&'a Arc<str>, &'a String)> + Clone,
    ) -> Result<()> {
        for (table, place) in &self.tables {
            let paths: Vec<Path> = files
                .clone()
                .filter(|(of, _)| *of == table)
                .map(|(_, path)| paths::absolute(&place.root, path))
                .collect();
            place.store.delete(&paths).await?;
        }
        Ok(())
    }

    async fn publish_file(&self, seq: u64, file: &FileRef) -> Result<()> {
        let Some(place) = self.tables.get(&file.table) else {
            return Err(Error::config(format!(
                "commit #{seq} has yet to publish files to `{}`, and no sink writes there any more; run the pipeline once with that sink",
                file.table
            )));
        };
        let from = paths::absolute(&place.root, &file.staged);
        let to = paths::absolute(&place.root, &file.published);
        let mut backoff = place.store.backoff();
        let mut answer = Copied::SourceMissing;
        let mut step = FileStep::Copy;
        loop {
            step = match step {
                FileStep::Copy => {
                    answer = place.store.copy(&from, &to).await?;
                    decide::after_copy(answer)
                }
                FileStep::Measure => {
                    let found = place.store.size(&to).await?;
                    let next = decide::after_measure(answer, found, file.bytes);
                    if next == FileStep::Copy {
                        backoff.after_nothing("copy", &from).await?;
                    }
                    next
                }
                FileStep::Published => return Ok(()),
                FileStep::Lost => {
                    return Err(Error::data(format!(
                        "file `{to}`, which commit #{seq} publishes, is neither staged nor there with its {} bytes: someone else moved, changed or deleted it; restore it, or move the state folder away together with the output to start anew",
                        file.bytes
                    )));
                }
            };
        }
    }

    /// Deletes what owners before `claim_seq` staged and no commit in
    /// `unpublished` names.
    pub(super) async fn delete_orphans<'a>(
        &self,
        claim_seq: u64,
        unpublished: impl Iterator<Item = &'a Record> + Clone,
    ) -> Result<()> {
        for (table, place) in &self.tables {
            let named: BTreeSet<Path> = unpublished
                .clone()
                .flat_map(|commit| &commit.files)
                .filter(|file| file.table == *table)
                .map(|file| paths::absolute(&place.root, &file.staged))
                .collect();
            let staging = paths::absolute(&place.root, self.staging.as_ref());
            let found = place.store.list(&staging).await?;
            let found = found.into_iter().filter_map(|object| {
                Some((
                    paths::claim_of(&staging, &object.location)?,
                    object.location,
                ))
            });
            let orphans = decide::orphans(claim_seq, found, &named);
            place.store.delete(&orphans).await?;
        }
        Ok(())
    }
}
