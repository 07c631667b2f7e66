//! S9: from the staging folder into the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;

use super::{
    decide::{self, Copied, FileStep},
    paths::{self, Paths},
    record::{Attempt, FileRef, Record},
    store::LogStore,
};
use crate::{
    Clock, Error, Result,
    sink::{StagedFile, Table},
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
            let published = file
                .folder
                .join(format!("{}-{seq}-{n}-{unique}.parquet", self.task));
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

    /// Makes every file of a commit visible, then deletes what was staged. May
    /// be repeated, by anyone: the record fixes names and bytes.
    pub(super) async fn publish(&self, commit: &Record) -> Result<()> {
        let copies: Vec<_> = commit
            .files
            .iter()
            .map(|file| self.publish_file(commit.seq, file))
            .collect();
        stream::iter(copies)
            .buffer_unordered(COPIES)
            .try_collect::<()>()
            .await?;
        for (table, place) in &self.tables {
            let staged: Vec<Path> = commit
                .files
                .iter()
                .filter(|file| file.table == *table)
                .map(|file| paths::absolute(&place.root, &file.staged))
                .collect();
            place.store.delete(&staged).await?;
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
