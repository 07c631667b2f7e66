//! A Parquet file, batch by batch.

use std::{ops::Range, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, Stream, TryStreamExt, future::BoxFuture};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask, arrow_reader::ArrowReaderOptions,
        async_reader::AsyncFileReader,
    },
    errors::{ParquetError, Result as ParquetResult},
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};
use tagflow_engine::{
    Error, Result,
    source::{Chunk, ColumnRows, Offset, Reference, Rows},
};

use super::{config::FilesConfig, object::FileObject};

type Batches = Pin<Box<dyn Stream<Item = ParquetResult<arrow::record_batch::RecordBatch>> + Send>>;

/// Reads rows, from any row number on.
pub(super) struct ParquetRows {
    file: FileObject,
    batches: Batches,
    at: Offset,
    rows: Offset,
}

impl ParquetRows {
    /// Goes on at row `position`.
    pub(super) async fn open(
        file: FileObject,
        position: Offset,
        config: &FilesConfig,
    ) -> Result<Self> {
        let builder = ParquetRecordBatchStreamBuilder::new(file.clone())
            .await
            .map_err(|error| failed(&file, error))?;
        let rows = builder.metadata().file_metadata().num_rows();
        if position > rows {
            return Err(file.shorter_than(position, "row", rows.unsigned_abs()));
        }
        let projection = match &config.columns {
            None => ProjectionMask::all(),
            // By top-level field: a name may hold dots.
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
        })
    }

    /// Whether every row has been read.
    pub(super) fn at_end(&self) -> bool {
        self.at >= self.rows
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
            }),
        }))
    }
}

/// Told apart by its cause: the store failed, or the file is not what it says.
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
