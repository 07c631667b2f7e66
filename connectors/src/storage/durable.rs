//! The local disk as an object store whose writes survive a power failure.
//!
//! `object_store` 0.13, which `DataFusion` requires, does not sync written files; from 0.14 on
//! `LocalFileSystem::with_fsync(true)` replaces this module.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use glob::{Pattern, glob};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result, UploadPart, local::LocalFileSystem, path::Path,
};
use tracing::warn;

const STORE: &str = "local disk";

/// A [`LocalFileSystem`] that completes a write only after the file and its folder entry are on the
/// disk.
#[derive(Debug)]
pub(super) struct DurableFileSystem {
    inner: LocalFileSystem,
    access: Access,
}

/// Read access to created files and folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everyone that the process's umask allows.
    Default,
    /// Only the process's user: state contains personal data.
    Private,
}

impl Access {
    /// Creates `folder` and its missing ancestors.
    pub(super) fn create_folder(self, folder: &FilePath) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        if self == Self::Private {
            builder.mode(0o700);
        }
        builder.create(folder)
    }

    fn create_file(self, path: &FilePath) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        if self == Self::Private {
            options.mode(0o600);
        }
        options.open(path)
    }
}

impl DurableFileSystem {
    pub(super) fn new(access: Access) -> Self {
        Self {
            inner: LocalFileSystem::new(),
            access,
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
        f.write_str("file://")
    }
}

#[async_trait]
impl ObjectStore for DurableFileSystem {
    /// The bytes are on the disk before they have their name, so no name ever refers to half a
    /// file.
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let naming = match options.mode {
            PutMode::Create => Naming::Create,
            PutMode::Overwrite => Naming::Overwrite,
            // Not supported; the inner store returns the error.
            PutMode::Update(_) => return self.inner.put_opts(location, payload, options).await,
        };
        let path = self.inner.path_to_filesystem(location)?;
        let access = self.access;
        let named = {
            let path = path.clone();
            blocking(move || {
                let mut staged = Staged::create(path, access)?;
                for bytes in &payload {
                    staged.file.write_all(bytes)?;
                }
                Ok(staged.name(naming))
            })
        };
        named.await?.map_err(|source| match source.kind() {
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
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let access = self.access;
        let staged = blocking(move || Staged::create(path, access)).await?;
        Ok(Box::new(DurableUpload {
            staged: Some(Arc::new(staged)),
            bytes: 0,
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
    /// `None` after the end.
    staged: Option<Arc<Staged>>,
    bytes: u64,
}

impl DurableUpload {
    /// Ends the upload.
    fn end(&mut self) -> Result<Arc<Staged>> {
        self.staged.take().ok_or_else(ended)
    }
}

fn ended() -> Error {
    generic(io::Error::other("the upload has ended"))
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let staged = self.staged.clone().ok_or_else(ended);
        let mut offset = self.bytes;
        self.bytes += data.content_length() as u64;
        Box::pin(async move {
            let staged = staged?;
            blocking(move || {
                for bytes in &data {
                    staged.file.write_all_at(bytes, offset)?;
                    offset += bytes.len() as u64;
                }
                Ok(())
            })
            .await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.end()?;
        blocking(move || staged.name(Naming::Overwrite)).await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn abort(&mut self) -> Result<()> {
        self.end().map(drop)
    }
}

/// How to treat an existing file of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// It stays, and the operation fails.
    Create,
    /// It is replaced.
    Overwrite,
}

/// A file that is being written, under a name that no listing shows. Its lock lets [`sweep`]
/// distinguish it from the file of a killed writer.
#[derive(Debug)]
struct Staged {
    file: File,
    at: PathBuf,
    path: PathBuf,
}

impl Staged {
    /// An empty file whose final name is `path`.
    #[expect(
        clippy::disallowed_methods,
        reason = "it is gone, or called `path`, before anybody sees its name"
    )]
    fn create(path: PathBuf, access: Access) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            access.create_folder(folder)?;
        }
        // The inner store lists no names that end in `#` and digits.
        let mut staged = path.clone().into_os_string();
        staged.push(format!("#{}", uuid::Uuid::new_v4().as_u128()));
        let staged = PathBuf::from(staged);
        let file = access.create_file(&staged)?;
        // Without locks, a sweep can take none either.
        let _ = file.lock();
        Ok(Self {
            file,
            at: staged,
            path,
        })
    }

    /// Gives the file its name once its bytes are on the disk.
    fn name(&self, naming: Naming) -> io::Result<()> {
        self.file.sync_all()?;
        match naming {
            Naming::Create => fs::hard_link(&self.at, &self.path)?,
            Naming::Overwrite => fs::rename(&self.at, &self.path)?,
        }
        sync_folders(&self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename it no longer exists.
        let _ = fs::remove_file(&self.at);
    }
}

/// Creates a file in `folder`, or in its nearest existing ancestor, and removes it again. The error
/// names that folder.
pub(super) fn probe(folder: &FilePath) -> Result<(), (PathBuf, io::Error)> {
    let there = folder
        .ancestors()
        .find(|it| fs::symlink_metadata(it).is_ok());
    let there = there.unwrap_or(folder);
    // The file has no name, so a crash leaves nothing behind.
    let created = tempfile::tempfile_in(there).map(drop);
    created.map_err(|error| (there.to_owned(), error))
}

/// Deletes the half-written files of killed writers in `folder` and its subfolders.
pub(super) fn sweep(folder: &FilePath) {
    sweep_matching(folder, "**/*#*");
}

/// Like [`sweep`], but only for writes of the file `name` in `folder` itself.
pub(super) fn sweep_file(folder: &FilePath, name: &str) {
    sweep_matching(folder, &format!("{}#*", Pattern::escape(name)));
}

fn sweep_matching(folder: &FilePath, names: &str) {
    let pattern = format!("{}/{names}", Pattern::escape(&folder.to_string_lossy()));
    let Ok(found) = glob(&pattern) else {
        return;
    };
    for path in found.flatten().filter(|path| is_abandoned(path)) {
        if let Err(error) = fs::remove_file(&path) {
            warn!(path = %path.display(), %error, "what a killed process left stays");
        }
    }
}

/// Whether it is a [`Staged`] file without a live writer.
fn is_abandoned(path: &FilePath) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_staged = name.rsplit_once('#').is_some_and(|(_, digits)| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    // Some network file systems lock only files that are open for writing.
    is_staged
        && OpenOptions::new()
            .write(true)
            .open(path)
            .is_ok_and(|file| file.try_lock().is_ok())
}

/// Makes the name of a file durable, and the names of its ancestors that may have been created for
/// it.
fn sync_folders(path: &FilePath) -> io::Result<()> {
    for folder in path.ancestors().skip(1).take(4) {
        match File::open(folder) {
            Ok(folder) => folder.sync_all()?,
            // An unreadable folder was not created here.
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
    use tagflow_engine::testing::store::conformance;

    use super::*;

    #[tokio::test]
    async fn conforms() {
        let root = tempfile::tempdir().unwrap();
        let folder = Path::from_absolute_path(root.path()).unwrap();
        conformance(
            &DurableFileSystem::new(Access::Default),
            &folder.join("lake"),
        )
        .await;
    }

    #[test]
    fn regression_a_folder_that_cannot_be_written_is_named() {
        let root = tempfile::tempdir().unwrap();
        probe(&root.path().join("a/b")).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let (place, error) = probe(&file.join("lake/x")).unwrap_err();
        assert_eq!((place, error.kind()), (file, ErrorKind::NotADirectory));
    }

    #[tokio::test]
    async fn it_behaves_as_a_store() {
        let root = tempfile::tempdir().unwrap();
        let store = DurableFileSystem::new(Access::Default);
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
        // The disk has no leftovers either.
        assert_eq!(fs::read_dir(root.path().join("a/b")).unwrap().count(), 1);
    }

    fn names(folder: &FilePath) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn regression_private_files_are_of_their_user_alone() {
        use std::os::unix::fs::PermissionsExt;

        let root = tempfile::tempdir().unwrap();
        let mode = |path: &FilePath| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for access in [Access::Private, Access::Default] {
            let folder = root.path().join(format!("{access:?}"));
            let store = DurableFileSystem::new(access);
            let path = |name: &str| Path::from_absolute_path(folder.join(name)).unwrap();
            store.put(&path("a/put"), "1".into()).await.unwrap();
            let mut upload = store.put_multipart(&path("a/upload")).await.unwrap();
            upload.put_part("2".into()).await.unwrap();
            upload.complete().await.unwrap();
            let modes = ["", "a", "a/put", "a/upload"].map(|name| mode(&folder.join(name)));
            match access {
                Access::Private => assert_eq!(modes, [0o700, 0o700, 0o600, 0o600]),
                // Other tools read tables.
                Access::Default => assert!(modes.iter().all(|mode| mode & 0o077 != 0)),
            }
        }
    }

    #[tokio::test]
    async fn a_sweep_takes_what_the_dead_left_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("[a] b#1");
        fs::create_dir_all(&folder).unwrap();
        for name in ["part#7", "part#", "#8", "a#9x", "whole"] {
            fs::write(folder.join(name), "left").unwrap();
        }
        let store = DurableFileSystem::new(Access::Default);
        let path = Path::from_absolute_path(folder.join("live")).unwrap();
        let mut upload = store.put_multipart(&path).await.unwrap();
        upload.put_part("a".into()).await.unwrap();

        sweep(root.path());
        let left = names(&folder);
        assert_eq!(left.len(), 4, "{left:?}");
        assert_eq!(left[0], "a#9x");
        assert!(left[1].starts_with("live#"));
        assert_eq!(left[2..], ["part#", "whole"]);

        upload.put_part("b".into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(fs::read(folder.join("live")).unwrap(), b"ab");
        let dropped = store.put_multipart(&path).await.unwrap();
        drop(dropped);
        assert_eq!(names(&folder), ["a#9x", "live", "part#", "whole"]);
        sweep(&root.path().join("none"));
    }
}
