//! State parts on the store, as Arrow IPC.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    compute::concat_batches,
    ipc::{
        CompressionType,
        reader::StreamReader,
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
use crate::{Error, Ids, Result, blocking::blocking, state::NewPart};

/// Where one owner reads and writes state parts.
#[derive(Clone)]
pub(super) struct StateStore {
    store: LogStore,
    paths: Paths,
    claim_seq: u64,
    ids: Arc<dyn Ids>,
    /// Parts are encoded by half of the threads at most: rows go on meanwhile, and a part
    /// that is encoded takes memory twice.
    encoders: Arc<Semaphore>,
}

/// What a read of a state part found.
pub(super) enum Loaded {
    /// Its rows.
    Rows(RecordBatch),
    /// It is not there.
    Missing,
}

impl StateStore {
    /// Of the owner whose claim has this number.
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

    /// Encodes and uploads a part under a fresh name.
    pub(super) async fn put(&self, node: &str, lane: usize, part: NewPart) -> Result<StateRef> {
        let encoder = self.encoders.acquire().await;
        let (key, bytes, sha256) = blocking(move || {
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
        blocking(move || {
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

fn encode(rows: &RecordBatch) -> Result<Bytes> {
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &rows.schema(), options)?;
    writer.write(rows)?;
    Ok(writer.into_inner()?.into())
}

fn decode(bytes: &[u8]) -> Result<RecordBatch> {
    let reader = StreamReader::try_new(bytes, None)?;
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.collect::<std::result::Result<_, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}
