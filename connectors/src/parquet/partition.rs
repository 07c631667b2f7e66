//! Assigns rows to Hive folders.

use std::collections::HashMap;

use arrow::{
    array::{Array, ArrayRef, UInt32Array},
    compute::take_record_batch,
    record_batch::RecordBatch,
    row::{RowConverter, SortField},
    util::display::{ArrayFormatter, FormatOptions},
};
use object_store::path::Path;
use tagflow_engine::{Error, Result};

use super::{folder, layout::Layout};

/// Splits rows by their partition columns.
#[derive(Debug)]
pub(super) struct Partitioner {
    names: Vec<String>,
    /// The partition columns are the last columns of the table, from this index.
    first: usize,
    rows: RowConverter,
}

impl Partitioner {
    /// For the partition columns of `layout`.
    pub(super) fn new(layout: &Layout) -> Result<Self> {
        let first = layout.file.fields().len();
        let columns = layout.table.fields().iter().skip(first);
        let sort_fields = columns
            .clone()
            .map(|field| SortField::new(field.data_type().clone()))
            .collect();
        Ok(Self {
            names: columns.map(|field| field.name().clone()).collect(),
            first,
            rows: RowConverter::new(sort_fields)?,
        })
    }

    /// Splits rows by folder, in the order in which folders appear; the rows of each folder keep
    /// their order. A folder may appear twice.
    pub(super) fn split(&self, rows: RecordBatch) -> Result<Vec<(Path, RecordBatch)>> {
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let Some(keys) = rows.columns().get(self.first..).filter(|k| !k.is_empty()) else {
            return Ok(vec![(Path::ROOT, rows)]);
        };
        let groups = self.groups(keys)?;
        let formatters = formatters(keys)?;
        let folder = |group: &[u32]| {
            // A group has at least one row.
            let row = group.first().map_or(0, |&row| row as usize);
            self.folder(keys, &formatters, row)
        };
        if let [only] = groups.as_slice() {
            return Ok(vec![(folder(only)?, rows.clone())]);
        }
        groups
            .into_iter()
            .map(|group| {
                let folder = folder(&group)?;
                Ok((folder, take_record_batch(&rows, &UInt32Array::from(group))?))
            })
            .collect()
    }

    /// The row numbers of each distinct key.
    fn groups(&self, keys: &[ArrayRef]) -> Result<Vec<Vec<u32>>> {
        let rows = self.rows.convert_columns(keys)?;
        let mut group_of = HashMap::new();
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for (number, key) in (0..).zip(rows.iter()) {
            let group = *group_of.entry(key).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups
                .get_mut(group)
                .expect("the group was pushed")
                .push(number);
        }
        Ok(groups)
    }

    /// `dt=2026-01-05/country=cn`.
    fn folder(
        &self,
        keys: &[ArrayRef],
        formatters: &[ArrayFormatter<'_>],
        row: usize,
    ) -> Result<Path> {
        let limit = folder::name_bytes(self.names.len());
        let mut names = Vec::with_capacity(self.names.len());
        for ((name, key), formatter) in self.names.iter().zip(keys).zip(formatters) {
            let value = key
                .is_valid(row)
                .then(|| formatter.value(row).try_to_string());
            names.push(folder::name(name, value.transpose()?.as_deref(), limit));
        }
        Path::parse(names.join("/"))
            .map_err(|error| Error::internal("a Hive folder has a bad name").with_source(error))
    }
}

fn formatters(keys: &[ArrayRef]) -> Result<Vec<ArrayFormatter<'_>>> {
    static OPTIONS: FormatOptions<'static> = FormatOptions::new();
    keys.iter()
        .map(|key| Ok(ArrayFormatter::try_new(key.as_ref(), &OPTIONS)?))
        .collect()
}
