//! The sink: one open file per partition, with a memory limit and cuts.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    mem,
    sync::Arc,
};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::{Path, PathPart};
use tagflow_engine::{
    Batch, Clock, Ids, Priority, Result, Uptime,
    element::BarrierKind,
    files::PreparedFiles,
    sink::{PreparedCommit, Sink, SinkContext},
    state::StatePart,
};

use super::{
    config::ParquetSinkConfig,
    layout::Layout,
    partition::Partitioner,
    rolling::{FinishedFile, OpenFile},
    writer::FileWriter,
};

/// The most bytes of rows that a cut of a lane returns as state. A file whose rows do not fit is
/// finished instead, because writing rows twice costs more than a smaller file.
pub(super) const CUT_CARRY_BYTES: usize = 8 * 1024 * 1024;

/// The most bytes of rows of a lane that recovery has to read back.
const TOTAL_CARRY_BYTES: usize = 64 * 1024 * 1024;

/// The most concurrent uploads of a cut. Files are encoded one after another, because encoding
/// takes much memory.
const CONCURRENT_UPLOADS: usize = 8;

/// The sink of a lane.
pub(super) struct ParquetSink {
    config: Arc<ParquetSinkConfig>,
    layout: Arc<Layout>,
    partitioner: Partitioner,
    /// The staging folder, from the store's root.
    staging: Path,
    /// The first part of the commit log's identity.
    log: Arc<str>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// The open file of each Hive folder.
    pub(super) open: BTreeMap<Path, OpenFile>,
    /// Files that the next cut reports.
    finished: Vec<FinishedFile>,
    /// Restored state; the next cut has its rows in files.
    restored: Vec<String>,
    /// Memory of the open files.
    pub(super) memory_bytes: usize,
    /// Memory of the rows that the open files carry.
    pub(super) pending_bytes: usize,
}

#[async_trait]
impl Sink for ParquetSink {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let rows = self.layout.table_rows(&batch.records)?;
        self.write_rows(rows).await
    }

    async fn prepare_commit(&mut self, kind: BarrierKind) -> Result<PreparedCommit> {
        let prepared = self.prepare_files(kind).await?;
        self.to_commit(prepared)
    }

    /// Writes the rows to new files. The state stays valid until the next cut, which finishes those
    /// files whatever their age and removes the state. So the lane that stored it does not matter.
    async fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in parts {
            let rows = self.layout.restored_rows(&part.rows)?;
            self.restored.push(part.key);
            self.write_rows(rows).await?;
            for file in self.open.values_mut() {
                file.finish_at_cut();
            }
            self.pending_bytes = 0;
        }
        Ok(())
    }
}

impl ParquetSink {
    /// The sink of a lane.
    pub(super) fn new(
        config: Arc<ParquetSinkConfig>,
        layout: Arc<Layout>,
        context: SinkContext,
    ) -> Result<Self> {
        let root = config.root.parts();
        let staging = root.chain(context.staging.parts()).collect();
        Ok(Self {
            partitioner: Partitioner::new(&layout)?,
            staging,
            config,
            layout,
            log: context.log,
            clock: context.clock,
            ids: context.ids,
            open: BTreeMap::new(),
            finished: Vec::new(),
            restored: Vec::new(),
            memory_bytes: 0,
            pending_bytes: 0,
        })
    }

    /// Ends an epoch, like [`Sink::prepare_commit`].
    pub(super) async fn prepare_files(&mut self, kind: BarrierKind) -> Result<PreparedFiles> {
        self.finish_due(kind).await?;
        let mut cut = PreparedFiles::default();
        cut.snapshot.removed = mem::take(&mut self.restored);
        for file in mem::take(&mut self.finished) {
            cut.files.push(file.staged);
            cut.snapshot.removed.extend(file.parts);
        }
        for file in self.open.values_mut() {
            file.snapshot(&mut cut.snapshot)?;
        }
        self.pending_bytes = 0;
        Ok(cut)
    }

    /// The result for the runtime.
    pub(super) fn to_commit(&self, prepared: PreparedFiles) -> Result<PreparedCommit> {
        prepared.into_commit(&self.config.root)
    }

    /// Writes rows of the table's shape.
    pub(super) async fn write_rows(&mut self, rows: RecordBatch) -> Result<()> {
        for (folder, rows) in self.partitioner.split(rows)? {
            self.write_partition(folder.clone(), rows).await?;
            let target_bytes = self.config.files.target_bytes;
            if self
                .open
                .get(&folder)
                .is_some_and(|file| file.is_full(target_bytes))
            {
                self.finish(&folder).await?;
            }
            self.keep_within_memory().await?;
        }
        Ok(())
    }

    async fn write_partition(&mut self, folder: Path, rows: RecordBatch) -> Result<()> {
        let file = match self.open.entry(folder) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => {
                let name = self.ids.unique().simple().to_string();
                let staged = PathPart::from(format!("{}-{name}", self.log));
                let staged = self.staging.parts().chain([staged]);
                let store = self.config.store.clone();
                let folder = vacant.key().clone();
                let writer = FileWriter::create(&self.layout, &folder, store, staged.collect())?;
                let now = self.clock.uptime();
                vacant.insert(OpenFile::new(
                    self.layout.clone(),
                    folder,
                    writer,
                    name,
                    now,
                ))
            }
        };
        let before = (file.memory_bytes(), file.carry().pending_bytes());
        file.write(rows).await?;
        self.memory_bytes = self.memory_bytes - before.0 + file.memory_bytes();
        self.pending_bytes = self.pending_bytes - before.1 + file.carry().pending_bytes();
        Ok(())
    }

    /// Writes out the largest open files until the rest is within `open_bytes`. Also drops the
    /// carried rows of files that have too many.
    async fn keep_within_memory(&mut self) -> Result<()> {
        while self.memory_bytes > self.config.files.open_bytes {
            let largest = self
                .open
                .iter_mut()
                .max_by_key(|(_, file)| file.memory_bytes());
            let Some((folder, file)) = largest else { break };
            if file.flush_helps() {
                let before = file.memory_bytes();
                file.flush().await?;
                self.memory_bytes = self.memory_bytes - before + file.memory_bytes();
            } else {
                let folder = folder.clone();
                self.finish(&folder).await?;
            }
        }
        while self.pending_bytes > CUT_CARRY_BYTES {
            let files = self.open.values_mut();
            let Some(largest) = files.max_by_key(|file| file.carry().pending_bytes()) else {
                break;
            };
            self.pending_bytes -= largest.carry().pending_bytes();
            largest.finish_at_cut();
        }
        Ok(())
    }

    async fn finish(&mut self, folder: &Path) -> Result<()> {
        if let Some(file) = self.take(folder) {
            self.finished
                .push(file.finish(Priority::Normal).await?.await?);
        }
        Ok(())
    }

    async fn finish_due(&mut self, kind: BarrierKind) -> Result<()> {
        let due: Vec<OpenFile> = self
            .due(kind, self.clock.uptime())
            .iter()
            .filter_map(|folder| self.take(folder))
            .collect();
        let clock = Arc::clone(&self.clock);
        let begun = clock.uptime();
        let finish = move |file: OpenFile| {
            let urgency = Priority::of_commit(begun, clock.uptime());
            file.finish(urgency)
        };
        // In order, so that the same input gives the same commit record.
        let finished: Vec<FinishedFile> = stream::iter(due)
            .then(finish)
            .try_buffered(CONCURRENT_UPLOADS)
            .try_collect()
            .await?;
        self.finished.extend(finished);
        Ok(())
    }

    /// The files that a cut finishes.
    fn due(&self, kind: BarrierKind, now: Uptime) -> Vec<Path> {
        let (mut due, mut staying): (Vec<_>, Vec<_>) =
            self.open.iter().partition(|(_, file)| match kind {
                BarrierKind::Stop | BarrierKind::Relief => true,
                BarrierKind::Checkpoint => file.is_due(now, self.config.files.max_open),
            });
        // Of the files that stay open, keep the smallest, as many as recovery may read back.
        staying.sort_by_key(|(_, file)| file.carry().total_bytes());
        let mut carried = 0;
        due.extend(staying.into_iter().skip_while(|(_, file)| {
            carried += file.carry().total_bytes();
            carried <= TOTAL_CARRY_BYTES
        }));
        due.into_iter().map(|(folder, _)| folder.clone()).collect()
    }

    fn take(&mut self, folder: &Path) -> Option<OpenFile> {
        let file = self.open.remove(folder)?;
        self.memory_bytes -= file.memory_bytes();
        self.pending_bytes -= file.carry().pending_bytes();
        Some(file)
    }
}
