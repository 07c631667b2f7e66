//! S2 to S4: claims the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tracing::info;

use super::{
    attempt::Attempt,
    decide::{self, ClaimStep},
    owner::Owner,
    reader::LogReader,
    record::{Kind, Reason, Record, VERSION},
    slot::SlotWriter,
};
use crate::{Clock, Error, EventTime, Ids, Result};

/// The number of attempts to claim while other processes are faster.
const ROUNDS: usize = 64;

/// Logs how the claim at `seq` follows the last record.
fn log_claim(seq: u64, last: Option<&Record>) {
    let Some(last) = last else {
        info!(seq, "claimed a new log");
        return;
    };
    let (host, pid) = (&last.owner.host, last.owner.pid);
    let reason = last.checkpoint.as_ref().map(|it| it.reason);
    if last.kind == Kind::Commit && reason == Some(Reason::Stop) {
        info!(seq, host, pid, "continued the log of a run that stopped");
    } else {
        info!(seq, host, pid, "took over from a run that did not stop");
    }
}

/// Writes this process's claim after the log's last record. Returns the claim with the current
/// checkpoint, and the owner of the last record.
pub(super) async fn claim(
    log: &LogReader,
    template: &Template,
    clock: &dyn Clock,
) -> Result<(Record, Option<Owner>)> {
    for _ in 0..ROUNDS {
        let last = look(log).await?;
        let tail = last.as_ref().map_or(0, |record| record.seq);
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
                    log_claim(seq, last.as_ref());
                    let (before, checkpoint) =
                        last.map(|last| (last.owner, last.checkpoint)).unzip();
                    let claim = Record {
                        checkpoint: checkpoint.flatten(),
                        ..claim
                    };
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

/// S2: the last record of an intact log; `None` if there is no log yet.
pub(super) async fn look(log: &LogReader) -> Result<Option<Record>> {
    for _ in 0..ROUNDS {
        let plans = log.store.list(&log.paths.plans()).await?.len();
        let (slots, last) = log.last().await?;
        let tail = last.as_ref().map_or(0, |record| record.seq);
        if !decide::log_is_missing(plans, tail) {
            check_holes(log, &slots, last.as_ref())?;
            return Ok(last);
        }
        // The first claim is never deleted, and a read finds it before a listing may.
        if log.read(1).await?.is_none() {
            break;
        }
    }
    Err(missing(log))
}

/// The message for a log that existed and is missing.
fn missing(log: &LogReader) -> Error {
    Error::data(format!(
        "the commit log `{}` is missing although the pipeline has run before; restore the state folder from a backup, or move it away together with the output to start anew",
        log.paths.log()
    ))
}

/// Rejects a log with holes that no crash can cause.
fn check_holes(log: &LogReader, slots: &BTreeSet<u64>, last: Option<&Record>) -> Result<()> {
    let collected_upto = last.map_or(0, |record| record.collected_upto);
    match decide::first_hole(slots, collected_upto) {
        Some(seq) => Err(log.broken(seq, "is missing")),
        None => Ok(()),
    }
}

/// The common fields of a process's records.
pub(super) struct Template {
    pub(super) owner: Owner,
    pub(super) plan_hash: String,
    pub(super) ids: Arc<dyn Ids>,
}

impl Template {
    /// A claim on the slot `seq` after `previous`, as it is stored.
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
            checkpoint: None,
            follows: previous.and_then(Record::last_commit),
            outbox: BTreeMap::new(),
            reset: BTreeSet::new(),
            counters: BTreeMap::new(),
            published_upto: previous.map_or(0, |record| record.published_upto),
            collected_upto: previous.map_or(0, |record| record.collected_upto),
        }
    }
}
