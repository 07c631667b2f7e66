//! Drivers with a wrong protocol: correct drivers that receive wrong answers.
//!
//! A driver decides by the answers of the store. A wrong decision is therefore a right one after a
//! wrong answer: a driver that takes "exists" for its own write behaves as if it had received
//! "created". The production driver is tested this way, without switches in its code.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, path::Path,
};

use super::world::STATE;
use crate::{
    commit::{Kind, Record},
    committer::{Claim, Committable, Committer, Inspected, Output, Receipt, Sealed, Unsealed},
    files::{FileCommitter, changes},
};

/// The error of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// It takes an existing record for its own.
    ExistsMeansMine,
    /// It takes a failed put for written, without a read.
    NoReadBack,
    /// It delivers the files of a commit before the commit.
    DeliverBeforeCommit,
    /// It delivers a commit without its last committable.
    ForgetACommittable,
    /// It delivers every other commit after the next one.
    DeliverOutOfOrder,
    /// Its commits overwrite existing records.
    Overwrite,
    /// It collects claims like commits.
    ClaimsAreCollected,
}

/// A store with wrong answers for a driver.
pub(super) struct Liar {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) lie: Lie,
}

/// The number of tries of a copy.
const MAX_TRIES: usize = 100;

impl Liar {
    /// Deletes the claims before a commit's collection bound.
    async fn collect_claims(&self, commit: &Record) {
        for seq in 1..=commit.collected_upto {
            let path = record_path(seq);
            let Ok(found) = self.store.get(&path).await else {
                continue;
            };
            let Ok(bytes) = found.bytes().await else {
                continue;
            };
            let record = Record::decode(&bytes, path.as_ref(), seq);
            if record.is_ok_and(|record| record.kind == Kind::Claim) {
                let _ = self.store.delete(&path).await;
            }
        }
    }

    /// Copies the files of a commit into the table.
    async fn deliver(&self, record: &Record) {
        let files = record.outbox.iter().flat_map(|(table, output)| {
            let (added, _) = changes(output).unwrap_or_default();
            added.into_iter().map(move |file| (table, file))
        });
        for (table, file) in files {
            let root = table.trim_start_matches("memory:///");
            let path = |inside: &str| Path::from(format!("{root}/{inside}"));
            let (staged, published) = (path(&file.staged), path(&file.published));
            // Like a driver that publishes, but bounded: after the death of the process no try
            // succeeds.
            for _ in 0..MAX_TRIES {
                match self.store.copy(&staged, &published).await {
                    Ok(()) | Err(Error::NotFound { .. }) => break,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        }
    }
}

/// A committer that delivers wrongly.
pub(super) struct LyingCommitter {
    files: FileCommitter,
    lie: Lie,
    /// A commit to deliver after the next one.
    postponed: Mutex<Option<Output>>,
}

impl LyingCommitter {
    pub(super) fn new(files: FileCommitter, lie: Lie) -> Self {
        Self {
            files,
            lie,
            postponed: Mutex::default(),
        }
    }
}

#[async_trait]
impl Committer for LyingCommitter {
    async fn commit(&self, seq: u64, output: &[Committable]) -> crate::Result<Receipt> {
        match self.lie {
            Lie::ForgetACommittable => {
                let kept = output.split_last().map_or(output, |(_, kept)| kept);
                self.files.commit(seq, kept).await
            }
            Lie::DeliverOutOfOrder => {
                let postponed = {
                    let postponed = self.postponed.lock();
                    let mut postponed = postponed.unwrap_or_else(PoisonError::into_inner);
                    let before = postponed.take();
                    if before.is_none() {
                        let committables = output.to_vec();
                        *postponed = Some(Output { seq, committables });
                    }
                    before
                };
                let Some(postponed) = postponed else {
                    return Ok(Receipt::Delivered);
                };
                self.files.commit(seq, output).await?;
                let Output { seq, committables } = postponed;
                self.files.commit(seq, &committables).await
            }
            _ => self.files.commit(seq, output).await,
        }
    }

    async fn last_committed(&self) -> crate::Result<Option<u64>> {
        self.files.last_committed().await
    }

    async fn check(&self, log: &Inspected<'_>) -> crate::Result<()> {
        self.files.check(log).await
    }

    async fn open(&self, claim: &Claim<'_>) -> crate::Result<()> {
        self.files.open(claim).await
    }

    fn seal(&self, unsealed: Unsealed<'_>) -> crate::Result<Sealed> {
        self.files.seal(unsealed)
    }

    async fn sweep(&self) -> crate::Result<()> {
        self.files.sweep().await
    }

    async fn withdraw(&self) -> crate::Result<Vec<Committable>> {
        self.files.withdraw().await
    }
}

/// The record in a put, if it is one.
fn record_in(path: &Path, payload: &PutPayload) -> Option<Record> {
    let seq = path.filename()?.strip_suffix(".json")?.parse().ok()?;
    let bytes: Vec<u8> = payload.iter().flat_map(|bytes| bytes.to_vec()).collect();
    Record::decode(&bytes, path.as_ref(), seq).ok()
}

fn record_path(seq: u64) -> Path {
    Path::from(format!("{STATE}/log/main/{seq:020}.json"))
}

#[async_trait]
impl ObjectStore for Liar {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let record = record_in(location, &payload);
        let Some(record) = record.filter(|record| record.kind == Kind::Commit) else {
            return self.store.put_opts(location, payload, options).await;
        };
        if self.lie == Lie::ClaimsAreCollected {
            self.collect_claims(&record).await;
        }
        if self.lie == Lie::DeliverBeforeCommit {
            self.deliver(&record).await;
        }
        if self.lie == Lie::Overwrite {
            options.mode = PutMode::Overwrite;
        }
        let answer = self.store.put_opts(location, payload, options).await;
        let created = Ok(PutResult {
            e_tag: None,
            version: None,
        });
        match (self.lie, answer) {
            (Lie::ExistsMeansMine, Err(Error::AlreadyExists { .. }))
            | (Lie::NoReadBack, Err(_)) => created,
            (_, answer) => answer,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

impl fmt::Debug for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} on {}", self.lie, self.store)
    }
}

impl fmt::Display for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
