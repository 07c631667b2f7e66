//! Drivers that get the protocol wrong, made by telling a right one lies.
//!
//! A driver decides by what the store answers. So a wrong decision is a right one
//! after an answer that is wrong in the same way: what takes "exists" for its own
//! write is what hears "created" instead. This breaks the driver that runs, and
//! leaves no switches in it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, path::Path,
};

use super::world::STATE;
use crate::commit::{Kind, Record};

/// What the driver gets wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// A record that exists is its own.
    ExistsMeansMine,
    /// A record whose put failed has landed: it is not read back.
    NoReadBack,
    /// The files of a commit are published before it.
    PublishBeforeCommit,
    /// Commits overwrite what is there.
    Overwrite,
    /// Claims are collected like commits.
    ClaimsAreCollected,
}

/// A store that lies to a driver.
pub(super) struct Liar {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) lie: Lie,
}

/// How often a copy is tried.
const MAX_TRIES: usize = 100;

impl Liar {
    /// Deletes the claims that a commit lets go.
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

    /// Copies the files of a commit to where readers look.
    async fn publish(&self, record: &Record) {
        for file in &record.files {
            let root = file.table.trim_start_matches("memory:///");
            let path = |inside: &str| Path::from(format!("{root}/{inside}"));
            let (staged, published) = (path(&file.staged), path(&file.published));
            // As a driver that publishes would, but not for ever: the process may have died
            // meanwhile, and then no try helps.
            for _ in 0..MAX_TRIES {
                match self.store.copy(&staged, &published).await {
                    Ok(()) | Err(Error::NotFound { .. }) => break,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        }
    }
}

/// The record that a put is about, if it is one.
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
        if self.lie == Lie::PublishBeforeCommit {
            self.publish(&record).await;
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
