//! The object store with the operations of the protocol.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use object_store::{
    Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path,
};
use sha2::{Digest, Sha256};
use tracing::debug;

use super::decide::{Answer, Copied};
use crate::{
    Clock, Result,
    store_error::{failed, is_permanent},
};

/// The number of tries of an operation before its error is final.
const TRIES: u32 = 8;
/// The wait before the second try; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// An object store with bounded retries, for operations that may be repeated. A put-if-absent may
/// not: it is tried once, and its outcome is returned.
#[derive(Clone)]
pub(crate) struct LogStore {
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
}

/// The outcome of a put-if-absent.
#[derive(Debug)]
pub(crate) enum PutOutcome {
    /// The object exists, and this put wrote it.
    Created,
    /// The store reports an existing object.
    Exists,
    /// The put may have been written, may be written later, or never.
    Ambiguous(StoreError),
}

impl PutOutcome {
    /// The outcome as an input of a decision.
    pub(crate) fn answer(&self) -> Answer {
        match self {
            Self::Created => Answer::Created,
            Self::Exists => Answer::Exists,
            Self::Ambiguous(_) => Answer::Failed,
        }
    }
}

impl LogStore {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// The location of an object, for messages.
    pub(crate) fn location(&self, path: &Path) -> String {
        format!("{}/{path}", self.store)
    }

    /// The first object under a folder that is `wanted`.
    pub(crate) async fn find(
        &self,
        folder: &Path,
        wanted: impl Fn(&Path) -> bool,
    ) -> Result<Option<Path>> {
        let wanted = &wanted;
        self.retry("list", folder, || async move {
            let mut listed = self.store.list(Some(folder));
            while let Some(object) = listed.try_next().await? {
                if wanted(&object.location) {
                    return Ok(Some(object.location));
                }
            }
            Ok(None)
        })
        .await
    }

    /// Tries once to create an object.
    pub(crate) async fn put_if_absent(&self, path: &Path, bytes: Bytes) -> PutOutcome {
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(path, bytes.into(), options).await {
            Ok(_) => PutOutcome::Created,
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                PutOutcome::Exists
            }
            Err(error) => PutOutcome::Ambiguous(error),
        }
    }

    /// Writes an object whose name determines its bytes.
    pub(crate) async fn put(&self, path: &Path, bytes: Bytes) -> Result<()> {
        self.retry("write", path, || async {
            self.store.put(path, bytes.clone().into()).await.map(drop)
        })
        .await
    }

    /// Tries once to write an object that nothing depends on.
    pub(crate) async fn put_once(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        self.store.put(path, bytes.into()).await.map(drop)
    }

    /// Reads an object; `None` if it does not exist.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        self.retry("read", path, || async {
            match self.store.get(path).await {
                Ok(object) => object.bytes().await.map(Some),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// The size of an object; `None` if it does not exist.
    pub(crate) async fn size(&self, path: &Path) -> Result<Option<u64>> {
        self.retry("read", path, || async {
            match self.store.head(path).await {
                Ok(meta) => Ok(Some(meta.size)),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Whether an object exists, with one request. An error counts as no.
    pub(crate) async fn seems_to_have(&self, path: &Path) -> bool {
        self.store.head(path).await.is_ok()
    }

    /// The size of an object and the SHA-256 of its bytes, in hex; `None` if it does not exist.
    pub(crate) async fn digest(&self, path: &Path) -> Result<Option<(u64, String)>> {
        self.retry("read", path, || async {
            let mut chunks = match self.store.get(path).await {
                Ok(object) => object.into_stream(),
                Err(StoreError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            let (mut bytes, mut sha256) = (0, Sha256::new());
            while let Some(chunk) = chunks.try_next().await? {
                bytes += chunk.len() as u64;
                sha256.update(&chunk);
            }
            Ok(Some((bytes, format!("{:x}", sha256.finalize()))))
        })
        .await
    }

    /// Every object under a folder.
    pub(crate) async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        self.retry("list", folder, || async {
            self.store.list(Some(folder)).try_collect().await
        })
        .await
    }

    /// The names of the folders in a folder.
    pub(crate) async fn folders(&self, folder: &Path) -> Result<Vec<String>> {
        let listed = self
            .retry("list", folder, || {
                self.store.list_with_delimiter(Some(folder))
            })
            .await?;
        let names = listed.common_prefixes.iter();
        Ok(names
            .filter_map(|path| path.filename().map(str::to_owned))
            .collect())
    }

    /// Copies an object to `to` if that does not exist, as far as the store supports the condition.
    pub(crate) async fn copy(&self, from: &Path, to: &Path) -> Result<Copied> {
        self.retry("copy", from, || async {
            // To overwrite would be as correct. But on local files, a copy onto a link to the same
            // file leaves its temporary link behind, and readers of the whole folder would count
            // it.
            let mut copied = self.store.copy_if_not_exists(from, to).await;
            if is_unsupported(&copied) {
                copied = self.store.copy(from, to).await;
            }
            if is_unsupported(&copied) {
                copied = self.copy_through(from, to).await;
            }
            match copied {
                Ok(()) => Ok(Copied::Done),
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    Ok(Copied::Exists)
                }
                Err(StoreError::NotFound { .. }) => Ok(Copied::SourceMissing),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Copies through this process, on a store that cannot copy.
    async fn copy_through(&self, from: &Path, to: &Path) -> object_store::Result<()> {
        let bytes = self.store.get(from).await?.bytes().await?;
        self.store.put(to, bytes.into()).await.map(drop)
    }

    /// Deletes objects. A missing object is no error.
    pub(crate) async fn delete(&self, paths: &[Path]) -> Result<()> {
        let Some(first) = paths.first() else {
            return Ok(());
        };
        self.retry("delete", first, || async {
            let all: Vec<_> = paths.iter().cloned().map(Ok).collect();
            let mut deleted = self.store.delete_stream(Box::pin(stream::iter(all)));
            loop {
                match deleted.try_next().await {
                    Ok(Some(_)) | Err(StoreError::NotFound { .. }) => {}
                    Ok(None) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        })
        .await
    }

    /// A bounded number of waits, for the put that only the protocol can repeat.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            tries: TRIES,
            wait: FIRST_WAIT,
        }
    }

    async fn retry<T, F>(&self, action: &str, path: &Path, operation: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut backoff = self.backoff();
        loop {
            match operation().await {
                Ok(done) => return Ok(done),
                Err(error) => backoff.after(action, path, error).await?,
            }
        }
    }
}

/// Waits between tries of an operation, and fails after the last one.
pub(crate) struct Backoff {
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    tries: u32,
    wait: Duration,
}

impl Backoff {
    /// Waits after a failed try.
    ///
    /// # Errors
    /// `External`, if it was the last try or another one cannot succeed.
    pub(crate) async fn after(
        &mut self,
        action: &str,
        path: &Path,
        error: StoreError,
    ) -> Result<()> {
        self.tries -= 1;
        if self.tries == 0 || is_permanent(&error) {
            return Err(failed(self.store.as_ref(), action, path, error));
        }
        debug!(%path, %error, "cannot {action}, trying again");
        self.clock.sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Ok(())
    }

    /// Waits after a try without an effect that the store did not report as failed.
    pub(crate) async fn after_nothing(&mut self, action: &str, path: &Path) -> Result<()> {
        let nothing = StoreError::Generic {
            store: "log",
            source: "the object store keeps answering that the object exists, and there is none"
                .into(),
        };
        self.after(action, path, nothing).await
    }
}

fn is_unsupported<T>(answered: &object_store::Result<T>) -> bool {
    matches!(
        answered,
        Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })
    )
}
