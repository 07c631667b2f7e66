//! Converts input rows to the rows of files.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{ArrayRef, new_null_array},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit},
    record_batch::{RecordBatch, RecordBatchOptions},
};
use object_store::path::Path;
use parquet::{
    arrow::{ArrowSchemaConverter, ArrowWriter},
    errors::ParquetError,
    file::{
        metadata::SortingColumn,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::{ColumnPath, SchemaDescriptor},
};
use tagflow_engine::{Error, Result};

use super::{
    config::{Compression, FileOptions, ParquetSinkConfig},
    folder,
    sort::ORDER,
};

/// The most rows of a page: the grain of the page index.
const PAGE_ROWS: usize = 20_000;

/// The approximate memory of a Zstandard compressor between pages.
const ZSTD_BYTES: usize = 1024 * 1024;

/// The shapes of a table's rows, and the format of its files.
///
/// Rows have three shapes: *input* rows, *table* rows (portable types, the partition columns last),
/// and *file* rows. File rows have no partition columns, except in a folder whose name is a
/// shortened value. State contains table rows. Every column of a table may be null, because older
/// files may lack it.
#[derive(Debug)]
pub(super) struct Layout {
    /// The shape of the table.
    pub(super) table: SchemaRef,
    /// The shape of most files: the table's first columns.
    pub(super) file: SchemaRef,
    /// The file columns that files are sorted by.
    pub(super) sort_by: Vec<usize>,
    /// The writer's properties.
    pub(super) properties: WriterProperties,
    /// The most rows of a row group.
    pub(super) row_group_rows: usize,
    /// The memory limit of a file's rows that are buffered for sorting.
    pub(super) sort_bytes: usize,
    /// The most rows of a page.
    pub(super) page_rows: usize,
    /// The memory of the compressors of a file.
    pub(super) compressors_bytes: usize,
    /// The input column of each table column.
    inputs: Vec<usize>,
}

impl Layout {
    /// Checks `config`, without touching the store.
    pub(super) fn new(config: &ParquetSinkConfig) -> Result<Self> {
        let ParquetSinkConfig {
            schema,
            partition_by,
            files,
            ..
        } = config;
        check_sizes(files)?;

        let mut inputs: Vec<usize> = (0..schema.fields().len())
            .filter(|&column| partition_by.iter().all(|by| by.column != column))
            .collect();
        if inputs.is_empty() {
            return Err(Error::config(
                "a table needs a column besides those that it is partitioned by",
            ));
        }
        let mut fields: Vec<FieldRef> = inputs
            .iter()
            .filter_map(|&column| schema.fields().get(column))
            .map(|field| stored_field(field).as_ref().clone().with_nullable(true))
            .map(Arc::new)
            .collect();
        let file = Arc::new(Schema::new(fields.clone()));
        for by in partition_by {
            let field = schema.fields().get(by.column).ok_or_else(|| {
                Error::internal(format!("partition column `{}` is not there", by.name))
            })?;
            let data_type = stored_type(field.data_type());
            if !names_a_folder(&data_type) {
                return Err(Error::config(format!(
                    "cannot partition by `{}` of type `{data_type}`; take a string, an \
                     integer, a boolean, a date, a timestamp or a decimal",
                    by.name
                )));
            }
            if !folder::leaves_room(&by.name, partition_by.len()) {
                return Err(Error::config(format!(
                    "the name of the partition column `{}` is too long for the name of a folder",
                    by.name
                )));
            }
            inputs.push(by.column);
            fields.push(Arc::new(Field::new(&by.name, data_type, true)));
        }
        let mut names = HashSet::new();
        if let Some(twice) = fields.iter().find(|field| !names.insert(field.name())) {
            return Err(Error::config(format!(
                "there are two columns named `{}`",
                twice.name()
            )));
        }
        for (field, &input) in file.fields().iter().zip(&inputs) {
            check_writable(schema.field(input), field)?;
        }

        let columns = ArrowSchemaConverter::new()
            .convert(&file)
            .map_err(|error| Error::config("cannot write the table").with_source(error))?;
        let row_group_bytes = (files.open_bytes / 2).max(1);
        let compressors_bytes = match files.compression {
            Compression::Zstd(_) => columns.num_columns() * ZSTD_BYTES,
            Compression::Snappy | Compression::None => 0,
        };
        Ok(Self {
            properties: properties(files, &columns, row_group_bytes)?,
            sort_by: files
                .sort_by
                .iter()
                .map(|name| column_index(&file, name, "sort by"))
                .collect::<Result<_>>()?,
            table: Arc::new(Schema::new(fields)),
            file,
            row_group_rows: files.row_group_rows,
            sort_bytes: row_group_bytes,
            page_rows: PAGE_ROWS,
            compressors_bytes,
            inputs,
        })
    }

    /// The table column of a column of the input.
    pub(super) fn column_of(&self, input: usize) -> Option<usize> {
        self.inputs.iter().position(|&column| column == input)
    }

    /// Converts input rows to table rows.
    pub(super) fn table_rows(&self, input: &RecordBatch) -> Result<RecordBatch> {
        let columns = self
            .table
            .fields()
            .iter()
            .zip(&self.inputs)
            .map(|(field, &column)| stored(input.column(column), field))
            .collect::<Result<_>>()?;
        Ok(RecordBatch::try_new(self.table.clone(), columns)?)
    }

    /// Converts rows from state to table rows. The table may have had other columns when they were
    /// written: removed columns are dropped, and new ones are null.
    pub(super) fn restored_rows(&self, state: &RecordBatch) -> Result<RecordBatch> {
        let columns = self
            .table
            .fields()
            .iter()
            .map(|field| match state.column_by_name(field.name()) {
                Some(column) => stored(column, field),
                None => Ok(new_null_array(field.data_type(), state.num_rows())),
            })
            .collect::<Result<_>>()?;
        Ok(RecordBatch::try_new(self.table.clone(), columns)?)
    }

    /// The shape of the files in `folder`. If its name does not contain the values of the partition
    /// columns, the files do.
    pub(super) fn file_in(&self, folder: &Path) -> &SchemaRef {
        if folder::has_shortened(folder) {
            &self.table
        } else {
            &self.file
        }
    }

    /// Converts table rows to rows of the files in `folder`.
    pub(super) fn file_rows(&self, table: &RecordBatch, folder: &Path) -> Result<RecordBatch> {
        let shape = self.file_in(folder);
        let columns = table.columns().iter().take(shape.fields().len());
        let options = RecordBatchOptions::new().with_row_count(Some(table.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            shape.clone(),
            columns.cloned().collect(),
            &options,
        )?)
    }
}

/// The type of a column in a file, one that every reader supports.
///
/// Unsigned integers become signed ones, times become microseconds UTC, and Arrow-only encodings
/// are removed.
fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, _) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
        }
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => stored_type(values),
        DataType::List(item) | DataType::ListView(item) => DataType::List(stored_field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => {
            DataType::LargeList(stored_field(item))
        }
        DataType::FixedSizeList(item, len) => DataType::FixedSizeList(stored_field(item), *len),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| stored_field(field)).collect())
        }
        DataType::Map(entries, sorted) => DataType::Map(stored_field(entries), *sorted),
        other => other.clone(),
    }
}

fn stored_field(field: &Field) -> FieldRef {
    Arc::new(Field::new(
        field.name(),
        stored_type(field.data_type()),
        field.is_nullable(),
    ))
}

/// Converts a column to the table's type. A value that does not fit is an error, never a null.
fn stored(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(column.clone());
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, field.data_type(), &options).map_err(|error| {
        Error::data(format!(
            "column `{}` has a value that `{}` cannot hold",
            field.name(),
            field.data_type()
        ))
        .with_source(error)
    })
}

/// Checks a column's type by writing one null, because the library has no other check.
fn check_writable(input: &Field, field: &Field) -> Result<()> {
    let attempt = || -> Result<(), ParquetError> {
        if has_union(field.data_type()) {
            // The library would panic.
            return Err(ParquetError::NYI("unions".to_owned()));
        }
        let column = new_null_array(input.data_type(), 1);
        let column = cast_with_options(&column, field.data_type(), &CastOptions::default())?;
        let rows = RecordBatch::try_from_iter_with_nullable([(field.name(), column, true)])?;
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None)?;
        writer.write(&rows)?;
        writer.close()?;
        Ok(())
    };
    attempt().map_err(|error| {
        Error::config(format!(
            "column `{}` has type `{}`, which cannot be written to Parquet",
            field.name(),
            input.data_type()
        ))
        .with_source(error)
    })
}

fn has_union(data_type: &DataType) -> bool {
    match data_type {
        DataType::Union(_, _) => true,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_union(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_union(field.data_type())),
        _ => false,
    }
}

fn check_sizes(files: &FileOptions) -> Result<()> {
    for (name, size) in [
        ("target", files.target_bytes),
        ("open_bytes", files.open_bytes as u64),
        ("row_group_rows", files.row_group_rows as u64),
    ] {
        if size == 0 {
            return Err(Error::config(format!("`{name}` must be more than zero")));
        }
    }
    Ok(())
}

fn properties(
    files: &FileOptions,
    columns: &SchemaDescriptor,
    row_group_bytes: usize,
) -> Result<WriterProperties> {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("tagflow version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(files.compression.codec()?)
        .set_max_row_group_row_count(Some(files.row_group_rows))
        .set_max_row_group_bytes(Some(row_group_bytes))
        .set_data_page_row_count_limit(PAGE_ROWS)
        // The page index needs page statistics.
        .set_statistics_enabled(EnabledStatistics::Page);
    for name in &files.bloom_filters {
        leaf_index(columns, name, "make a Bloom filter of")?;
        let column = ColumnPath::from(name.as_str());
        properties = properties
            .set_column_bloom_filter_enabled(column.clone(), true)
            .set_column_bloom_filter_max_ndv(column, files.row_group_rows as u64);
    }
    let sorting = files
        .sort_by
        .iter()
        .map(|name| {
            Ok(SortingColumn {
                column_idx: leaf_index(columns, name, "sort by")? as i32,
                descending: ORDER.descending,
                nulls_first: ORDER.nulls_first,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(properties
        .set_sorting_columns(Some(sorting).filter(|sorting| !sorting.is_empty()))
        .build())
}

/// The index of column `name` among the leaves of the Parquet schema.
fn leaf_index(columns: &SchemaDescriptor, name: &str, what_for: &str) -> Result<usize> {
    columns
        .columns()
        .iter()
        .position(|column| column.path().parts() == [name])
        .ok_or_else(|| no_column(name, what_for))
}

fn column_index(schema: &Schema, name: &str, what_for: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| no_column(name, what_for))
}

fn no_column(name: &str, what_for: &str) -> Error {
    Error::config(format!(
        "cannot {what_for} `{name}`: the files have no such plain column"
    ))
}

/// Whether values of this type can name a folder.
fn names_a_folder(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Boolean
                | DataType::Date32
                | DataType::Timestamp(_, _)
                | DataType::Decimal128(_, _)
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_types_are_portable() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
        let strings = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
        for (data_type, expected) in [
            (DataType::Int64, DataType::Int64),
            (DataType::UInt8, DataType::Int16),
            (DataType::UInt32, DataType::Int64),
            (DataType::UInt64, DataType::Int64),
            (DataType::Utf8View, DataType::Utf8),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), utc.clone()),
            (
                DataType::Timestamp(TimeUnit::Second, Some(Arc::from("+08:00"))),
                utc,
            ),
            (
                DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8View)),
                DataType::Utf8,
            ),
            (strings(DataType::Utf8View), strings(DataType::Utf8)),
        ] {
            assert_eq!(stored_type(&data_type), expected, "{data_type}");
        }
    }
}
