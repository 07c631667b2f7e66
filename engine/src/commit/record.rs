//! Records: the content of a slot of the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{attempt::Attempt, owner::Owner};
use crate::{
    Epoch, Error, EventTime, Result,
    committer::{Committable, Past},
    element::BarrierKind,
    ledger::{Counts, Ledger},
    source::{Offset, Positions, Systems},
};

mod older;
#[cfg(test)]
mod tests;

/// The version of the format that this build writes. It reads all versions up to this one. In
/// version 4, records name the output of sinks as committables. Before, they named files.
pub const VERSION: u32 = 4;

/// The first version with [`Record::outbox`].
const FIRST_WITH_COMMITTABLES: u32 = 4;

/// A value for each partition: source → partition → value.
pub type ByPartition<T> = BTreeMap<Arc<str>, BTreeMap<Arc<str>, T>>;

/// The content of a slot of the log.
///
/// A claim names the last commit, so that recovery reads two records. The de-duplication vector of
/// a scaled-out task is not part of version 1: a single task exchanges rows in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of the format.
    pub version: u32,
    /// Claim or commit.
    pub kind: Kind,
    /// Its slot; the first is 1.
    pub seq: u64,
    /// The unique id of this attempt to write a record. It distinguishes this process's write from
    /// another's.
    pub attempt: Attempt,
    /// The attempt of the record in the slot before; `None` in the first.
    pub previous: Option<Attempt>,
    /// The slot of its writer's claim; its own slot if it is a claim.
    pub claim_seq: u64,
    /// The owner that wrote it.
    pub owner: Owner,
    /// The plan that its writer ran.
    pub plan_hash: String,
    /// The time of the write.
    pub at: EventTime,
    /// The last checkpoint; `None` before the first commit. A claim is stored without it: see
    /// [`Record::follows`]. Claims of older builds repeat it.
    pub checkpoint: Option<Checkpoint>,
    /// The commit before a claim: its checkpoint is the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<u64>,
    /// The output that this commit decides: target → committables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outbox: BTreeMap<Arc<str>, Vec<Committable>>,
    /// The sources whose positions its owner dropped before it, to read them again. Only these
    /// positions may decrease.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub reset: BTreeSet<Arc<str>>,
    /// The outcomes of the rows of this commit: source → partition.
    pub counters: ByPartition<Counts>,
    /// Every commit up to here has been delivered.
    pub published_upto: u64,
    /// Commits up to here may have been deleted; after it the log has no hole.
    pub collected_upto: u64,
}

/// The step of the protocol that wrote a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A process claimed the task.
    Claim,
    /// An epoch took effect.
    Commit,
}

/// The state of the stream at a commit, complete for a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The slot of the commit that made it.
    pub seq: u64,
    /// The time of the commit.
    pub at: EventTime,
    /// The epoch that ended there.
    pub epoch: Epoch,
    /// The reason of the commit.
    pub reason: Reason,
    /// The number of lanes that wrote the state.
    pub lanes: usize,
    /// The next offset to read.
    pub positions: BTreeMap<Arc<str>, Positions>,
    /// The systems that the positions belong to, by source. Empty if the source knows none, or if
    /// an older build wrote the commit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub systems: BTreeMap<Arc<str>, Systems>,
    /// The watermarks by partition.
    pub watermarks: ByPartition<EventTime>,
    /// The bounded partitions that were read to their end, by source.
    pub finished: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Every current state part.
    pub state: Vec<StateRef>,
    /// The fingerprint of each node with state.
    pub fingerprints: BTreeMap<String, String>,
    /// The outcomes of all rows since the first commit.
    pub totals: Counts,
    /// The summary of all commits so far by each committer that keeps one: target → note. `None` if
    /// the log began before there were notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<BTreeMap<Arc<str>, String>>,
}

impl Checkpoint {
    /// The next offset of a partition, if it was ever read.
    pub fn position(&self, source: &str, partition: &str) -> Option<Offset> {
        self.positions.get(source)?.get(partition).copied()
    }

    /// The summary of the commits to a target.
    pub fn past(&self, target: &str) -> Past<'_> {
        match &self.notes {
            None => Past::Unknown,
            Some(notes) => notes
                .get(target)
                .map_or(Past::Nothing, |note| Past::Note(note)),
        }
    }
}

/// The reason of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The checkpoint interval has passed.
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
    /// The name of the part in the operator.
    pub key: String,
    /// Its path, relative to the pipeline's folder.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// The counts of a ledger in the form of a record.
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

/// The stored form: the record's exact bytes with their checksum. It never changes; only the
/// record's version does.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    sha256: String,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// The fields of a record that every version has.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl Record {
    /// The output for a target.
    pub fn output(&self, target: &str) -> &[Committable] {
        self.outbox.get(target).map_or(&[], Vec::as_slice)
    }

    /// The slot of the last commit up to this record; none before the first.
    pub(super) fn last_commit(&self) -> Option<u64> {
        let last = self.checkpoint.as_ref().map(|last| last.seq);
        last.or(self.follows)
    }

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

    /// Decodes the bytes of the object `name`, for the slot `seq`.
    ///
    /// # Errors
    /// `Data` if they differ from the written bytes; `Config` if a newer Tagflow wrote them.
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
        let read = if head.version < FIRST_WITH_COMMITTABLES {
            older::upgrade(body).and_then(serde_json::from_value)
        } else {
            serde_json::from_str(body)
        };
        let record: Self =
            read.map_err(|error| corrupted("a field is wrong").with_source(error))?;
        if record.seq != seq {
            return Err(corrupted(&format!("it says that it is #{}", record.seq)));
        }
        record.check_slots().map_err(corrupted)?;
        Ok(record)
    }

    /// Whether a process can have written the slot numbers in the record: readers rely on these
    /// numbers.
    fn check_slots(&self) -> std::result::Result<(), &'static str> {
        let last = self.last_commit();
        let follows = self.follows.is_some();
        let is_possible = match self.kind {
            Kind::Claim => {
                self.claim_seq == self.seq
                    && last.is_none_or(|last| 0 < last && last < self.seq)
                    && !(follows && self.checkpoint.is_some())
            }
            Kind::Commit => self.claim_seq < self.seq && last == Some(self.seq) && !follows,
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

/// SHA-256 in lowercase hex, as in records.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
