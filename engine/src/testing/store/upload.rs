//! Uploads in parts, which may fail at each part.

use async_trait::async_trait;
use futures::FutureExt;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart, path::Path};

use super::{FaultyStore, Operation};

/// An upload of a process. Nothing is visible before its end.
#[derive(Debug)]
pub(super) struct FaultyUpload {
    pub(super) store: FaultyStore,
    pub(super) path: Path,
    pub(super) inner: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, path) = (self.store.clone(), self.path.clone());
        let fault = store.meet(Operation::UploadPart, &path);
        // Parts stay invisible until the end, so only the answer can be wrong.
        let sent = self.inner.put_part(data);
        async move { store.suffer_once(fault, &path, sent).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.store.meet(Operation::UploadEnd, &self.path);
        let ended = self.inner.complete();
        self.store.suffer_once(fault, &self.path, ended).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
