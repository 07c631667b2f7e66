//! Reads facts about a Parquet file from its footer and its first row.

use std::{ops::Range, sync::Arc};

use arrow::array::ArrayRef;
use bytes::Bytes;
use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, path::Path};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask, arrow_reader::ArrowReaderOptions,
        async_reader::AsyncFileReader,
    },
    errors::{ParquetError, Result as ParquetResult},
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};
use tagflow_engine::{Error, Result, store_error};

/// The size of the first read; most footers are shorter.
const TAIL_BYTES: u64 = 64 * 1024;

/// The number of rows of the file at `path`, of this size. Reads only its footer.
///
/// # Errors
/// `Data` where it is not Parquet; `External` where it cannot be read.
pub async fn footer_rows(store: &dyn ObjectStore, path: &Path, bytes: u64) -> Result<u64> {
    let unsound =
        |error| Error::data(format!("file `{path}` is not sound Parquet")).with_source(error);
    let mut reader = ParquetMetaDataReader::new();
    let mut wanted = TAIL_BYTES.min(bytes);
    loop {
        let tail = store.get_range(path, bytes - wanted..bytes).await;
        let tail = tail.map_err(|error| store_error::failed(store, "read", path, error))?;
        match reader.try_parse_sized(&tail, bytes) {
            Ok(()) => break,
            Err(ParquetError::NeedMoreData(needed))
                if (wanted + 1..=bytes).contains(&(needed as u64)) =>
            {
                wanted = needed as u64;
            }
            Err(error) => return Err(unsound(error)),
        }
    }
    let footer = reader.finish().map_err(unsound)?;
    Ok(u64::try_from(footer.file_metadata().num_rows()).unwrap_or(0))
}

/// The first value of `column` in a file, as an array of length 1; `None` without such a column or
/// without rows.
///
/// # Errors
/// `Data` where it is not Parquet or cannot be read.
pub async fn first_value(
    store: &Arc<dyn ObjectStore>,
    file: &ObjectMeta,
    column: &str,
) -> Result<Option<ArrayRef>> {
    let path = &file.location;
    let unsound =
        |error| Error::data(format!("file `{path}` is not sound Parquet")).with_source(error);
    let reader = StoredFile {
        store: Arc::clone(store),
        file: file.clone(),
    };
    let builder = ParquetRecordBatchStreamBuilder::new(reader);
    let builder = builder.await.map_err(unsound)?;
    let only = ProjectionMask::columns(builder.parquet_schema(), [column]);
    let rows = builder
        .with_projection(only)
        .with_batch_size(1)
        .with_limit(1);
    let mut rows = rows.build().map_err(unsound)?;
    let first = rows.try_next().await.map_err(unsound)?;
    Ok(first.and_then(|row| row.columns().first().cloned()))
}

/// A file with random access.
struct StoredFile {
    store: Arc<dyn ObjectStore>,
    file: ObjectMeta,
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let bytes = self.store.get_range(&self.file.location, range);
        bytes
            .map(|bytes| bytes.map_err(|error| ParquetError::External(error.into())))
            .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let size = self.file.size;
        let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
        async move { reader.load_and_finish(self, size).await.map(Arc::new) }.boxed()
    }
}
