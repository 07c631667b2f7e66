//! Rows of an open file that a crash must not lose.

use std::{mem, sync::Arc};

use arrow::{
    array::{ArrayRef, StringArray},
    compute::concat_batches,
    datatypes::DataType,
    record_batch::RecordBatch,
};
use object_store::path::Path;
use tagflow_engine::{
    Result,
    state::{KeyGroup, KeyHasher, Parts, Snapshot, with_key_groups},
};

/// The rows of an open file: those in state, and those since the last cut.
///
/// Each cut adds the rows since the cut before as one part. When the file is finished, its parts
/// are removed. If there are too many rows, they are not kept: then the next cut must finish the
/// file.
#[derive(Debug)]
pub(super) struct Unflushed {
    /// The prefix of the keys of this file's parts.
    stem: String,
    /// The parts that hold this file's rows. Their rows are not kept.
    parts: Parts<()>,
    parts_bytes: usize,
    pending: Pending,
}

#[derive(Debug)]
enum Pending {
    /// The rows since the last cut.
    Rows {
        batches: Vec<RecordBatch>,
        bytes: usize,
    },
    /// There were too many.
    Dropped,
}

impl Pending {
    const NONE: Self = Self::Rows {
        batches: Vec::new(),
        bytes: 0,
    };
}

impl Unflushed {
    /// No rows yet, for the file named `stem`.
    pub(super) fn new(stem: String) -> Self {
        Self {
            stem,
            parts: Parts::default(),
            parts_bytes: 0,
            pending: Pending::NONE,
        }
    }

    /// Keeps rows (of the table's shape) that were written to the file.
    pub(super) fn push(&mut self, rows: RecordBatch) {
        if let Pending::Rows { batches, bytes } = &mut self.pending {
            *bytes += rows.get_array_memory_size();
            batches.push(rows);
        }
    }

    /// Drops the rows since the last cut: the file will be finished instead.
    pub(super) fn discard(&mut self) {
        self.pending = Pending::Dropped;
    }

    /// Whether the file must be finished at the next cut.
    pub(super) fn must_finish(&self) -> bool {
        matches!(self.pending, Pending::Dropped)
    }

    /// Memory of the rows since the last cut.
    pub(super) fn pending_bytes(&self) -> usize {
        match &self.pending {
            Pending::Rows { bytes, .. } => *bytes,
            Pending::Dropped => 0,
        }
    }

    /// The memory of all rows of the file when they are restored.
    pub(super) fn total_bytes(&self) -> usize {
        self.parts_bytes + self.pending_bytes()
    }

    /// Adds the rows since the last cut to `snapshot`, as one part.
    ///
    /// When the number of lanes changes, all rows of a Hive folder move to the same lane: their key
    /// group is that of the folder's name.
    pub(super) fn snapshot(&mut self, folder: &Path, snapshot: &mut Snapshot) -> Result<()> {
        let Pending::Rows { batches, bytes } = mem::replace(&mut self.pending, Pending::NONE)
        else {
            self.pending = Pending::Dropped;
            return Ok(());
        };
        let Some(first) = batches.first() else {
            return Ok(());
        };
        self.parts.push(());
        self.parts_bytes += bytes;
        let prefix = format_args!("{}.", self.stem);
        self.parts.snapshot(prefix, snapshot, |()| {
            let rows = concat_batches(&first.schema(), &batches)?;
            let groups = vec![key_group(folder)?; rows.num_rows()];
            with_key_groups(&rows, groups.into())
        })
    }

    /// The names of the parts that the finished file replaces.
    pub(super) fn into_names(mut self) -> Vec<String> {
        self.parts.take_names()
    }
}

fn key_group(folder: &Path) -> Result<KeyGroup> {
    let name: ArrayRef = Arc::new(StringArray::from(vec![folder.as_ref()]));
    let groups = KeyHasher::new([DataType::Utf8])?.key_groups(&[name])?;
    Ok(groups.first().copied().unwrap_or_default())
}
