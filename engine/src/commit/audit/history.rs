//! All that a log holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, stream};
use object_store::{ObjectStore, path::Path};

use super::{
    super::{
        driver::published_upto,
        paths::{self, Paths},
        reader::LogReader,
        record::{Checkpoint, Kind, Record},
        store::LogStore,
    },
    CONCURRENT_READS, chain,
    finding::{Finding, Subject},
};
use crate::{ErrorKind, Result, SystemClock};

/// The records of a task, and what is wrong with them.
pub struct History {
    pub(super) reader: LogReader,
    pub(super) records: BTreeMap<u64, Record>,
    /// The last record that reads.
    pub(super) tail: Record,
    /// Every commit up to here has been published.
    pub(super) published_upto: u64,
    /// Whether each slot that is not collected holds a record that reads.
    pub(super) is_whole: bool,
    span: Span,
    findings: Vec<Finding>,
}

/// How much of a log there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The last slot in use.
    pub last: u64,
    /// Claims that are there.
    pub claims: u64,
    /// Commits that are there.
    pub commits: u64,
    /// Commits that were collected.
    pub collected: u64,
}

impl History {
    /// Reads every record of a task; none where there is no log. Takes nothing
    /// over, and writes nothing.
    ///
    /// # Errors
    /// `Config` where a newer Tagflow wrote it; `Data` where no record reads;
    /// `External` where the store fails.
    pub async fn read(
        store: &Arc<dyn ObjectStore>,
        root: &Path,
        task: &str,
    ) -> Result<Option<Self>> {
        let reader = LogReader {
            store: LogStore::new(Arc::clone(store), Arc::new(SystemClock)),
            paths: Paths::new(root.clone(), task),
        };
        let mut findings = Vec::new();
        let mut slots = BTreeSet::new();
        for object in reader.store.list(&reader.paths.log()).await? {
            match paths::seq_of(&object.location) {
                Some(seq) => drop(slots.insert(seq)),
                None => findings.push(Finding::odd(
                    Subject::Log,
                    format!("`{}` is no record; delete it", object.location),
                )),
            }
        }
        let Some(&last) = slots.last() else {
            return Ok(None);
        };
        let mut reads = stream::iter(slots.clone())
            .map(|seq| {
                let reader = &reader;
                async move { (seq, reader.read(seq).await) }
            })
            .buffer_unordered(CONCURRENT_READS);
        let mut records = BTreeMap::new();
        let mut unreadable = None;
        while let Some((seq, read)) = reads.next().await {
            match read {
                Ok(Some(record)) => drop(records.insert(seq, record)),
                // Collected since it was listed.
                Ok(None) => drop(slots.remove(&seq)),
                Err(error) if error.kind() == ErrorKind::Data => {
                    findings.push(Finding::wrong(Subject::Log, error.to_string()));
                    unreadable = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        drop(reads);
        let Some(tail) = records.values().next_back().cloned() else {
            return unreadable.map_or(Ok(None), Err);
        };
        findings.sort_by(|a, b| a.message.cmp(&b.message));
        findings.extend(chain::check(&slots, &records));
        let of_kind = |kind| {
            records
                .values()
                .filter(|record| record.kind == kind)
                .count() as u64
        };
        let span = Span {
            last,
            claims: of_kind(Kind::Claim),
            commits: of_kind(Kind::Commit),
            collected: tail.collected_upto - slots.range(..=tail.collected_upto).count() as u64,
        };
        Ok(Some(Self {
            published_upto: published_upto(&reader, &tail).await?,
            is_whole: records.range(tail.collected_upto + 1..).count() as u64
                == last - tail.collected_upto,
            reader,
            records,
            tail,
            span,
            findings,
        }))
    }

    /// What is wrong with the records.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How much of the log there is.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Whether the log has gone on since it was read, so that what was found
    /// may be what a commit was about to do.
    ///
    /// # Errors
    /// `External` where the store fails.
    pub async fn has_moved(&self) -> Result<bool> {
        let slots = self.reader.slots().await?;
        let collected = self.records.keys().any(|seq| !slots.contains(seq));
        Ok(collected || slots.last().is_some_and(|last| *last > self.span.last))
    }

    /// The last record that reads.
    pub fn tail(&self) -> &Record {
        &self.tail
    }

    /// Where the stream stood at the last commit.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.tail.checkpoint.as_ref()
    }

    /// The hashes of the plans that records name, the newest first.
    pub fn plans(&self) -> Vec<&str> {
        let mut plans: Vec<&str> = Vec::new();
        for record in self.records.values().rev() {
            if !plans.contains(&record.plan_hash.as_str()) {
                plans.push(&record.plan_hash);
            }
        }
        plans
    }

    /// The tables that commits have put files into, by URL.
    pub fn tables(&self) -> BTreeSet<Arc<str>> {
        let counted = self.checkpoint().and_then(|last| last.tables.as_ref());
        let counted = counted.into_iter().flat_map(BTreeMap::keys);
        let named = self.commits().flat_map(|commit| &commit.files);
        counted
            .chain(named.map(|file| &file.table))
            .cloned()
            .collect()
    }

    /// The commits that are not collected and read, oldest first.
    pub(super) fn commits(&self) -> impl Iterator<Item = &Record> {
        let retained = self.records.range(self.tail.collected_upto + 1..);
        retained
            .map(|(_, record)| record)
            .filter(|record| record.kind == Kind::Commit)
    }
}
