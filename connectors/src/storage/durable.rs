//! The local disk as an object store whose writes survive a power cut.
//!
//! `object_store` 0.13, which `DataFusion` fixes, leaves written files to the
//! operating system; from 0.14 on `LocalFileSystem::with_fsync(true)` does what
//! is done here.

use std::{
    fmt,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path as FilePath, PathBuf},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result, UploadPart, local::LocalFileSystem, path::Path,
};

const STORE: &str = "DurableFileSystem";

/// A [`LocalFileSystem`] that answers a write only after the file and the
/// folder that names it are on the disk.
#[derive(Debug)]
pub(super) struct DurableFileSystem {
    inner: LocalFileSystem,
}

impl DurableFileSystem {
    pub(super) fn new() -> Self {
        Self {
            inner: LocalFileSystem::new(),
        }
    }

    async fn sync(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        blocking(move || {
            File::open(&path)?.sync_all()?;
            sync_folders(&path)
        })
        .await
    }
}

impl fmt::Display for DurableFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

#[async_trait]
impl ObjectStore for DurableFileSystem {
    /// The bytes are on the disk before they have their name, so that no name
    /// ever stands for half a file.
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            // Not supported; the error is the inner store's.
            PutMode::Update(_) => return self.inner.put_opts(location, payload, options).await,
        };
        let path = self.inner.path_to_filesystem(location)?;
        let put = {
            let path = path.clone();
            blocking(move || Ok(put(&path, &payload, create)))
        };
        put.await?.map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => Error::AlreadyExists {
                path: path.display().to_string(),
                source: source.into(),
            },
            _ => generic(source),
        })?;
        Ok(PutResult {
            e_tag: self.inner.head(location).await?.e_tag,
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(DurableUpload {
            inner: self.inner.put_multipart_opts(location, options).await?,
            path: self.inner.path_to_filesystem(location)?,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.sync(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.sync(to).await
    }
}

/// An upload that is complete when it is on the disk.
#[derive(Debug)]
struct DurableUpload {
    inner: Box<dyn MultipartUpload>,
    path: PathBuf,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await?;
        let path = self.path.clone();
        blocking(move || {
            File::open(&path)?.sync_all()?;
            sync_folders(&path)
        })
        .await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

fn put(path: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // The inner store lists no names that end in `#` and digits.
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!("#{}", uuid::Uuid::new_v4().as_u128()));
    let staged = PathBuf::from(staged);
    let written = (|| {
        let mut file = File::create_new(&staged)?;
        for bytes in payload {
            file.write_all(bytes)?;
        }
        file.sync_all()?;
        if create {
            fs::hard_link(&staged, path)
        } else {
            fs::rename(&staged, path)
        }
    })();
    if create || written.is_err() {
        // A rename has taken it away already.
        let _ = fs::remove_file(&staged);
    }
    written?;
    sync_folders(path)
}

/// Makes the name of a file durable, and the names of the folders above it that
/// may have been created for it.
fn sync_folders(path: &FilePath) -> io::Result<()> {
    for folder in path.ancestors().skip(1).take(4) {
        match File::open(folder) {
            Ok(folder) => folder.sync_all()?,
            // A folder that cannot be read was not created here.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(generic),
        Err(source) => Err(Error::JoinError { source }),
    }
}

fn generic(source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::PermissionDenied => Error::PermissionDenied {
            path: String::new(),
            source: source.into(),
        },
        _ => Error::Generic {
            store: STORE,
            source: source.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn it_behaves_as_a_store() {
        let root = tempfile::tempdir().unwrap();
        let store = DurableFileSystem::new();
        let path = |name: &str| Path::from_absolute_path(root.path().join(name)).unwrap();
        let read = async |name: &str| store.get(&path(name)).await.unwrap().bytes().await.unwrap();

        store.put(&path("a/b/one"), "1".into()).await.unwrap();
        store.put(&path("a/b/one"), "2".into()).await.unwrap();
        assert_eq!(read("a/b/one").await, "2");

        let create = PutOptions::from(PutMode::Create);
        let again = store
            .put_opts(&path("a/b/one"), "3".into(), create.clone())
            .await;
        assert!(
            matches!(again, Err(Error::AlreadyExists { .. })),
            "{again:?}"
        );
        assert_eq!(read("a/b/one").await, "2");
        let put = store
            .put_opts(&path("two"), "4".into(), create)
            .await
            .unwrap();
        assert_eq!(put.e_tag, store.head(&path("two")).await.unwrap().e_tag);

        let mut upload = store.put_multipart(&path("three")).await.unwrap();
        upload.put_part("5".into()).await.unwrap();
        upload.complete().await.unwrap();
        store.rename(&path("three"), &path("c/four")).await.unwrap();
        assert_eq!(read("c/four").await, "5");

        let mut names: Vec<_> = store
            .list(Some(&path("")))
            .map_ok(|meta| meta.location.filename().unwrap().to_owned())
            .try_collect()
            .await
            .unwrap();
        names.sort();
        assert_eq!(names, ["four", "one", "two"]);
        // Nothing is left behind on the disk either.
        assert_eq!(fs::read_dir(root.path().join("a/b")).unwrap().count(), 1);
    }
}
