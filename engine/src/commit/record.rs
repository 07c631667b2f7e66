//! Records: what one slot of the log holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::file_set::FileSets;
use crate::{
    Epoch, Error, EventTime, Ids, Result,
    element::BarrierKind,
    ledger::{Counts, Ledger},
    sink::RemovedFile,
    source::{Offset, Positions},
};

#[cfg(test)]
mod tests;

/// The version of the format that this build writes, and the newest it reads.
pub const VERSION: u32 = 1;

/// Something for each partition: source → partition → value.
pub type ByPartition<T> = BTreeMap<Arc<str>, BTreeMap<Arc<str>, T>>;

/// What one slot of the log holds.
///
/// A claim repeats the checkpoint of its predecessor, so that recovery reads
/// one record. The de-duplication vector of a scaled-out task is not part of
/// version 1: a task that is alone exchanges rows in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of the format.
    pub version: u32,
    /// Claim or commit.
    pub kind: Kind,
    /// Its slot; the first is 1.
    pub seq: u64,
    /// Names this one attempt to write a record: tells my write from another's.
    pub attempt: Attempt,
    /// The attempt of the record in the slot before; none in the first.
    pub previous: Option<Attempt>,
    /// The slot of its writer's claim; its own slot if it is a claim.
    pub claim_seq: u64,
    /// Who wrote it.
    pub owner: Owner,
    /// The plan that its writer ran.
    pub plan_hash: String,
    /// When it was written.
    pub at: EventTime,
    /// Where the stream stands; none before the first commit.
    pub checkpoint: Option<Checkpoint>,
    /// The files that this commit publishes.
    pub files: Vec<FileRef>,
    /// The files of earlier commits that those replace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<RemovedFile>,
    /// The sources whose positions its owner dropped before it, to read them
    /// anew: only these may go back.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub reset: BTreeSet<Arc<str>>,
    /// What became of the rows of this commit: source → partition.
    pub counters: ByPartition<Counts>,
    /// Every commit up to here has been published.
    pub published_upto: u64,
    /// Commits up to here may have been deleted; after it the log has no hole.
    pub collected_upto: u64,
}

/// One attempt to write a record; unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Attempt(Uuid);

impl Attempt {
    /// A new one.
    pub(super) fn unique(ids: &dyn Ids) -> Self {
        Self(ids.unique())
    }

    /// Its first eight hex digits, for file names.
    pub(super) fn short(self) -> String {
        let mut text = self.0.simple().to_string();
        text.truncate(8);
        text
    }
}

impl From<Attempt> for String {
    fn from(attempt: Attempt) -> Self {
        attempt.0.to_string()
    }
}

impl TryFrom<String> for Attempt {
    type Error = uuid::Error;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// Which step of the protocol wrote a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A process took the task over.
    Claim,
    /// An epoch took effect.
    Commit,
}

/// A process that runs a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Its machine.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// `host:port` of its admin endpoint, where it serves one.
    pub admin: Option<String>,
    /// When it started.
    pub started_at: EventTime,
}

/// Where the stream stood at a commit: all that a process needs to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The slot of the commit that made it.
    pub seq: u64,
    /// When it was made.
    pub at: EventTime,
    /// The epoch that ended there.
    pub epoch: Epoch,
    /// Why it was made.
    pub reason: Reason,
    /// How many lanes wrote the state.
    pub lanes: usize,
    /// The next offset to read.
    pub positions: BTreeMap<Arc<str>, Positions>,
    /// The watermarks.
    pub watermarks: ByPartition<EventTime>,
    /// The bounded partitions that were read to their end, by source.
    pub finished: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Every state part in force.
    pub state: Vec<StateRef>,
    /// The fingerprint of each node with state.
    pub fingerprints: BTreeMap<String, String>,
    /// What became of all rows since the first commit.
    pub totals: Counts,
    /// What all commits so far have put into each table, by its URL; none where
    /// the log began before this was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<BTreeMap<Arc<str>, TableTotals>>,
}

/// What the commits of a log have put into a table and taken from it. It tells
/// what must be there after the commits themselves are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableTotals {
    /// Files that were published.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of these files later commits removed.
    pub removed: u64,
    /// Stands for each of these files; none where some were removed, or where the
    /// log began before there was this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sets: Option<FileSets>,
}

impl Default for TableTotals {
    /// Of a table without files.
    fn default() -> Self {
        Self {
            files: 0,
            rows: 0,
            bytes: 0,
            removed: 0,
            sets: Some(FileSets::default()),
        }
    }
}

impl Checkpoint {
    /// The next offset of a partition, if it was ever read.
    pub fn position(&self, source: &str, partition: &str) -> Option<Offset> {
        self.positions.get(source)?.get(partition).copied()
    }
}

/// Why a commit was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It was time.
    Checkpoint,
    /// The job stopped.
    Stop,
}

impl From<BarrierKind> for Reason {
    fn from(kind: BarrierKind) -> Self {
        match kind {
            BarrierKind::Checkpoint | BarrierKind::Relief => Self::Checkpoint,
            BarrierKind::Stop => Self::Stop,
        }
    }
}

/// A state part on the store. Immutable; its name is never used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateRef {
    /// The node that it belongs to.
    pub node: String,
    /// The lane that wrote it.
    pub lane: usize,
    /// The name that the operator gave it.
    pub key: String,
    /// Where it lies, from the pipeline's folder.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// A file that a commit publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// The table's URL.
    pub table: Arc<str>,
    /// Where it was staged, from the table's folder.
    pub staged: String,
    /// Where readers find it, from the table's folder.
    #[serde(rename = "final")]
    pub published: String,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

impl FileRef {
    /// As a later commit names it that removes it.
    pub(super) fn as_removed(&self) -> RemovedFile {
        RemovedFile {
            table: Arc::clone(&self.table),
            published: self.published.clone(),
        }
    }
}

/// The counts of a ledger in the shape of a record.
pub fn counts(ledger: &Ledger) -> ByPartition<Counts> {
    let mut by_partition: ByPartition<Counts> = BTreeMap::new();
    for (id, counts) in ledger.iter() {
        by_partition
            .entry(Arc::clone(&id.source))
            .or_default()
            .insert(Arc::clone(&id.partition), *counts);
    }
    by_partition
}

/// The stored form: the record's exact bytes with their checksum. It never
/// changes; what changes is the record's version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    sha256: String,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// As much of a record as every version has.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl Record {
    /// The bytes to store.
    pub fn encode(&self) -> Result<Bytes> {
        let unserializable =
            |error| Error::internal("cannot write a commit record as JSON").with_source(error);
        let record = serde_json::value::to_raw_value(self).map_err(unserializable)?;
        let envelope = Envelope {
            sha256: sha256_hex(record.get().as_bytes()),
            record: &record,
        };
        let bytes = serde_json::to_vec(&envelope).map_err(unserializable)?;
        Ok(bytes.into())
    }

    /// Reads the bytes stored as `name`, for the slot `seq`.
    ///
    /// # Errors
    /// `Data` where they are not exactly what was written; `Config` where a
    /// newer Tagflow wrote them.
    pub fn decode(bytes: &[u8], name: &str, seq: u64) -> Result<Self> {
        let corrupted = |what: &str| {
            Error::data(format!(
                "commit record `{name}` is corrupted: {what}; restore it from a backup of the state folder"
            ))
        };
        let envelope: Envelope<'_> = serde_json::from_slice(bytes)
            .map_err(|error| corrupted("it is not a record").with_source(error))?;
        let body = envelope.record.get();
        if sha256_hex(body.as_bytes()) != envelope.sha256 {
            return Err(corrupted("its checksum does not match"));
        }
        let head: Head = serde_json::from_str(body)
            .map_err(|error| corrupted("it has no version").with_source(error))?;
        if head.version > VERSION {
            return Err(Error::config(format!(
                "commit record `{name}` has format version {}, and this Tagflow reads up to {VERSION}: run the Tagflow that wrote it, or a newer one",
                head.version
            )));
        }
        let record: Self = serde_json::from_str(body)
            .map_err(|error| corrupted("a field is wrong").with_source(error))?;
        if record.seq != seq {
            return Err(corrupted(&format!("it says that it is #{}", record.seq)));
        }
        record.check_slots().map_err(corrupted)?;
        Ok(record)
    }

    /// Whether the slots that it names are such that a process can have written it:
    /// who reads a log counts with them.
    fn check_slots(&self) -> std::result::Result<(), &'static str> {
        let last = self.checkpoint.as_ref().map(|last| last.seq);
        let is_possible = match self.kind {
            Kind::Claim => self.claim_seq == self.seq && last.is_none_or(|last| last < self.seq),
            Kind::Commit => self.claim_seq < self.seq && last == Some(self.seq),
        };
        if !is_possible || self.seq == u64::MAX {
            return Err("it names a slot that cannot be its own");
        }
        if self.published_upto >= self.seq || self.collected_upto > self.published_upto {
            return Err("it says that more is published or collected than there was");
        }
        Ok(())
    }
}

/// SHA-256 in lowercase hex, as records name bytes.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
