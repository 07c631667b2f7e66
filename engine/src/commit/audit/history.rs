//! The complete content of a log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, stream};
use object_store::{ObjectStore, path::Path};

use super::{
    super::{
        driver::published_upto,
        identity::LogId,
        paths::{self, Paths},
        reader::LogReader,
        record::{Checkpoint, Kind, Record},
        store::LogStore,
    },
    CONCURRENT_READS, chain,
    finding::{Finding, Subject},
};
use crate::{ErrorKind, Result, SystemClock};

/// The records of a task, and their findings.
pub struct History {
    pub(crate) reader: LogReader,
    /// The identity of the log; `None` if its first record is unreadable.
    pub(crate) id: Option<LogId>,
    pub(crate) records: BTreeMap<u64, Record>,
    /// The last readable record, with the current checkpoint.
    pub(crate) tail: Record,
    /// Every commit up to here has been published.
    pub(crate) published_upto: u64,
    /// Whether each slot that is not collected contains a readable record.
    pub(crate) is_whole: bool,
    span: Span,
    findings: Vec<Finding>,
}

/// The extent of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The last slot in use.
    pub last: u64,
    /// The number of claims.
    pub claims: u64,
    /// The number of commits.
    pub commits: u64,
    /// The number of collected commits.
    pub collected: u64,
}

impl History {
    /// Reads every record of a task; `None` if there is no log. Read-only.
    ///
    /// # Errors
    /// `Config` if a newer Tagflow wrote the log; `Data` if no record is readable; `External` if
    /// the store fails.
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
        let Some(mut tail) = records.values().next_back().cloned() else {
            return unreadable.map_or(Ok(None), Err);
        };
        tail.checkpoint = chain::checkpoint(&tail, &records).cloned();
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
            id: records.get(&1).map(|first| LogId::of(first.attempt)),
            reader,
            records,
            tail,
            span,
            findings,
        }))
    }

    /// The findings in the records.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The extent of the log.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Whether the log has grown since it was read. Then a finding may be a step of a commit under
    /// way.
    ///
    /// # Errors
    /// `External` if the store fails.
    pub async fn has_moved(&self) -> Result<bool> {
        let slots = self.reader.slots().await?;
        let collected = self.records.keys().any(|seq| !slots.contains(seq));
        Ok(collected || slots.last().is_some_and(|last| *last > self.span.last))
    }

    /// The last readable record.
    pub fn tail(&self) -> &Record {
        &self.tail
    }

    /// The checkpoint of the last commit.
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

    /// The targets that commits had output for.
    pub fn targets(&self) -> BTreeSet<Arc<str>> {
        let noted = self.checkpoint().and_then(|last| last.notes.as_ref());
        let noted = noted.into_iter().flat_map(BTreeMap::keys);
        let named = self.commits().flat_map(|commit| commit.outbox.keys());
        noted.chain(named).cloned().collect()
    }

    /// The commits that are not collected and read, oldest first.
    pub(crate) fn commits(&self) -> impl Iterator<Item = &Record> {
        let retained = self.records.range(self.tail.collected_upto + 1..);
        retained
            .map(|(_, record)| record)
            .filter(|record| record.kind == Kind::Commit)
    }
}
