//! Reads a Parquet file batch by batch.

use std::{ops::Range, pin::Pin, sync::Arc};

use arrow::{
    array::Array,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
};
use bytes::Bytes;
use futures::{FutureExt, Stream, TryStreamExt, future::BoxFuture};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, statistics::StatisticsConverter},
        async_reader::AsyncFileReader,
    },
    basic::Type as PhysicalType,
    errors::{ParquetError, Result as ParquetResult},
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};
use tagflow_engine::{
    Error, Result,
    source::{Chunk, ColumnRows, Offset, Reference, Rows},
};

use super::{config::FilesConfig, object::FileObject};

type Batches = Pin<Box<dyn Stream<Item = ParquetResult<RecordBatch>> + Send>>;

/// Reads rows, from any row number on.
pub(super) struct ParquetRows {
    file: FileObject,
    batches: Batches,
    at: Offset,
    rows: Offset,
    metadata: Arc<ParquetMetaData>,
    schema: SchemaRef,
}

impl ParquetRows {
    /// Opens the file at row `position`.
    pub(super) async fn open(
        file: FileObject,
        position: Offset,
        config: &FilesConfig,
    ) -> Result<Self> {
        let metadata =
            ArrowReaderMetadata::load_async(&mut file.clone(), ArrowReaderOptions::new())
                .await
                .and_then(in_micros)
                .map_err(|error| failed(&file, error))?;
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(file.clone(), metadata);
        let rows = builder.metadata().file_metadata().num_rows();
        if position > rows {
            return Err(file.shorter_than(position, "row", rows.unsigned_abs()));
        }
        let (metadata, schema) = (Arc::clone(builder.metadata()), Arc::clone(builder.schema()));
        let projection = match &config.columns {
            None => ProjectionMask::all(),
            // By top-level field, because a name may contain dots.
            Some(columns) => ProjectionMask::roots(
                builder.parquet_schema(),
                builder
                    .parquet_schema()
                    .root_schema()
                    .get_fields()
                    .iter()
                    .enumerate()
                    .filter(|(_, field)| columns.iter().any(|column| column == field.name()))
                    .map(|(index, _)| index),
            ),
        };
        let batches = builder
            .with_projection(projection)
            .with_batch_size(config.batch_rows)
            .with_offset(usize::try_from(position).unwrap_or(0))
            .build()
            .map_err(|error| failed(&file, error))?;
        Ok(Self {
            file,
            batches: Box::pin(batches),
            at: position,
            rows,
            metadata,
            schema,
        })
    }

    /// Whether every row has been read.
    pub(super) fn at_end(&self) -> bool {
        self.at >= self.rows
    }

    /// The smallest value of `column` in each row group, from the file's statistics; `None` without
    /// statistics. The order of texts is not the order of time.
    pub(super) fn smallest(&self, column: &str) -> Option<Rows> {
        let descriptor = self.metadata.file_metadata().schema_descr();
        let converter = StatisticsConverter::try_new(column, &self.schema, descriptor).ok()?;
        let smallest = converter.row_group_mins(self.metadata.row_groups()).ok()?;
        let known = smallest.null_count() == 0 && !smallest.is_empty();
        if !known || smallest.data_type().is_string() {
            return None;
        }
        Some(Rows::Columns(ColumnRows {
            records: RecordBatch::try_from_iter([(column, smallest)]).ok()?,
            first: 0,
            reference: Reference::None,
            folders: None,
        }))
    }

    /// The next rows; `None` at the end of the file.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>> {
        let batch = self.batches.try_next().await;
        let Some(records) = batch.map_err(|error| failed(&self.file, error))? else {
            return Ok(None);
        };
        let first = self.at;
        self.at += records.num_rows() as Offset;
        Ok(Some(Chunk {
            partition: self.file.name.clone(),
            first,
            next: self.at,
            rows: Rows::Columns(ColumnRows {
                records,
                first,
                reference: Reference::None,
                folders: None,
            }),
        }))
    }
}

/// The metadata of a file, with columns of the type INT96 in microseconds. In nanoseconds, the
/// default, times after 2262 wrap around.
fn in_micros(metadata: ArrowReaderMetadata) -> ParquetResult<ArrowReaderMetadata> {
    let file = Arc::clone(metadata.metadata());
    let types = file.file_metadata().schema_descr().root_schema();
    let is_int96 = |place: usize| {
        let kind = types.get_fields().get(place);
        kind.is_some_and(|it| it.is_primitive() && it.get_physical_type() == PhysicalType::INT96)
    };
    let fields = metadata.schema().fields();
    if !(0..fields.len()).any(is_int96) {
        return Ok(metadata);
    }
    let fields = fields.iter().enumerate().map(|(place, field)| {
        if is_int96(place) {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
            Arc::new(Field::clone(field).with_data_type(micros))
        } else {
            Arc::clone(field)
        }
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    ArrowReaderMetadata::try_new(file, ArrowReaderOptions::new().with_schema(schema))
}

/// Classifies a failure: either the store failed, or the file is invalid.
fn failed(file: &FileObject, error: ParquetError) -> Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<object_store::Error>() {
            Ok(error) => file.error(*error),
            Err(cause) => {
                Error::external(format!("cannot read `{}`", file.name)).with_source(cause)
            }
        },
        error => {
            Error::data(format!("the file `{}` is not sound Parquet", file.name)).with_source(error)
        }
    }
}

impl AsyncFileReader for FileObject {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            let bytes = self.fetch(range).await;
            bytes.map_err(|error| ParquetError::External(Box::new(error)))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let size = self.size();
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            reader.load_and_finish(self, size).await.map(Arc::new)
        }
        .boxed()
    }
}
