//! State parts on the store, as Arrow IPC.

use std::{panic::catch_unwind, sync::Arc};

use arrow::{
    array::RecordBatch,
    compute::concat_batches,
    datatypes::DataType,
    ipc::{
        CompressionType, RecordBatch as BatchHeader,
        reader::StreamReader,
        root_as_message,
        writer::{IpcWriteOptions, StreamWriter},
    },
};
use bytes::Bytes;
use tokio::{runtime::Handle, sync::Semaphore};

use super::{
    paths::Paths,
    record::{StateRef, sha256_hex},
    store::LogStore,
};
use crate::{Error, Ids, Priority, Result, blocking, state::NewPart};

/// About the bytes that are encoded at once.
const SLICE_BYTES: usize = 1 << 20;

/// Reads and writes the state parts of an owner.
#[derive(Clone)]
pub(super) struct StateStore {
    store: LogStore,
    paths: Paths,
    claim_seq: u64,
    ids: Arc<dyn Ids>,
    /// At most half of the threads encode parts. Rows continue meanwhile, and a part in encoding
    /// takes memory twice.
    encoders: Arc<Semaphore>,
}

/// The result of a read of a state part.
pub(super) enum Loaded {
    /// Its rows.
    Rows(RecordBatch),
    /// It does not exist.
    Missing,
}

impl StateStore {
    /// The store of the owner whose claim has this number.
    pub(super) fn new(store: LogStore, paths: Paths, claim_seq: u64, ids: Arc<dyn Ids>) -> Self {
        let threads = Handle::current().metrics().num_workers();
        Self {
            store,
            paths,
            claim_seq,
            ids,
            encoders: Arc::new(Semaphore::new((threads / 2).max(1))),
        }
    }

    /// Encodes and uploads a part under a new name.
    pub(super) async fn put(
        &self,
        node: &str,
        lane: usize,
        part: NewPart,
        urgency: impl Fn() -> Priority,
    ) -> Result<StateRef> {
        let encoder = self.encoders.acquire().await;
        let (key, bytes, sha256) = blocking(urgency(), move || {
            let part = part.load()?;
            let bytes = encode(&part.rows)?;
            let sha256 = sha256_hex(&bytes);
            Ok((part.key, bytes, sha256))
        })
        .await?;
        drop(encoder);
        let path = self.paths.new_state(self.claim_seq, self.ids.as_ref());
        let size = bytes.len() as u64;
        self.store.put(&path, bytes).await?;
        Ok(StateRef {
            node: node.to_owned(),
            lane,
            key,
            path: self
                .paths
                .relative(&path)
                .expect("new paths lie in the pipeline's folder"),
            bytes: size,
            sha256,
        })
    }

    /// Reads a part and verifies it.
    pub(super) async fn load(&self, part: &StateRef) -> Result<Loaded> {
        let path = self.paths.absolute(&part.path);
        let Some(bytes) = self.store.get(&path).await? else {
            return Ok(Loaded::Missing);
        };
        let (size, sha256) = (part.bytes, part.sha256.clone());
        let name = format!("state part `{path}` of `{}`", part.node);
        blocking(Priority::Normal, move || {
            let corrupted = |what: &str| {
                Error::data(format!(
                    "{name} is corrupted: {what}; restore it from a backup of the state folder"
                ))
            };
            if bytes.len() as u64 != size {
                let found = bytes.len();
                return Err(corrupted(&format!(
                    "it has {found} bytes instead of {size}"
                )));
            }
            if sha256_hex(&bytes) != sha256 {
                return Err(corrupted("its checksum does not match"));
            }
            let rows =
                decode(&bytes).map_err(|error| corrupted("it does not read").with_source(error))?;
            Ok(Loaded::Rows(rows))
        })
        .await
    }
}

/// Encodes a part in slices: the encoder holds one slice beside the part.
fn encode(rows: &RecordBatch) -> Result<Bytes> {
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &rows.schema(), options)?;
    let step = slice_rows(rows);
    for first in (0..rows.num_rows().max(1)).step_by(step) {
        writer.write(&rows.slice(first, step.min(rows.num_rows() - first)))?;
    }
    Ok(writer.into_inner()?.into())
}

/// The rows of a slice.
fn slice_rows(rows: &RecordBatch) -> usize {
    let columns = rows.schema_ref().fields().iter();
    // A slice of views is stored with the texts of all rows.
    if columns.clone().any(|it| holds_views(it.data_type())) {
        return rows.num_rows().max(1);
    }
    let slices = rows.get_array_memory_size() / SLICE_BYTES + 1;
    rows.num_rows().div_ceil(slices).max(1)
}

fn holds_views(data_type: &DataType) -> bool {
    use DataType::{
        BinaryView, FixedSizeList, LargeList, LargeListView, List, ListView, Map, Struct, Utf8View,
    };
    match data_type {
        BinaryView | Utf8View | ListView(_) | LargeListView(_) => true,
        List(item) | LargeList(item) | FixedSizeList(item, _) | Map(item, _) => {
            holds_views(item.data_type())
        }
        Struct(fields) => fields.iter().any(|it| holds_views(it.data_type())),
        _ => false,
    }
}

fn decode(bytes: &[u8]) -> Result<RecordBatch> {
    let contradiction = || Error::data("its lengths contradict each other");
    check_lengths(bytes).ok_or_else(contradiction)?;
    let read = || {
        let reader = StreamReader::try_new(bytes, None)?;
        let schema = reader.schema();
        let batches: Vec<RecordBatch> = reader.collect::<std::result::Result<_, _>>()?;
        Ok(concat_batches(&schema, &batches)?)
    };
    // The reader asserts its other assumptions.
    catch_unwind(read).unwrap_or_else(|_| Err(contradiction()))
}

/// `None` if a length in the stream exceeds the stream: the reader would trust the length and
/// allocate the memory.
fn check_lengths(mut bytes: &[u8]) -> Option<()> {
    const CONTINUES: u32 = u32::MAX;
    loop {
        let mut word = u32::from_le_bytes(*take(&mut bytes, 4)?.first_chunk()?);
        if word == CONTINUES {
            word = u32::from_le_bytes(*take(&mut bytes, 4)?.first_chunk()?);
        }
        if word == 0 {
            return Some(());
        }
        let message = root_as_message(take(&mut bytes, word as usize)?).ok()?;
        let body = take(&mut bytes, message.bodyLength().try_into().ok()?)?;
        let dictionary = message.header_as_dictionary_batch();
        let header = message.header_as_record_batch();
        if let Some(header) = header.or_else(|| dictionary?.data()) {
            check_buffers(header, body)?;
        }
    }
}

/// `None` if a buffer of a batch is outside `body`, or if its decompressed size exceeds the maximum
/// of LZ4.
fn check_buffers(header: BatchHeader<'_>, body: &[u8]) -> Option<()> {
    const LZ4_FACTOR: usize = 255;
    let compression = header.compression();
    if compression.is_some_and(|it| it.codec() != CompressionType::LZ4_FRAME) {
        return None;
    }
    for buffer in header.buffers()? {
        let mut rest = body.get(buffer.offset().try_into().ok()?..)?;
        let stored = take(&mut rest, buffer.length().try_into().ok()?)?;
        let Some(length) = stored.first_chunk().filter(|_| compression.is_some()) else {
            continue;
        };
        // -1 marks an uncompressed buffer.
        let length = i64::from_le_bytes(*length).max(0);
        if length as usize > LZ4_FACTOR * stored.len() {
            return None;
        }
    }
    Some(())
}

/// Splits `count` bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(front)
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{
            ArrayRef, DictionaryArray, Int64Array, ListArray, StringArray, StringViewArray,
            UInt8Array,
        },
        datatypes::{Int32Type, Int64Type},
    };

    use super::*;

    #[test]
    fn regression_no_changed_byte_makes_the_reader_panic() {
        let numbers: Int64Array = (0..9).map(|it| (it > 1).then_some(it)).collect();
        let texts: StringArray = (0..9).map(|_| Some("the same again and again")).collect();
        let columns: [(&str, ArrayRef); 3] = [
            ("number", Arc::new(numbers)),
            ("text", Arc::new(texts)),
            ("group", Arc::new(UInt8Array::new_null(9))),
        ];
        let columns = columns.map(|(name, values)| (name, values, true));
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let bytes = encode(&rows).unwrap();
        assert_eq!(decode(&bytes).unwrap(), rows);
        for place in 0..bytes.len() {
            for byte in [0, 0x7f, 0xff] {
                let mut bytes = bytes.to_vec();
                bytes[place] = byte;
                let _ = decode(&bytes);
            }
            assert!(decode(&bytes[..place]).is_err(), "cut off at {place}");
        }
    }

    #[test]
    fn a_part_in_slices_reads_as_one_batch() {
        let numbers: Int64Array = (0..300_000).map(|it| (it % 7 > 0).then_some(it)).collect();
        let texts: StringArray = (0..300_000).map(|it| Some(it.to_string())).collect();
        let keys: DictionaryArray<Int32Type> =
            texts.iter().take(300).cycle().take(300_000).collect();
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(
            (0..300_000).map(|it| (it % 3 > 0).then(|| vec![Some(it); it as usize % 4])),
        );
        let views: StringViewArray = texts.iter().collect();
        let columns: [(&str, ArrayRef); 4] = [
            ("number", Arc::new(numbers)),
            ("text", Arc::new(texts)),
            ("key", Arc::new(keys)),
            ("list", Arc::new(lists)),
        ];
        let columns = columns.map(|(name, values)| (name, values, true));
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        assert!(slice_rows(&rows) < 100_000);
        let viewed = RecordBatch::try_from_iter([("view", Arc::new(views) as ArrayRef)]).unwrap();
        assert_eq!(slice_rows(&viewed), 300_000);
        for rows in [
            &rows,
            &rows.slice(0, 0),
            &rows.slice(5, 1),
            &rows.slice(9, 200_001),
            &viewed,
        ] {
            assert_eq!(&decode(&encode(rows).unwrap()).unwrap(), rows);
        }
    }
}
