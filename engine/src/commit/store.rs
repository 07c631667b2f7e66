//! The object store as the protocol sees it.

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

/// How often an operation is tried before its error is final.
const TRIES: u32 = 8;
/// The wait before the second try; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// An object store with bounded retries, for operations that may be repeated.
/// The one that may not, a put-if-absent, is tried once and answered as is.
#[derive(Clone)]
pub(super) struct LogStore {
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
}

/// What came of one put-if-absent.
#[derive(Debug)]
pub(super) enum PutOutcome {
    /// The object is this put's.
    Created,
    /// The store says that there is one already.
    Exists,
    /// It may have landed, land later, or never.
    Ambiguous(StoreError),
}

impl PutOutcome {
    /// The outcome as a fact to decide on.
    pub(super) fn answer(&self) -> Answer {
        match self {
            Self::Created => Answer::Created,
            Self::Exists => Answer::Exists,
            Self::Ambiguous(_) => Answer::Failed,
        }
    }
}

impl LogStore {
    pub(super) fn new(store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Tries once to create an object.
    pub(super) async fn put_if_absent(&self, path: &Path, bytes: Bytes) -> PutOutcome {
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
    pub(super) async fn put(&self, path: &Path, bytes: Bytes) -> Result<()> {
        self.retry("write", path, || async {
            self.store.put(path, bytes.clone().into()).await.map(drop)
        })
        .await
    }

    /// Reads an object; none if there is none.
    pub(super) async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        self.retry("read", path, || async {
            match self.store.get(path).await {
                Ok(object) => object.bytes().await.map(Some),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// The size of an object; none if there is none.
    pub(super) async fn size(&self, path: &Path) -> Result<Option<u64>> {
        self.retry("read", path, || async {
            match self.store.head(path).await {
                Ok(meta) => Ok(Some(meta.size)),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Whether there is an object, asked once; a store that fails has none.
    pub(super) async fn seems_to_have(&self, path: &Path) -> bool {
        self.store.head(path).await.is_ok()
    }

    /// The size of an object and the SHA-256 of its bytes, in hex; none if there
    /// is none.
    pub(super) async fn digest(&self, path: &Path) -> Result<Option<(u64, String)>> {
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
    pub(super) async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        self.retry("list", folder, || async {
            self.store.list(Some(folder)).try_collect().await
        })
        .await
    }

    /// The names of the folders in a folder.
    pub(super) async fn folders(&self, folder: &Path) -> Result<Vec<String>> {
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

    /// Copies an object to `to`, where there is none, if the store can tell.
    pub(super) async fn copy(&self, from: &Path, to: &Path) -> Result<Copied> {
        self.retry("copy", from, || async {
            // Overwriting would be as right, but on local files a copy onto a
            // link to the same file leaves its temporary link behind, and
            // readers of the whole folder would count it.
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

    /// Deletes objects; one that is missing is no error.
    pub(super) async fn delete(&self, paths: &[Path]) -> Result<()> {
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
    pub(super) fn backoff(&self) -> Backoff {
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

/// Waits between tries of one operation, and gives up in the end.
pub(super) struct Backoff {
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    tries: u32,
    wait: Duration,
}

impl Backoff {
    /// Waits after a failed try.
    ///
    /// # Errors
    /// `External`, where the try was the last or another one cannot help.
    pub(super) async fn after(
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

    /// Waits after a try that the store did not call failed and that had no
    /// effect.
    pub(super) async fn after_nothing(&mut self, action: &str, path: &Path) -> Result<()> {
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
