//! One file in an object store.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use object_store::{
    Error as StoreError, GetOptions, GetRange, GetResultPayload, ObjectMeta, ObjectStore,
    ObjectStoreExt,
};
use tagflow_engine::{Error, Result};
use tokio::task::spawn_blocking;

/// A file as of its listing.
#[derive(Debug, Clone)]
pub(super) struct FileObject {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) meta: ObjectMeta,
    /// The name that users see, which is the partition's name.
    pub(super) name: Arc<str>,
    /// Its canonical location, independent of the URL's spelling.
    pub(super) place: Arc<str>,
}

impl FileObject {
    pub(super) fn size(&self) -> u64 {
        self.meta.size
    }

    /// The bytes of `range`, which must be inside the file.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let expected = range.end - range.start;
        if expected == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.fetch(range).await.map_err(|error| self.error(error))?;
        if bytes.len() as u64 != expected {
            return Err(self.changed());
        }
        Ok(bytes)
    }

    pub(super) async fn fetch(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: self.meta.e_tag.clone(),
            ..GetOptions::default()
        };
        let result = self.store.get_opts(&self.meta.location, options).await?;
        let GetResultPayload::File(mut file, path) = result.payload else {
            return result.bytes().await;
        };
        // Like `bytes`, but without first filling the memory with zeros.
        let range = result.range;
        let read = move || {
            let length = range.end - range.start;
            let mut bytes = Vec::with_capacity(length as usize);
            file.seek(SeekFrom::Start(range.start))?;
            file.take(length).read_to_end(&mut bytes)?;
            Ok(Bytes::from(bytes))
        };
        let read: io::Result<Bytes> = spawn_blocking(read).await?;
        read.map_err(|source| StoreError::Generic {
            store: "LocalFileSystem",
            source: format!("cannot read `{}`: {source}", path.display()).into(),
        })
    }

    /// Whether a writer may append to it. An object is complete from its creation.
    pub(super) fn can_grow(&self) -> bool {
        self.place.starts_with('/')
    }

    /// Whether the file has not changed since its listing.
    pub(super) async fn is_unchanged(&self) -> Result<bool> {
        let now = self.store.head(&self.meta.location).await;
        let now = now.map_err(|error| self.error(error))?;
        Ok((now.size, now.e_tag) == (self.meta.size, self.meta.e_tag.clone()))
    }

    pub(super) fn changed(&self) -> Error {
        Error::data(format!(
            "the file `{}` changed while it was read",
            self.name
        ))
    }

    pub(super) fn shorter_than(&self, position: i64, unit: &str, now: u64) -> Error {
        Error::data(format!(
            "the file `{}` has been read up to {unit} {position}, and now it has only {now}",
            self.name
        ))
    }

    pub(super) fn error(&self, error: StoreError) -> Error {
        let name = &self.name;
        match error {
            StoreError::Precondition { .. } | StoreError::NotModified { .. } => self.changed(),
            StoreError::NotFound { .. } => {
                Error::data(format!("the file `{name}` does not exist any more")).with_source(error)
            }
            error => cannot_read(name, error),
        }
    }
}

/// The error of a store that refuses to read `name`.
pub(super) fn cannot_read(name: &str, error: StoreError) -> Error {
    let denied = matches!(
        error,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }
    );
    let cannot = Error::external(format!("cannot read `{name}`")).with_source(error);
    if denied { cannot.permanent() } else { cannot }
}
