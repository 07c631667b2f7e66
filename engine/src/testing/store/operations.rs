//! The operations of a faulty store.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart, path::Path,
};

use super::{
    fault::{Fault, Operation},
    faulty::{Copies, FaultyStore, injected},
};

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.meet(Operation::Put, location);
        match fault {
            Some(Fault::Overwrites) => options.mode = PutMode::Overwrite,
            Some(Fault::LandsLate) => {
                let late = (location.clone(), payload.clone(), options.clone());
                self.script().late.push(late);
            }
            _ => {}
        }
        let put = |store: Arc<dyn ObjectStore>| -> BoxFuture<'static, _> {
            let (path, payload, options) = (location.clone(), payload.clone(), options.clone());
            async move { store.put_opts(&path, payload, options).await }.boxed()
        };
        self.suffer(fault, location, put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let fault = self.meet(Operation::UploadBegin, location);
        let begun = self.inner.put_multipart_opts(location, options);
        Ok(Box::new(FaultyUpload {
            store: self.clone(),
            path: location.clone(),
            inner: self.suffer_once(fault, location, begun).await?,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.meet(Operation::Get, location);
        let only_size = options.head;
        let get = |store: Arc<dyn ObjectStore>| -> BoxFuture<'static, _> {
            let (path, options) = (location.clone(), options.clone());
            async move { store.get_opts(&path, options).await }.boxed()
        };
        let got = self.suffer(fault, location, get).await?;
        if fault == Some(Fault::Truncated) && !only_size {
            return truncated(got).await;
        }
        Ok(got)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |path| {
                let store = store.clone();
                async move {
                    let fault = store.meet(Operation::Delete, &path);
                    let delete = |store: Arc<dyn ObjectStore>| -> BoxFuture<'static, _> {
                        let path = path.clone();
                        async move { store.delete(&path).await }.boxed()
                    };
                    store.suffer(fault, &path, delete).await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let folder = prefix.clone().unwrap_or_default();
        let fault = store.meet(Operation::List, &folder);
        stream::once(async move { store.listing(fault, &folder, prefix).await })
            .map_ok(|listed| stream::iter(listed.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let folder = prefix.cloned().unwrap_or_default();
        let fault = self.meet(Operation::List, &folder);
        let listed = self.inner.list_with_delimiter(prefix);
        self.suffer_once(fault, &folder, listed).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if self.copies == Copies::Overwrite && options.mode == CopyMode::Create {
            return Err(Error::NotImplemented {
                operation: "copy_if_not_exists".to_owned(),
                implementer: self.to_string(),
            });
        }
        let fault = self.meet(Operation::Copy, from);
        let copy = |store: Arc<dyn ObjectStore>| -> BoxFuture<'static, _> {
            let (from, to, options) = (from.clone(), to.clone(), options.clone());
            async move { store.copy_opts(&from, &to, options).await }.boxed()
        };
        self.suffer(fault, from, copy).await
    }
}

/// Half of the bytes, and then an error.
async fn truncated(got: GetResult) -> Result<GetResult> {
    let (meta, range) = (got.meta.clone(), got.range.clone());
    let (attributes, bytes) = (got.attributes.clone(), got.bytes().await?);
    let half = bytes.slice(..bytes.len() / 2);
    let broken = stream::iter([Ok(half), Err(injected("in the middle of"))]);
    Ok(GetResult {
        payload: GetResultPayload::Stream(broken.boxed()),
        meta,
        range,
        attributes,
    })
}

/// An upload of a process. Nothing is visible before its end.
#[derive(Debug)]
struct FaultyUpload {
    store: FaultyStore,
    path: Path,
    inner: Box<dyn MultipartUpload>,
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
