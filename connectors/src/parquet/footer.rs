//! What a Parquet file says of itself at its end.

use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::{errors::ParquetError, file::metadata::ParquetMetaDataReader};
use tagflow_engine::{Error, Result, store_error};

/// What is read at first; most footers are shorter.
const TAIL_BYTES: u64 = 64 * 1024;

/// How many rows the file at `path`, of this size, holds. Reads its footer alone.
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
