//! S2 to S4: taking the log over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tracing::info;

use super::{
    decide::{self, ClaimStep},
    reader::LogReader,
    record::{Attempt, Kind, Owner, Record, VERSION},
    slot::SlotWriter,
};
use crate::{Clock, Error, EventTime, Ids, Result};

/// How often a claim starts over because another process was faster.
const ROUNDS: usize = 64;

/// Writes this process's claim behind the log's last record, and
/// returns it with that record's owner.
pub(super) async fn claim(
    log: &LogReader,
    template: &Template,
    clock: &dyn Clock,
) -> Result<(Record, Option<Owner>)> {
    for _ in 0..ROUNDS {
        let plans = log.store.list(&log.paths.plans()).await?.len();
        let (slots, last) = log.last().await?;
        let tail = last.as_ref().map_or(0, |record| record.seq);
        if decide::log_is_missing(plans, tail) {
            // The first claim stays for ever, and a read shows what a listing may yet lack.
            if log.read(1).await?.is_none() {
                return Err(missing(log));
            }
            continue;
        }
        check_holes(log, &slots, last.as_ref())?;

        let ClaimStep::Put { seq } = decide::after_listing(tail) else {
            return Err(Error::internal("a listing does not lead to a claim"));
        };
        let claim = template.claim(seq, last.as_ref(), clock.now());
        let mut writing = SlotWriter::new(log, &claim, claim.encode()?);
        let mut step = ClaimStep::Put { seq };
        loop {
            step = match step {
                ClaimStep::List => break,
                ClaimStep::Put { seq } => decide::after_claim_put(seq, writing.put().await),
                ClaimStep::ReadBack { seq } => {
                    decide::after_claim_read_back(seq, writing.read_back().await?)
                }
                ClaimStep::Relist { seq } => {
                    let tail = log.slots().await?.last().copied().unwrap_or(0);
                    decide::after_relist(seq, tail)
                }
                ClaimStep::Own { seq } => {
                    let before = last.map(|record| record.owner);
                    if let Some(owner) = &before {
                        info!(seq, host = owner.host, pid = owner.pid, "took over");
                    } else {
                        info!(seq, "claimed a new log");
                    }
                    return Ok((claim, before));
                }
            };
        }
    }
    Err(Error::external(format!(
        "other processes keep taking over the log `{}`",
        log.paths.log()
    )))
}

/// What is said of a log that was there and is not any more.
fn missing(log: &LogReader) -> Error {
    Error::data(format!(
        "the commit log `{}` is missing although the pipeline has run before; restore the state folder from a backup, or move it away together with the output to start anew",
        log.paths.log()
    ))
}

/// Stops at a log that cannot have come about by any crash.
fn check_holes(log: &LogReader, slots: &BTreeSet<u64>, last: Option<&Record>) -> Result<()> {
    let collected_upto = last.map_or(0, |record| record.collected_upto);
    match decide::first_hole(slots, collected_upto) {
        Some(seq) => Err(log.broken(seq, "is missing")),
        None => Ok(()),
    }
}

/// What a process writes into each of its records.
pub(super) struct Template {
    pub(super) owner: Owner,
    pub(super) plan_hash: String,
    pub(super) ids: Arc<dyn Ids>,
}

impl Template {
    /// A claim on the slot `seq` that repeats what `previous` says.
    pub(super) fn claim(&self, seq: u64, previous: Option<&Record>, at: EventTime) -> Record {
        Record {
            version: VERSION,
            kind: Kind::Claim,
            seq,
            attempt: Attempt::unique(self.ids.as_ref()),
            previous: previous.map(|record| record.attempt),
            claim_seq: seq,
            owner: self.owner.clone(),
            plan_hash: self.plan_hash.clone(),
            at,
            checkpoint: previous.and_then(|record| record.checkpoint.clone()),
            files: Vec::new(),
            removed: Vec::new(),
            reset: BTreeSet::new(),
            counters: BTreeMap::new(),
            published_upto: previous.map_or(0, |record| record.published_upto),
            collected_upto: previous.map_or(0, |record| record.collected_upto),
        }
    }
}
