//! Moves files from the staging folder into the table, and deletes those that they replace.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use tracing::warn;

use super::{
    CommittedFile, Note, RemovedFile, Table,
    change::{Change, Naming, changes},
    ghosts::Ghosts,
    is_visible, marker, paths,
    place::Place,
};
use crate::{
    Error, Result,
    commit::{
        LogId,
        decide::{self, Copied, DeliveryStep, FileStep},
        store::LogStore,
    },
    committer::{
        Claim, Committable, Committer, CommitterContext, Inspected, Past, Receipt, Sealed, Unsealed,
    },
};

/// The number of files to copy at the same time.
const COPIES: usize = 8;

/// The committer of a table.
pub struct FileCommitter {
    place: Place,
    context: CommitterContext,
    claimed: OnceLock<Claimed>,
    ghosts: Mutex<Ghosts>,
    delivered_upto: Mutex<Option<u64>>,
}

/// The parts of a claim that later calls need.
struct Claimed {
    log: LogId,
    seq: u64,
    /// The staging folder of this log in the store.
    staging: Path,
    /// The staged files of commits that are not delivered at the claim.
    named: BTreeSet<Path>,
    /// The files that commits before the claim remove, and the last commit that does.
    removed: BTreeMap<String, u64>,
}

impl FileCommitter {
    /// The committer of `table`.
    pub fn new(table: Table, context: CommitterContext) -> Self {
        let store = LogStore::new(Arc::clone(&table.store), Arc::clone(&context.clock));
        Self {
            place: Place { table, store },
            context,
            claimed: OnceLock::new(),
            ghosts: Mutex::default(),
            delivered_upto: Mutex::default(),
        }
    }

    fn claimed(&self) -> Result<&Claimed> {
        let claimed = self.claimed.get();
        claimed.ok_or_else(|| Error::internal("a table delivers before its log is claimed"))
    }

    fn ghosts(&self) -> MutexGuard<'_, Ghosts> {
        self.ghosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delivered_upto(&self) -> MutexGuard<'_, Option<u64>> {
        let upto = self.delivered_upto.lock();
        upto.unwrap_or_else(PoisonError::into_inner)
    }

    /// A published file of the table, by its path relative to the table's folder.
    async fn first_file(&self) -> Result<Option<String>> {
        let is_seen = |path: &Path| self.is_seen(path);
        let root = &self.place.table.root;
        let found = self.place.store.find(root, is_seen).await?;
        Ok(found.and_then(|path| paths::relative(root, &path)))
    }

    /// Whether readers of the table see an object. Files of a table in a subfolder belong to that
    /// table.
    fn is_seen(&self, path: &Path) -> bool {
        let Table { root, suffix, .. } = &self.place.table;
        let others = self.context.folders.iter();
        let mut inner = others.filter(|other| *other != root && other.prefix_matches(root));
        let inside = paths::relative(root, path);
        inside.is_some_and(|inside| is_visible(&inside, suffix))
            && !inner.any(|other| path.prefix_matches(other))
    }

    async fn copy(&self, seq: u64, files: &[CommittedFile]) -> Result<Receipt> {
        let copies: Vec<_> = files
            .iter()
            .map(|file| self.publish_file(seq, file))
            .collect();
        let receipts: Vec<Receipt> = stream::iter(copies)
            .buffer_unordered(COPIES)
            .try_collect()
            .await?;
        if receipts.contains(&Receipt::Delivered) {
            return Ok(Receipt::Delivered);
        }
        Ok(Receipt::Repeated)
    }

    async fn publish_file(&self, seq: u64, file: &CommittedFile) -> Result<Receipt> {
        let Place { table, store } = &self.place;
        let from = paths::absolute(&table.root, &file.staged);
        let to = paths::absolute(&table.root, &file.published);
        let removed_later = self.claimed()?.removed.get(&file.published) > Some(&seq);
        let mut backoff = store.backoff();
        let mut answer = Copied::SourceMissing;
        let mut step = FileStep::Copy;
        loop {
            step = match step {
                FileStep::Copy => {
                    answer = store.copy(&from, &to).await?;
                    decide::after_copy(answer)
                }
                FileStep::Measure => {
                    let found = store.size(&to).await?;
                    let next = decide::after_measure(answer, found, file.bytes, removed_later);
                    if next == FileStep::Copy {
                        backoff.after_nothing("copy", &from).await?;
                    }
                    next
                }
                FileStep::Published if answer == Copied::Done => return Ok(Receipt::Delivered),
                FileStep::Published | FileStep::Superseded => return Ok(Receipt::Repeated),
                FileStep::Lost => {
                    return Err(Error::data(format!(
                        "file `{to}`, which commit #{seq} publishes, is neither staged nor there with its {} bytes: someone else moved, changed or deleted it; restore it, or move the state folder away together with the output to start anew",
                        file.bytes
                    )));
                }
            };
        }
    }

    /// Deletes replaced files. May be repeated: an owner that was stopped during a copy may have
    /// restored one since, if the store finishes a write long after its client is gone.
    async fn remove(&self, files: &[RemovedFile]) -> Result<()> {
        self.delete(files.iter().map(|file| &file.published)).await
    }

    /// Deletes files, by their paths relative to the table's folder.
    async fn delete<'a>(&self, files: impl Iterator<Item = &'a String>) -> Result<()> {
        let root = &self.place.table.root;
        let paths: Vec<Path> = files.map(|path| paths::absolute(root, path)).collect();
        self.place.store.delete(&paths).await
    }

    /// Deletes files that earlier owners of this log staged and that no commit names. Files of other
    /// logs stay.
    async fn delete_orphans(&self) -> Result<()> {
        let claimed = self.claimed()?;
        let found = self.place.store.list(&claimed.staging).await?;
        let found = found.into_iter().filter_map(|object| {
            let claim = paths::claim_of(&claimed.staging, &object.location)?;
            Some((claim, object.location))
        });
        let orphans = decide::orphans(claimed.seq, found, &claimed.named);
        self.place.store.delete(&orphans).await
    }
}

#[async_trait]
impl Committer for FileCommitter {
    async fn check(&self, log: &Inspected<'_>) -> Result<()> {
        if self.place.table.shared {
            return Ok(());
        }
        if marker::check(&self.place, log).await? == marker::Owned::Unmarked
            && let Some(file) = self.first_file().await?
        {
            return Err(marker::has_files(&self.place, &file, log.state));
        }
        Ok(())
    }

    async fn open(&self, claim: &Claim<'_>) -> Result<()> {
        let now = self.context.clock.now();
        marker::ensure(&self.place, claim, now).await?;
        let root = &self.place.table.root;
        let (mut named, mut all_removed) = (BTreeSet::new(), BTreeMap::new());
        let (mut undelivered, mut replaced, mut replacing) = (Vec::new(), Vec::new(), Vec::new());
        for output in claim.outputs {
            let (files, removed) = changes(&output.committables)?;
            let names = removed.iter().map(|file| file.published.clone());
            all_removed.extend(names.map(|name| (name, output.seq)));
            replaced.extend(removed.iter().cloned());
            if output.seq > claim.delivered_upto {
                let staged = files.iter().map(|file| &file.staged);
                named.extend(staged.map(|staged| paths::absolute(root, staged)));
                undelivered.extend(files);
                replacing.extend(removed);
            }
        }
        let inherited = Note::read(claim.past)?.ghosts;
        let mut ghosts = Ghosts::new(now, inherited, &undelivered, replaced);
        ghosts.removed(&replacing);
        *self.ghosts() = ghosts;
        let claimed = Claimed {
            log: claim.log,
            seq: claim.seq,
            staging: paths::absolute(root, claim.staging.as_ref()),
            named,
            removed: all_removed,
        };
        let claimed = self.claimed.set(claimed);
        claimed.map_err(|_| Error::internal("a table is opened twice"))
    }

    async fn commit(&self, seq: u64, output: &[Committable]) -> Result<Receipt> {
        if *self.delivered_upto() >= Some(seq) {
            return Ok(Receipt::Repeated);
        }
        let (files, removed) = changes(output)?;
        let mut receipt = Receipt::Repeated;
        let mut step = DeliveryStep::Copy;
        loop {
            match step {
                DeliveryStep::Copy => receipt = self.copy(seq, &files).await?,
                DeliveryStep::Unstage => {
                    self.delete(files.iter().map(|file| &file.staged)).await?;
                }
                DeliveryStep::Remove => self.remove(&removed).await?,
                DeliveryStep::Done => break,
            }
            step = decide::after_delivery_step(step);
        }
        *self.delivered_upto() = Some(seq);
        let back = self.ghosts().due(self.context.clock.now());
        if let Err(error) = self.remove(&back).await {
            warn!(
                error = error.chain(),
                "replaced files may be back for a while"
            );
        }
        Ok(receipt)
    }

    /// The files say nothing about an empty commit, so this is the last commit of this process.
    async fn last_committed(&self) -> Result<Option<u64>> {
        Ok(*self.delivered_upto())
    }

    fn seal(&self, unsealed: Unsealed<'_>) -> Result<Sealed> {
        let log = self.claimed()?.log;
        let naming = Naming {
            prefix: format!("{}-{}-{}", self.context.task, log.short(), unsealed.seq),
            unique: unsealed.attempt.short(),
            table: &self.place.table,
        };
        let committables = naming.seal(unsealed.committables)?;
        let (files, removed) = changes(&committables)?;
        self.ghosts().removed(&removed);
        let totals = Note::read(unsealed.past)?.totals;
        let note = Note {
            totals: totals.map(|totals| totals.after(&files, &removed)),
            ghosts: self.ghosts().hand_on(unsealed.at),
        };
        let is_new = unsealed.past == Past::Nothing && committables.is_empty();
        let note = (!is_new || !note.ghosts.is_empty()).then(|| note.write());
        Ok(Sealed {
            committables,
            note: note.transpose()?,
        })
    }

    async fn sweep(&self) -> Result<()> {
        self.delete_orphans().await?;
        let back = self.ghosts().due(self.context.clock.now());
        self.remove(&back).await
    }

    async fn withdraw(&self) -> Result<Vec<Committable>> {
        let log = self.claimed()?.log.short();
        let root = &self.place.table.root;
        let is_own = |path: &Path| {
            let mut parts = path.filename().unwrap_or_default().split('-');
            !self.place.table.shared || parts.any(|part| part == log)
        };
        let listed = self.place.store.list(root).await?;
        let paths = listed.into_iter().map(|object| object.location);
        let own = paths.filter(|path| self.is_seen(path) && is_own(path));
        own.map(|path| {
            let published = paths::relative(root, &path).unwrap_or_default();
            Change::Remove(RemovedFile { published }).committable(0, 0)
        })
        .collect()
    }
}
