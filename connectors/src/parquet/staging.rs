//! Uploads a file's bytes to the staging folder.

use std::{fmt, mem, sync::Arc};

use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, path::Path};
use sha2::{Digest, Sha256};
use tagflow_engine::{Error, Result, store_error};

/// The size of a part of a multipart upload, which is buffered before it is sent. Some stores
/// accept no part below 5 MiB, and some require equal parts except the last.
pub(super) const PART_BYTES: usize = 8 * 1024 * 1024;

/// An object that is being written: in one request if it is small, otherwise in parts, one after
/// another, so that the writer waits for the store.
///
/// A dropped upload may leave parts on the store; they form no object and no reader sees them.
pub(super) struct StagedUpload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    buffer: BytesMut,
    multipart: Option<Box<dyn MultipartUpload>>,
    sha256: Sha256,
    bytes: u64,
}

/// A completely stored object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Uploaded {
    /// Its path from the store's root.
    pub(super) path: Path,
    /// Its size.
    pub(super) bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub(super) sha256: String,
}

impl StagedUpload {
    /// An upload to `path`; nothing is sent yet.
    pub(super) fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self {
            store,
            path,
            buffer: BytesMut::new(),
            multipart: None,
            sha256: Sha256::new(),
            bytes: 0,
        }
    }

    /// Bytes in memory; after a [`write`](Self::write) less than [`PART_BYTES`].
    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Appends `bytes`, and sends full parts.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.append(bytes);
        self.send_parts().await.map_err(|error| self.failed(error))
    }

    /// Appends `bytes` without sending.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
    }

    /// Sends the rest. The object exists once this returns, and not before.
    pub(super) async fn complete(mut self) -> Result<Uploaded> {
        self.send_rest().await.map_err(|error| self.failed(error))?;
        Ok(Uploaded {
            path: self.path,
            bytes: self.bytes,
            sha256: format!("{:x}", self.sha256.finalize()),
        })
    }

    /// Sends all full parts.
    async fn send_parts(&mut self) -> object_store::Result<()> {
        while self.buffer.len() >= PART_BYTES {
            let part = self.buffer.split_to(PART_BYTES).freeze();
            self.send_part(part).await?;
        }
        Ok(())
    }

    async fn send_part(&mut self, part: Bytes) -> object_store::Result<()> {
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            none => none.insert(self.store.put_multipart(&self.path).await?),
        };
        multipart.put_part(part.into()).await
    }

    async fn send_rest(&mut self) -> object_store::Result<()> {
        self.send_parts().await?;
        let rest = mem::take(&mut self.buffer).freeze();
        if self.multipart.is_none() {
            self.store.put(&self.path, rest.into()).await?;
            return Ok(());
        }
        if !rest.is_empty() {
            self.send_part(rest).await?;
        }
        if let Some(multipart) = &mut self.multipart {
            multipart.complete().await?;
        }
        Ok(())
    }

    fn failed(&self, error: object_store::Error) -> Error {
        store_error::failed(self.store.as_ref(), "write", &self.path, error)
    }
}

impl fmt::Debug for StagedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedUpload")
            .field("path", &self.path)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    async fn check(chunks: &[usize]) {
        let store = Arc::new(InMemory::new());
        let path = Path::from("t/_staging/x");
        let mut upload = StagedUpload::new(store.clone(), path.clone());
        let mut expected = Vec::new();
        for (n, &len) in chunks.iter().enumerate() {
            let chunk: Vec<u8> = (0..len).map(|i| (i * 31 + n) as u8).collect();
            expected.extend_from_slice(&chunk);
            upload.write(&chunk).await.unwrap();
            assert!(upload.buffered_bytes() < PART_BYTES);
            assert!(
                store.head(&path).await.is_err(),
                "an object before `complete`"
            );
        }
        let uploaded = upload.complete().await.unwrap();
        let stored = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert!(stored == expected, "{chunks:?}: other bytes");
        assert_eq!(uploaded.bytes, expected.len() as u64);
        assert_eq!(uploaded.sha256, format!("{:x}", Sha256::digest(&expected)));
    }

    #[tokio::test]
    async fn small_and_large_objects_arrive_whole() {
        check(&[]).await;
        check(&[4]).await;
        check(&[4, 0, PART_BYTES - 4]).await;
        check(&[PART_BYTES - 1, 2, 5]).await;
        check(&[4, 2 * PART_BYTES + 17]).await;
    }
}
