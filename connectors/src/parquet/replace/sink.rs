//! The sink that buffers rows, then replaces those in published files.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::Arc,
};

use arrow::{
    array::BooleanArray, compute::filter_record_batch, record_batch::RecordBatch, row::Row,
};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::{Error as StoreError, ObjectStoreExt, path::Path};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};
use tagflow_engine::{
    Batch, Clock, Error, Ids, Result,
    element::BarrierKind,
    files::{PreparedFiles, RemovedFile, StagedFile},
    sink::{PreparedCommit, Sink, SinkContext},
    state::StatePart,
    store_error,
};

use super::{
    files::{Files, NewFile},
    pending::Pending,
    published::{Ends, Published, WindowFile},
    revisions::RevisionColumns,
};
use crate::parquet::{config::ParquetSinkConfig, layout::Layout, partition::Partitioner};

/// The most rows per batch that is read back.
const BATCH_ROWS: usize = 8192;

/// The sink of a table in which the newest revision of a row replaces the others; it runs on one
/// lane.
pub(in crate::parquet) struct ReplacingSink {
    config: Arc<ParquetSinkConfig>,
    layout: Arc<Layout>,
    revisions: Arc<RevisionColumns>,
    partitioner: Partitioner,
    /// The staging folder, from the store's root.
    staging: Path,
    /// The first part of the commit log's identity.
    log: Arc<str>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// The buffered rows of each Hive folder.
    pending: BTreeMap<Path, Pending>,
    /// The memory of the buffered rows.
    pending_bytes: usize,
    published: Published,
    /// The latest end of a closed window.
    closed_through: i64,
    /// Files that the next cut reports.
    finished: Vec<StagedFile>,
    /// Published files that the next cut removes.
    removed: Vec<RemovedFile>,
    /// State whose rows are in files now.
    written: Vec<String>,
}

impl ReplacingSink {
    pub(in crate::parquet) fn new(
        config: Arc<ParquetSinkConfig>,
        layout: Arc<Layout>,
        revisions: Arc<RevisionColumns>,
        context: SinkContext,
    ) -> Result<Self> {
        let root = config.root.parts();
        Ok(Self {
            staging: root.chain(context.staging.parts()).collect(),
            log: context.log,
            partitioner: Partitioner::new(&layout)?,
            config,
            layout,
            revisions,
            clock: context.clock,
            ids: context.ids,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            published: Published::default(),
            closed_through: i64::MIN,
            finished: Vec::new(),
            removed: Vec::new(),
            written: Vec::new(),
        })
    }

    async fn write_rows(&mut self, rows: RecordBatch) -> Result<()> {
        let closed_through = self.revisions.closed_through(&rows);
        self.closed_through = self.closed_through.max(closed_through.unwrap_or(i64::MIN));
        for (folder, rows) in self.partitioner.split(rows)? {
            let pending = self
                .pending
                .entry(folder)
                .or_insert_with(|| Pending::new(self.clock.uptime(), self.ids.as_ref()));
            let before = pending.bytes();
            pending.push(rows);
            self.pending_bytes += pending.bytes() - before;
        }
        // Replacing rows needs their memory a second time.
        while self.pending_bytes > self.config.files.open_bytes / 2 {
            let largest = self.pending.iter().max_by_key(|(_, rows)| rows.bytes());
            let Some(folder) = largest.map(|(folder, _)| folder.clone()) else {
                break;
            };
            self.put_in_place(&folder).await?;
        }
        Ok(())
    }

    /// Writes the buffered rows of a folder. Rows of windows in existing files cause those files to
    /// be rewritten; the others are written to new files.
    async fn put_in_place(&mut self, folder: &Path) -> Result<()> {
        let Some(pending) = self.pending.remove(folder) else {
            return Ok(());
        };
        self.pending_bytes -= pending.bytes();
        let rows = self.revisions.newest(&pending.rows()?)?;
        self.written.extend(pending.carry.into_names());
        let ends = self.revisions.window_ends(&rows).to_vec();
        let rows = self.layout.file_rows(&rows, folder)?;
        let keys = self.revisions.keys(&rows)?;
        let keys: HashSet<Row<'_>> = keys.iter().collect();

        // A retraction only removes its earlier revisions.
        let holds = self.revisions.hold(&rows)?;
        let mut homeless: Vec<bool> = holds.values().iter().collect();
        for old in self.published.take(folder, &ends) {
            let moves_in = ends.iter().zip(&homeless);
            let moves_in = moves_in.map(|(end, homeless)| *homeless && old.ends.contain(*end));
            let moves_in: Vec<bool> = moves_in.collect();
            for (homeless, moves_in) in homeless.iter_mut().zip(&moves_in) {
                *homeless &= !moves_in;
            }
            let mut files = self.files(folder, old.ends);
            for batch in self.decode(&old, self.read(&old).await?)? {
                let batch = batch?;
                let of_batch = self.revisions.keys(&batch)?;
                let stays: BooleanArray = of_batch
                    .iter()
                    .map(|key| Some(!keys.contains(&key)))
                    .collect();
                files.write(filter_record_batch(&batch, &stays)?).await?;
            }
            let moves_in = filter_record_batch(&rows, &BooleanArray::from(moves_in))?;
            files.write(moves_in).await?;
            let new = files.finish().await?;
            self.add(new);
            self.remove(old).await?;
        }
        let left = ends.iter().zip(&homeless);
        let left = left.filter(|(_, homeless)| **homeless).map(|(end, _)| *end);
        if let Some(ends) = Ends::of(left) {
            let mut files = self.files(folder, ends);
            let left = filter_record_batch(&rows, &BooleanArray::from(homeless))?;
            files.write(left).await?;
            let new = files.finish().await?;
            self.add(new);
        }
        Ok(())
    }

    fn files<'a>(&'a self, folder: &'a Path, ends: Ends) -> Files<'a> {
        Files {
            config: &self.config,
            layout: &self.layout,
            staging: &self.staging,
            log: &self.log,
            folder,
            ids: self.ids.as_ref(),
            ends,
            open: None,
            finished: Vec::new(),
        }
    }

    fn add(&mut self, files: Vec<NewFile>) {
        for (staged, file) in files {
            self.finished.push(staged);
            self.published.add(file);
        }
    }

    /// Removes a file whose rows are in other files now.
    async fn remove(&mut self, old: WindowFile) -> Result<()> {
        let unreported = self
            .finished
            .iter()
            .position(|file| file.name.as_ref() == Some(&old.name));
        let Some(index) = unreported else {
            self.removed.push(RemovedFile {
                published: old.path().to_string(),
            });
            return Ok(());
        };
        // No commit will name it.
        let staged = self.finished.remove(index).staged;
        let store = &self.config.store;
        let deleted = store.delete(&staged).await;
        deleted.map_err(|error| store_error::failed(store.as_ref(), "delete", &staged, error))
    }

    /// The bytes of a file: published or, until then, staged. It may be published at any moment.
    async fn read(&self, file: &WindowFile) -> Result<Bytes> {
        let store = &self.config.store;
        let published: Path = self
            .config
            .root
            .parts()
            .chain(file.path().parts())
            .collect();
        for path in [Some(&published), file.staged.as_ref(), Some(&published)]
            .into_iter()
            .flatten()
        {
            let read = async { store.get(path).await?.bytes().await };
            match read.await {
                Ok(bytes) => {
                    check(path, &bytes, file.sha256.as_deref())?;
                    return Ok(bytes);
                }
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => {
                    return Err(store_error::failed(store.as_ref(), "read", path, error));
                }
            }
        }
        Err(Error::data(format!(
            "file `{published}`, of which rows are to be replaced, is gone: someone else moved or \
             deleted it; restore it from a backup, or write the table anew by reading its sources \
             again (`--reset SOURCE --replace-tables`)"
        )))
    }

    /// The rows of a file.
    fn decode(
        &self,
        file: &WindowFile,
        bytes: Bytes,
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let path = file.path();
        let unsound = move |error| {
            Error::data(format!("file `{path}` of the table is not sound Parquet"))
                .with_source(error)
        };
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
            .map_err(&unsound)?;
        let shape = Arc::clone(self.layout.file_in(&file.folder));
        Ok(reader.map(move |batch| {
            let batch = batch.map_err(|error| unsound(error.into()))?;
            Ok(batch.with_schema(Arc::clone(&shape))?)
        }))
    }

    /// The folders whose rows a cut writes.
    fn due(&self, kind: BarrierKind) -> Vec<Path> {
        let now = self.clock.uptime();
        let is_due = |pending: &Pending| {
            kind != BarrierKind::Checkpoint
                || pending.carry.must_finish()
                || now.since(pending.since()) >= self.config.files.max_open
        };
        self.pending
            .iter()
            .filter(|(_, pending)| is_due(pending))
            .map(|(folder, _)| folder.clone())
            .collect()
    }
}

/// Rejects bytes that differ from the published ones: their rows would be written to new files,
/// with valid checksums.
fn check(path: &Path, bytes: &[u8], expected: Option<&str>) -> Result<()> {
    let Some(expected) = expected else {
        return Ok(());
    };
    if format!("{:x}", Sha256::digest(bytes)) == expected {
        return Ok(());
    }
    Err(Error::data(format!(
        "file `{path}`, of which rows are to be replaced, does not have the checksum that it had \
         when it was written: someone else changed it, or the disk did; restore it from a backup, \
         or write the table anew by reading its sources again (`--reset SOURCE --replace-tables`)"
    )))
}

#[async_trait]
impl Sink for ReplacingSink {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let rows = self.layout.table_rows(&batch.records)?;
        self.write_rows(rows).await
    }

    async fn prepare_commit(&mut self, kind: BarrierKind) -> Result<PreparedCommit> {
        for folder in self.due(kind) {
            self.put_in_place(&folder).await?;
        }
        let mut cut = PreparedFiles {
            files: mem::take(&mut self.finished),
            removed: mem::take(&mut self.removed),
            ..PreparedFiles::default()
        };
        cut.snapshot.removed = mem::take(&mut self.written);
        for (folder, pending) in &mut self.pending {
            pending.carry.snapshot(folder, &mut cut.snapshot)?;
        }
        // Buffered rows may belong to any window.
        self.published.retain(|file| {
            self.pending.contains_key(&file.folder)
                || !self
                    .revisions
                    .has_settled(file.ends.last, self.closed_through)
        });
        self.published.snapshot(&mut cut.snapshot)?;
        cut.into_commit(&self.config.root)
    }

    /// The rows are buffered until the next cut, which writes them whatever their age and removes
    /// their state. So the lane that stored them does not matter.
    async fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in parts {
            if self.published.restore(&part)? {
                continue;
            }
            let rows = self.layout.restored_rows(&part.rows)?;
            self.written.push(part.key);
            self.write_rows(rows).await?;
        }
        for pending in self.pending.values_mut() {
            pending.carry.discard();
        }
        Ok(())
    }
}
